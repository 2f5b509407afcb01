"""Price lists: the cost of a machine per hour, and the power to provision for it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from provisioner.errors import InputError
from provisioner.specs.money import USD
from provisioner.specs.units import check_plausible, quoted
from provisioner.spelling import spelled

PLAUSIBLE_RANGES = {"cost_usd_per_h": (1e-3, 1e5), "provisioned_power_w": (50, 1_000_000)}


@dataclass(frozen=True, slots=True)
class MachinePrice:
    """Cost an hour in the list's currency, and provisioned power in W, of one whole machine."""

    cost_usd_per_h: float
    provisioned_power_w: float
    source: str = ""

    def __post_init__(self) -> None:
        check_plausible("price", self, PLAUSIBLE_RANGES)


@dataclass(frozen=True, slots=True)
class PriceList:
    """Prices of one date, by machine name, in one currency: its code of three letters.

    >>> from provisioner.specs.catalog import price_list
    >>> price_list("paper").price("dgx-h100").cost_usd_per_h
    38.08
    """

    machines: Mapping[str, MachinePrice]
    name: str = ""
    title: str = ""
    date: str = ""
    currency: str = USD
    note: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch("[A-Z]{3}", self.currency):
            what = f"price list {self.name}: currency: must be a code of three capitals, such as USD or EUR"
            raise InputError(f"{what}, got {quoted(self.currency)}")

    def price(self, machine: str) -> MachinePrice:
        """Price of a machine; ``InputError`` if the list has none."""
        if machine in self.machines:
            return self.machines[machine]
        raise InputError(
            f"price list {self.name}: has no price of {machine}; add it in a file given with {spelled('prices')} FILE, "
            f"or leave the machine out with {spelled('machines')} (the list has {', '.join(self.machines) or 'none'})"
        )

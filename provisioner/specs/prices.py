"""Price lists: the cost of a machine per hour, and the power to provision for it."""

from collections.abc import Mapping
from dataclasses import dataclass

from provisioner.errors import InputError
from provisioner.specs.units import check_plausible
from provisioner.spelling import spelled

PLAUSIBLE_RANGES = {"cost_usd_per_h": (1e-3, 1e5), "provisioned_power_w": (50, 1_000_000)}


@dataclass(frozen=True, slots=True)
class MachinePrice:
    """Cost in $/h and provisioned power in W of one whole machine."""

    cost_usd_per_h: float
    provisioned_power_w: float
    source: str = ""

    def __post_init__(self) -> None:
        check_plausible("price", self, PLAUSIBLE_RANGES)


@dataclass(frozen=True, slots=True)
class PriceList:
    """Prices of one date, by machine name.

    >>> from provisioner.specs.catalog import price_list
    >>> price_list("paper").price("dgx-h100").cost_usd_per_h
    38.08
    """

    machines: Mapping[str, MachinePrice]
    name: str = ""
    title: str = ""
    date: str = ""
    currency: str = "USD"
    note: str = ""

    def __post_init__(self) -> None:
        if self.currency != "USD":
            what = f"price list {self.name}: currency: must be USD, as all amounts are"
            raise InputError(f"{what}, got {self.currency!r}; convert the prices")

    def price(self, machine: str) -> MachinePrice:
        """Price of a machine; ``InputError`` if the list has none."""
        if machine in self.machines:
            return self.machines[machine]
        raise InputError(
            f"price list {self.name}: has no price of {machine}; add it in a file given with {spelled('prices')} FILE, "
            f"or leave the machine out with {spelled('machines')} (the list has {', '.join(self.machines) or 'none'})"
        )

"""Power caps: machines whose GPUs are limited to a share of their TDP, and the slowdown of both phases."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, replace

import numpy as np

from provisioner.errors import InputError
from provisioner.specs.hardware import Machine
from provisioner.specs.prices import MachinePrice
from provisioner.specs.units import check_plausible, parse_positive, quoted


@dataclass(frozen=True, slots=True)
class PowerCap:
    """Effect of a cap, as a share of the TDP: times of each phase relative to the times without cap."""

    cap: float
    prompt_slowdown: float
    token_slowdown: float

    def __post_init__(self) -> None:
        if not 0 < self.cap <= 1:
            raise InputError(f"cap: must be above 0 and at most 1 of the TDP, got {self.cap}")
        check_plausible("power cap", self, {"prompt_slowdown": (1, 100), "token_slowdown": (1, 100)})


@dataclass(frozen=True, slots=True)
class PowerCaps:
    """Caps with their slowdowns, in falling order from 1; slowdowns between two caps are interpolated."""

    rows: tuple[PowerCap, ...]
    sources: tuple[str, ...] = ()
    title: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        caps = [row.cap for row in self.rows]
        if len(caps) < 2 or caps != sorted(set(caps), reverse=True) or self.rows[0] != PowerCap(1.0, 1.0, 1.0):
            raise InputError("rows: must begin at cap 1 with no slowdown, and fall to at least one other cap")
        for field in ("prompt_slowdown", "token_slowdown"):
            slowdowns = [getattr(row, field) for row in self.rows]
            if slowdowns != sorted(slowdowns):
                raise InputError(f"rows: {field}: must not fall with the cap, got {slowdowns}")

    @property
    def lowest(self) -> float:
        """Lowest known cap, as a share of the TDP."""
        return self.rows[-1].cap

    def at(self, cap: float) -> PowerCap:
        """Slowdowns at a cap; ``InputError`` below the lowest known."""
        if not self.lowest <= cap <= 1:
            raise InputError(f"power caps are known from {100 * self.lowest:g} to 100 % of the TDP, got {100 * cap:g}")
        caps, *slowdowns = np.array([astuple(row) for row in reversed(self.rows)]).T
        return PowerCap(cap, *(float(np.interp(cap, caps, column)) for column in slowdowns))


def saved_w(machine: Machine, cap: float) -> float:
    """Power that a machine's GPUs cannot draw under a cap, in W: GPUs x TDP x (1 - cap).

    >>> from provisioner.specs.catalog import machine
    >>> saved_w(machine("dgx-h100"), 0.5)       # 27 % of 10,200 W; the Splitwise paper provisions 30 % less
    2800.0
    """
    return machine.gpus * machine.gpu_tdp_w * (1.0 - cap)


def at_cap(machine: Machine, cap: float) -> Machine:
    """The machine with its GPUs limited to a share of their TDP, named ``MACHINE@PERCENT``."""
    percent = f"{100 * cap:g}"
    return replace(
        machine,
        name=f"{machine.name}@{percent}",
        title=f"{machine.title}, GPUs capped to {percent} % power",
        letter=f"{machine.letter}{percent}",
        capped_from=machine.name,
        power_cap=cap,
        max_power_w=machine.max_power_w - saved_w(machine, cap),
    )


def price_at_cap(price: MachinePrice, uncapped: Machine, cap: float) -> MachinePrice:
    """Price of a capped machine from the price of the uncapped one: the same cost, and less power."""
    return replace(
        price,
        provisioned_power_w=price.provisioned_power_w - saved_w(uncapped, cap),
        source=f"the price of {uncapped.name} ({price.source}), its power less {saved_w(uncapped, cap):,.0f} W",
    )


def parse_caps(given: Sequence[float | str], what: str) -> tuple[float, ...]:
    """Caps in percent of the TDP, converted to shares; ``InputError`` names a wrong value.

    >>> parse_caps([100, "70"], "--power-caps")
    (1.0, 0.7)
    """
    caps = []
    for value in given:
        percent = parse_positive(value, what, "% of the TDP")
        if percent > 100 or percent <= 1:
            raise InputError(f"{what}: must be above 1 and at most 100 % of the TDP, got {quoted(value)}")
        caps.append(round(percent / 100, 6))
    if len(set(caps)) < len(caps):
        raise InputError(f"{what}: a cap is given twice")
    return tuple(caps)

"""The result of a search for a frontier: the clusters that none beats in cost, power and machines at once."""

import math
from dataclasses import dataclass
from typing import Final, Literal

from provisioner.results.cluster import Totals
from provisioner.results.plan import Plan
from provisioner.results.result import ServingResult, derived
from provisioner.specs.criteria import OF_CLUSTERS, CriterionName
from provisioner.specs.units import format_power

BELOW: Final = 1e-8
"""Relative distance by which a box ends below a total: more than the rounding of caps, less than any machine."""


@dataclass(frozen=True, slots=True)
class Box:
    """Clusters within a limit on power, in W, and one on machines; infinite where there is none."""

    power_w: float = math.inf
    machines: float = math.inf

    def holds(self, totals: Totals) -> bool:
        """Whether a cluster with these totals is in the box."""
        return totals.power_w <= self.power_w * (1.0 + BELOW / 10.0) and totals.machines <= self.machines

    def inside(self, other: "Box") -> bool:
        """Whether this box is part of another."""
        return self.power_w <= other.power_w and self.machines <= other.machines

    def divided(self, totals: Totals) -> "tuple[Box, Box]":
        """The parts of the box that a cluster leaves: less power than it, or fewer machines."""
        less_power = Box(totals.power_w * (1.0 - BELOW), self.machines)
        return less_power, Box(self.power_w, totals.machines - 1)

    def __str__(self) -> str:
        power = "" if math.isinf(self.power_w) else f"less than {format_power(self.power_w)}"
        machines = "" if math.isinf(self.machines) else f"at most {self.machines:,.0f} machines"
        return " and ".join(text for text in (power, machines) if text) or "everything"


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontier(ServingResult):
    """The clusters that none beats in cost, power and machines at once, each a plan; the cheapest first.

    If the frontier is ``complete``, no other cluster that passes has less of one criterion than a point without more of
    another. ``open_boxes`` is where more points may be: what a time limit left undone; ``candidates`` are clusters that
    pass there, which something may beat. ``boxes`` were searched, in which ``simulated`` clusters were simulated in
    ``runs`` of one request set each. ``rule`` says when a cluster passes.
    """

    points: tuple[Plan, ...]
    open_boxes: tuple[Box, ...]
    candidates: tuple[Plan, ...]
    boxes: int
    simulated: int
    runs: int
    rate_rps: float
    planned_rate_rps: float
    designs: tuple[str, ...]
    rule: str
    method: str
    kind: Literal["frontier"] = "frontier"

    @derived
    def complete(self) -> bool:
        """Whether every box was searched to its end."""
        return not self.open_boxes

    def best_in(self, plan: Plan) -> tuple[CriterionName, ...]:
        """The criteria in which no point of the frontier has less than this one."""
        least = {name: min(point.of(name) for point in self.points) for name in OF_CLUSTERS}
        return tuple(name for name in OF_CLUSTERS if plan.of(name) <= least[name] * (1.0 + BELOW))

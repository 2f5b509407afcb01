"""The result of a sensitivity: how a plan moves with its inputs, where it switches, and where splitting pays."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

from provisioner.results.cluster import Cluster, Totals
from provisioner.results.result import ServingResult, derived
from provisioner.specs.criteria import ObjectiveName, Watch


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A plan in brief at some factors on the inputs, or the reason why there is none."""

    scale: Mapping[str, float]
    cluster: Cluster | None = None
    totals: Totals | None = None
    rate_rps: float | None = None
    reason: str = ""

    @derived
    def feasible(self) -> bool:
        """Whether there is a plan."""
        return self.cluster is not None

    @property
    def design(self) -> str:
        """The design of the plan; "" without one."""
        return "" if self.cluster is None else self.cluster.design

    @property
    def sizes(self) -> str:
        """The machines of the pools, such as ``27 + 3``; "" without a plan."""
        return "" if self.cluster is None else self.cluster.sizes

    def of(self, objective: ObjectiveName) -> float | None:
        """The value of an objective; None without a plan."""
        if objective == "throughput":
            return self.rate_rps
        return None if self.totals is None else self.totals.of(objective)

    def watched(self, watch: Watch) -> str:
        """The property that is watched for a switch, as a phrase; all outcomes without a plan are alike."""
        if self.cluster is None:
            return "no plan"
        return {
            "design": self.cluster.design,
            "split": str(self.cluster),
            "machines": f"{self.cluster.machines} machines",
            "splitting": "split" if self.cluster.splits else "colocated",
        }[watch]


@dataclass(frozen=True, slots=True)
class Swing:
    """One input of the tornado, with the plans at ``1 / (1 + spread)`` and ``1 + spread`` times its value."""

    name: str
    low: Outcome
    high: Outcome

    def width(self, objective: ObjectiveName, base: float) -> float:
        """The whole change of the objective relative to the base; infinite if one end has no plan."""
        values = [self.low.of(objective), self.high.of(objective)]
        known = [value for value in values if value is not None]
        return math.inf if len(known) < 2 else (max(*known, base) - min(*known, base)) / base


@dataclass(frozen=True, slots=True)
class Switch:
    """A switch between two factors on an input that are as near as the tolerance asks, with the plans at both."""

    below: float
    above: float
    before: Outcome
    after: Outcome

    @derived
    def at(self) -> float:
        """The factor in the middle."""
        return math.sqrt(self.below * self.above)


@dataclass(frozen=True, slots=True)
class Search:
    """A search for switches of an input between two factors: the plans at the first factors, and the switches found."""

    name: str
    low: float
    high: float
    watch: Watch
    tolerance: float
    switches: tuple[Switch, ...]
    probes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the map: the best design that splits against the best colocated ones.

    ``ratio`` is that of mean prompt to mean output tokens. ``saving`` is how much less of the objective the best split
    design needs than the best colocated one, as a share of the latter; None if either has no plan, exactly 0 if they
    need the same but for rounding. ``colocated`` has the best colocated ones by scheduling policy.
    """

    rate_rps: float
    ratio: float
    split: Outcome
    colocated: Mapping[str, Outcome]
    saving: float | None

    @classmethod
    def of(
        cls, rate_rps: float, ratio: float, split: Outcome, colocated: Mapping[str, Outcome], objective: ObjectiveName
    ) -> Self:
        """The cell of its plans, with the saving by an objective."""
        values = [value for each in colocated.values() if (value := each.of(objective)) is not None]
        value, saving = split.of(objective), None
        if value is not None and values:
            least = min(values)
            saving = 0.0 if math.isclose(value, least, rel_tol=1e-9) else 1.0 - value / least
        return cls(rate_rps, ratio, split, colocated, saving)


@dataclass(frozen=True, slots=True)
class InputValue:
    """The value of an input in a unit of its own, "" for a pure number."""

    value: float
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity(ServingResult):
    """The moves of the answer to a question: the tornado, the switch points, and the map of where splitting pays.

    ``base`` is the plan as it is. ``swings`` are in the order of their width, cells rate by rate. ``values`` has the
    inputs that have a unit of their own (a rate, a price), by name. ``fast``: plans are those of the formulas.
    """

    base: Outcome
    objective: ObjectiveName
    spread: float
    swings: tuple[Swing, ...] = ()
    searches: tuple[Search, ...] = ()
    cells: tuple[Cell, ...] = ()
    values: Mapping[str, InputValue]
    fast: bool
    rate_rps: float
    kind: Literal["sensitivity"] = "sensitivity"

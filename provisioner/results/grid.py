"""The result of a grid: clusters by the values of an input, each point simulated whole."""

import math
from collections import Counter
from collections.abc import Container
from dataclasses import dataclass, fields
from itertools import groupby
from typing import TYPE_CHECKING, Final, Literal, Self, get_args

from provisioner.results.cluster import Cluster, Totals
from provisioner.results.result import ServingResult, derived
from provisioner.results.simulation import Verdict
from provisioner.specs.criteria import CriterionName
from provisioner.specs.metrics import METRICS
from provisioner.specs.roles import RoleName
from provisioner.specs.slo import LatencyLimit, Percentile

if TYPE_CHECKING:
    import pandas as pd

State = Literal["pass", "undecided", "fail", "unstable", "stuck", "infeasible"]
"""``pass``: stable, and every limit met; ``undecided``: several sets leave a limit undecided, or the runs are too short
to tell whether it is stable; ``fail``: a limit is missed; ``unstable``: requests wait ever longer; ``stuck``: some are
never served; ``infeasible``: this cluster cannot serve these requests at all."""

STATES: Final[tuple[State, ...]] = get_args(State)


@dataclass(frozen=True, slots=True)
class PointLatency(Percentile):
    """One percentile of a metric at a point: means over the request sets, in s and as a slowdown.

    Their 95 % intervals are None for one set. ``over_limit`` is the percentile divided by its limit, None without a
    limit, NaN without a reference to judge by; ``met`` is the verdict on the limit.
    """

    seconds: float
    slowdown: float
    seconds_range: tuple[float, float] | None = None
    slowdown_range: tuple[float, float] | None = None
    over_limit: float | None = None
    met: Verdict | None = None


@dataclass(frozen=True, slots=True)
class PoolWork:
    """The work of a pool at a point.

    ``utilization`` is the share of time in which a replica works, ``mean_batch`` the number of requests in an iteration
    while it works, ``batch_time_share[b]`` the share of time with b of them (0: idle); empty in a grid of sizes.
    """

    role: RoleName
    utilization: float
    mean_batch: float
    batch_time_share: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PointOutcome:
    """The simulation of one point: its state, why it does not pass, latencies, work of the pools and throughput.

    An infeasible point has its state and the reason alone. ``requests`` is a mean over the request sets, ``unfinished``
    their sum. ``note`` has the warnings of this point alone.
    """

    state: State
    why: str = ""
    slo_met: bool | None = None
    stable: bool | None = None
    latency: tuple[PointLatency, ...] = ()
    pools: tuple[PoolWork, ...] = ()
    offered_rps: float | None = None
    throughput_rps: float | None = None
    requests: int | float | None = None  # as it was counted: a journal gives the whole number back
    unfinished: int | None = None
    note: str = ""

    @property
    def worst(self) -> PointLatency | None:
        """The percentile that is the largest over its limit: the nearest to it."""
        return self.worst_of(METRICS)

    @derived
    def worst_ratio(self) -> float | None:
        """The largest percentile over its limit."""
        return None if self.worst is None else self.worst.over_limit

    @derived
    def binding(self) -> str:
        """The name of the percentile that is the largest over its limit; "" without one."""
        return "" if self.worst is None else self.worst.name

    def worst_of(self, metrics: Container[str]) -> PointLatency | None:
        """The percentile of these metrics that is the largest over its limit; None without a limit to judge by."""
        ratios = ((each.over_limit, each) for each in self.latency if each.metric in metrics)
        known = ((ratio, each) for ratio, each in ratios if ratio is not None and not math.isnan(ratio))
        return max(known, key=lambda pair: pair[0], default=(None, None))[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class GridPoint(PointOutcome):
    """A cluster at a value of the input (None in a grid of sizes), with its totals there, and its simulation."""

    cluster: str
    value: int | float | None
    totals: Totals

    @classmethod
    def of(cls, outcome: PointOutcome, cluster: Cluster, value: float | None, totals: Totals) -> Self:
        """The point of a cluster and a value that was simulated with this outcome."""
        simulated = {each.name: getattr(outcome, each.name) for each in fields(outcome)}
        return cls(**simulated, cluster=str(cluster), value=value, totals=totals)


@dataclass(frozen=True, slots=True)
class Varied:
    """The input that a grid is over, and its values in rising order.

    ``name`` is its flag without dashes, or a name of ``--scale``; ``column`` names it in tables; ``label`` is the
    quantity with its unit, ``what`` without.
    """

    name: str
    column: str
    label: str
    what: str
    values: tuple[int | float, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """Neighbouring values at which a cluster passes, from the first to the last."""

    cluster: str
    first: int | float
    last: int | float


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid(ServingResult):
    """Clusters of a grid of pool sizes, or clusters of fixed sizes over the values of an input.

    ``points`` are in the order of ``clusters``, those of a cluster in the order of the values of ``varied``, which is
    None in a grid of sizes; the last pool's size then changes fastest. ``frontier`` has the positions of the points of
    a grid of sizes that pass where no smaller one does, ``optimum`` that of the best by the ``objective``; ties go to
    the lower cost, power and machines, then to the smaller worst ratio. ``limits`` are those given: where the input is
    ``slo``, each point is judged by its value times those. If the input changes the pools, such as their tensor
    parallelism, ``clusters`` are those of the first value that can be simulated. ``load`` says how requests arrive,
    ``sets`` is the number of request sets of a point, the largest where it is varied.
    """

    clusters: tuple[Cluster, ...]
    varied: Varied | None
    points: tuple[GridPoint, ...]
    frontier: tuple[int, ...] = ()
    optimum: int | None = None
    objective: CriterionName | None = None
    limits: tuple[LatencyLimit, ...]
    load: str
    policy: str
    assumptions: str
    sets: int
    prices: str
    kind: Literal["grid"] = "grid"

    @property
    def values(self) -> tuple[int | float, ...]:
        """The values of the input; none in a grid of sizes."""
        return () if self.varied is None else self.varied.values

    @property
    def sizes(self) -> tuple[tuple[int, ...], ...]:
        """Numbers of machines of each pool in a grid of sizes, in rising order; empty over an input."""
        if self.varied is not None:
            return ()
        every = zip(*([pool.machines for pool in cluster.pools] for cluster in self.clusters), strict=True)
        return tuple(tuple(sorted(set(machines))) for machines in every)

    def of(self, cluster: int) -> tuple[GridPoint, ...]:
        """The points of a cluster, by its position, in the order of the values."""
        count = max(len(self.values), 1)
        return self.points[cluster * count : (cluster + 1) * count]

    def spans(self, cluster: int) -> tuple[Span, ...]:
        """The runs of values at which a cluster, by its position, passes."""
        judged = zip(self.values, (point.state == "pass" for point in self.of(cluster)), strict=True)
        runs = [[value for value, _ in run] for passes, run in groupby(judged, key=lambda pair: pair[1]) if passes]
        return tuple(Span(str(self.clusters[cluster]), run[0], run[-1]) for run in runs)

    @derived
    def passes(self) -> tuple[Span, ...]:
        """The runs of values at which each cluster passes; none in a grid of sizes."""
        if self.varied is None:
            return ()
        return tuple(span for k in range(len(self.clusters)) for span in self.spans(k))

    @derived
    def states(self) -> dict[State, int]:
        """Points of each state."""
        counts = Counter(point.state for point in self.points)
        return {state: counts[state] for state in STATES if counts[state]}

    @derived
    def bindings(self) -> dict[str, dict[State, int]]:
        """For each limit the points of each state in which it is the nearest: has the largest ratio."""
        counts = Counter((point.binding, point.state) for point in self.points)
        names = [limit.name for limit in self.limits]
        return {name: {state: counts[name, state] for state in STATES if counts[name, state]} for name in names}

    def occupancy_frame(self) -> "pd.DataFrame":
        """The share of time by requests in an iteration: one row per cluster, value, pool and batch."""
        return self.to_frame("occupancy")

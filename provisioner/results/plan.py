"""The result of planning: the chosen cluster, its cost and latencies, its rivals, and its evidence."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from provisioner.results.cluster import HasCluster, Pool, Totals
from provisioner.results.result import ServingResult, derived
from provisioner.results.robustness import Robustness
from provisioner.results.simulation import Attained
from provisioner.specs.criteria import CRITERIA, ObjectiveName
from provisioner.specs.money import monthly
from provisioner.specs.roles import RoleName
from provisioner.specs.slo import LatencyLimit, Percentile

if TYPE_CHECKING:
    import pandas as pd

# Reasons other than a latency limit for which a pool needs its last machine.
ONLY_ONE: Final = "a pool needs one machine"
CAPACITY: Final = "capacity"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanPool(Pool):
    """A pool with its load and its price.

    ``utilization`` is the rate over the largest one that the pool sustains; of a plan verified by simulation it is the
    share of time in which the pool's replicas work. ``binding`` names what breaks with one machine fewer;
    ``mean_batch`` is the sequences that a replica decodes together, ``link_load`` the share of the pool's link
    bandwidth that arriving KV caches take; None where the role has neither. ``extrapolated`` names the phases whose
    curve is continued beyond its measurements at this pool's load; ``curves`` says what the curves are: measured,
    assumed, derived or estimated. ``batch_tokens`` are the most tokens of an iteration of a pool that computes prompts
    as engines do, ``engine_arguments`` the arguments of the engine's command that make a replica of the pool.
    """

    utilization: float
    cost_usd_per_h: float
    power_w: float
    binding: tuple[str, ...]
    mean_batch: float | None = None
    link_load: float | None = None
    extrapolated: tuple[str, ...] = ()
    curves: str = "measured"
    batch_tokens: int | None = None
    engine_arguments: str = ""


@dataclass(frozen=True, slots=True)
class LatencyFigure(Percentile):
    """One percentile (0..100) of a metric beside its limit.

    ``binding``: one machine fewer in some pool would break the limit. ``extrapolated`` says that it rests on a latency
    curve continued beyond its measurements. A simulated percentile is the mean over request sets, with its two-sided
    confidence interval (None for one set) and what the queueing formulas predict.
    """

    seconds: float
    slowdown: float
    limit: LatencyLimit | None
    binding: bool
    extrapolated: bool = False
    seconds_range: tuple[float, float] | None = None
    slowdown_range: tuple[float, float] | None = None
    predicted_seconds: float | None = None
    predicted_slowdown: float | None = None

    @property
    def judged(self) -> float:
        """The value that the limit is on; the slowdown without a limit."""
        return self.seconds if self.limit is not None and self.limit.kind == "seconds" else self.slowdown

    @property
    def over_limit(self) -> float | None:
        """The value over its limit; None without a limit."""
        return None if self.limit is None else self.judged / self.limit.value

    @property
    def absent(self) -> bool:
        """Whether no request has the metric, as a TBT of one output token; its values are -inf."""
        return self.seconds == -math.inf

    @derived
    def slack(self) -> float | None:
        """(limit - value) / limit; None without a limit, or if no request has the metric."""
        return None if self.over_limit is None or self.absent else 1.0 - self.over_limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative(HasCluster):
    """Another design: its own best cluster, or the reason why it has none; then it has no pools.

    ``reason`` says why it lost. ``basis`` says whether that cluster was ``simulated`` or is what the ``formulas`` find;
    ``rate_rps`` is its largest rate where throughput is the objective.
    """

    design: str
    pools: tuple[Pool, ...] = ()
    cost_usd_per_h: float | None = None
    power_w: float | None = None
    rate_rps: float | None = None
    reason: str
    basis: Literal["formulas", "simulated"] = "formulas"

    def of(self, criterion: ObjectiveName) -> float | None:
        """The value of a criterion: $/h, W, machines or requests/s; None without a plan, or a rate that is given."""
        value: float | None = getattr(self, CRITERIA[criterion].field)
        return value

    @derived
    def feasible(self) -> bool:
        """Whether the design has a plan."""
        return bool(self.pools)

    @derived
    def machines(self) -> int | None:
        """Machines of all pools; None without a plan."""
        return self.cluster.machines if self.pools else None


@dataclass(frozen=True, slots=True)
class Contender(HasCluster):
    """The best cluster of a kind, split or colocated, and the policy and token budgets that it was simulated under.

    A budget, ``batch_tokens``, is of each pool, None for one that only decodes. ``policy`` is "" by the formulas alone,
    ``rate_rps`` the largest rate where throughput is compared.
    """

    design: str
    pools: tuple[Pool, ...]
    cost_usd_per_h: float
    power_w: float
    policy: str
    batch_tokens: tuple[int | None, ...]
    rate_rps: float | None = None

    @derived
    def machines(self) -> int:
        """Machines of all pools."""
        return self.cluster.machines


@dataclass(frozen=True, slots=True)
class Splitting:
    """The best cluster that splits the phases beside the best colocated one, each proven, by one ``criterion``.

    Of a plan, one of them is the plan. None is a kind of which no cluster passes, within the caps. ``budgets_chosen``
    says that each pool has the best of several token budgets.
    """

    split: Contender | None
    colocated: Contender | None
    criterion: ObjectiveName
    budgets_chosen: bool

    @derived
    def gain(self) -> float | None:
        """Ratio by which the split cluster is better in the criterion, above 1 if splitting pays; None without both."""
        if self.split is None or self.colocated is None:
            return None
        criterion = CRITERIA[self.criterion]
        split, colocated = (getattr(each, criterion.field) for each in (self.split, self.colocated))
        return float(criterion.gain(split, colocated))


@dataclass(frozen=True, slots=True)
class Neighbour(HasCluster):
    """A cluster that would be better and does not pass: what it breaks, and by how much.

    ``worst_ratio`` is the largest percentile over its limit; ``at_least``: its runs were stopped when that was certain.
    """

    design: str
    pools: tuple[Pool, ...]
    cost_usd_per_h: float
    power_w: float
    breaks: tuple[str, ...]
    worst_ratio: float
    at_least: bool

    @derived
    def machines(self) -> int:
        """Machines of all pools."""
        return self.cluster.machines


@dataclass(frozen=True, slots=True)
class DesignCounts:
    """Clusters of a design that are at least as good as the plan, and how many were simulated, and cut without."""

    design: str
    candidates: int
    simulated: int
    cut: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """The simulations that prove a plan, and the rule by which a cluster passes.

    ``lower_bound`` is an objective that no plan can beat, ``gap`` the plan's distance to it. ``runs`` counts
    simulations of one request set; of the ``simulated`` clusters some were ``rejected_early``, by runs stopped when a
    limit was broken for certain. ``cut`` clusters were excluded without simulation (None: too many to count), because a
    larger one missed a limit by more than ``cut_margin`` times; ``near_misses`` fail by less and exclude nothing else.
    ``violations`` are pairs in which more machines fail where fewer pass.
    """

    rule: str
    policy: str
    optimal: bool
    lower_bound: float
    gap: float
    simulated: int
    runs: int
    rejected_early: int
    near_misses: int
    undecided: int
    cut: int | None
    cut_margin: float
    exhaustive: bool
    neighbours: tuple[Neighbour, ...]
    violations: tuple[str, ...]
    by_design: tuple[DesignCounts, ...]


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """A batch job beside its plan: ``requests`` to be served ``within_s``, fed at ``rate_rps`` for ``feed_s``.

    ``done_s`` is when its last request ends as simulated, None where it was not.
    """

    requests: int
    within_s: float
    rate_rps: float
    feed_s: float
    done_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise(HasCluster):
    """The plan of the same question under another promise, which shows what that costs.

    Within other limits, ``slo``, or for latency curves as they are in place of times longer by their errors.

    Without a plan ``reason`` says why, and there are no pools. ``rate_rps`` is what it serves, the question's own but
    for the largest throughput.
    """

    slo: str
    design: str = ""
    pools: tuple[Pool, ...] = ()
    rate_rps: float | None = None
    cost_usd_per_h: float | None = None
    power_w: float | None = None
    reason: str = ""

    @derived
    def machines(self) -> int | None:
        """Machines of all pools; None without a plan."""
        return self.cluster.machines if self.pools else None


@dataclass(frozen=True, slots=True)
class SmallerMachine:
    """A machine type with ``gpus`` of the ``of_gpus`` GPUs of a pool's one machine, which holds the plan in its place.

    ``cost_usd_per_h`` is None where the price list has none.
    """

    role: RoleName
    machine: str
    gpus: int
    of_gpus: int
    cost_usd_per_h: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(HasCluster, ServingResult):
    """The best cluster for a question, with its evidence. Every quantity in SI units; rates in requests/s.

    ``rate_rps`` is the load asked for, ``planned_rate_rps`` that with the headroom, for which the latencies hold.
    ``method`` says how the latencies were found, ``evidence`` has the proof of a plan verified by simulation,
    ``splitting`` what splitting the phases brings, ``robustness`` how far the plan is from failing, ``nominal`` the
    plan without the curves' errors where this one has them, and ``smaller`` machine types that would do for pools of
    one machine with too little work.
    """

    design: str
    pools: tuple[PlanPool, ...]
    cost_usd_per_h: float
    cost_usd_per_million_tokens: float
    cost_usd_per_million_output_tokens: float
    power_w: float
    rate_rps: float
    planned_rate_rps: float
    objective: ObjectiveName
    latency: tuple[LatencyFigure, ...]
    attainment: Attained | None = None
    batch: BatchPlan | None = None
    splitting: Splitting | None = None
    promise: Promise | None = None
    nominal: Promise | None = None
    smaller: tuple[SmallerMachine, ...] = ()
    evidence: Evidence | None = None
    robustness: Robustness | None = None
    alternatives: tuple[Alternative, ...]
    method: str
    solver: str
    gap: float
    versions: Mapping[str, str] = field(default_factory=dict)
    kind: Literal["plan"] = "plan"

    @property
    def totals(self) -> Totals:
        """Cost, power and machines of the cluster."""
        return Totals(self.cost_usd_per_h, self.power_w, self.machines)

    def of(self, criterion: ObjectiveName) -> float:
        """The value of a criterion: $/h, W, machines or requests/s."""
        return float(getattr(self, CRITERIA[criterion].field))

    @derived
    def machines(self) -> int:
        """Machines of all pools."""
        return self.cluster.machines

    @derived
    def cost_usd_per_month(self) -> float:
        """Cost of a month, of 730 h."""
        return monthly(self.cost_usd_per_h)

    @derived
    def tokens_per_usd(self) -> float:
        """Prompt and output tokens that a dollar pays for."""
        return 1e6 / self.cost_usd_per_million_tokens

    @derived
    def tokens_per_kwh(self) -> float:
        """Prompt and output tokens for a kWh of the provisioned power."""
        return self.tokens_per_usd * self.cost_usd_per_h / (1e-3 * self.power_w)

    @derived
    def binding(self) -> tuple[str, ...]:
        """The limits that break, or capacity, if any pool loses a machine, each named once."""
        return tuple(dict.fromkeys(name for pool in self.pools for name in pool.binding))

    @property
    def tightest(self) -> LatencyFigure | None:
        """The percentile with the smallest slack; None without limits, or where none is known."""
        slacks = ((figure.slack, figure) for figure in self.latency)
        known = ((slack, figure) for slack, figure in slacks if slack is not None and not math.isnan(slack))
        return min(known, key=lambda pair: pair[0], default=(None, None))[1]

    @derived
    def worst_slack(self) -> float | None:
        """The smallest slack of any limit; None without limits."""
        return None if self.tightest is None else self.tightest.slack

    def latency_frame(self) -> "pd.DataFrame":
        """Return one row per percentile; ``limit`` is in ``limit_kind``, NaN where there is none."""
        return self.to_frame("latency")

    def alternatives_frame(self) -> "pd.DataFrame":
        """Return one row per other design; numbers are NaN where it has no plan, ``reason`` says why it lost."""
        return self.to_frame("alternatives")

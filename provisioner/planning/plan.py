"""The plan: what was chosen, what it costs, how it performs, why not something else, and what it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from provisioner.specs.batch_job import BatchJob
from provisioner.specs.metrics import label
from provisioner.specs.slo import LatencyLimit

if TYPE_CHECKING:
    import pandas as pd

    from provisioner.report.chart import Chart
    from provisioner.report.charts import OfflineChart
    from provisioner.report.document import Document


# What a pool lacks with one machine fewer, where it is not a latency limit.
ONLY_ONE = "a pool needs one machine"
CAPACITY = "capacity"


@dataclass(frozen=True, slots=True)
class PoolPlan:
    """Machines of one type with one role. ``utilization`` is the rate over the largest one that the pool sustains; of a
    plan verified by simulation it is the share of time in which the pool's replicas work.

    ``binding`` names what breaks with one machine fewer; ``mean_batch`` is the sequences that a replica decodes
    together, ``link_load`` the share of the pool's link bandwidth that arriving KV caches take; None where the role
    has neither. A pool serves the prompts from ``min_prompt_tokens`` to ``max_prompt_tokens`` (None: without end).
    ``extrapolated`` names the phases whose curve is continued beyond its measurements at this pool's load; ``curves``
    says what the curves are: measured, assumed, derived or estimated.
    """

    role: str
    machine: str
    machines: int
    tensor_parallel: int
    replicas: int
    utilization: float
    cost_usd_per_h: float
    power_w: float
    requests: str
    binding: tuple[str, ...]
    mean_batch: float | None = None
    link_load: float | None = None
    min_prompt_tokens: int = 1
    max_prompt_tokens: int | None = None
    extrapolated: tuple[str, ...] = ()
    curves: str = "measured"


@dataclass(frozen=True, slots=True)
class LatencyFigure:
    """One percentile beside its limit. ``slack`` is (limit - value) / limit.

    ``extrapolated`` says that it rests on a latency curve continued beyond its measurements. A simulated percentile is
    the mean over request sets, with its two-sided confidence interval (None for one set) and what the queueing formulas
    predict.
    """

    metric: str
    percentile: float
    seconds: float
    slowdown: float
    limit: LatencyLimit | None
    slack: float | None
    binding: bool
    extrapolated: bool = False
    seconds_range: tuple[float, float] | None = None
    slowdown_range: tuple[float, float] | None = None
    predicted_seconds: float | None = None
    predicted_slowdown: float | None = None

    @property
    def label(self) -> str:
        """The percentile as people write it, such as ``TTFT P99``."""
        return label(self.metric, self.percentile)


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another design: its own best plan, or the reason why it has none.

    ``basis`` says whether that plan was ``simulated`` or is what the ``formulas`` find.
    """

    design: str
    feasible: bool
    pools: tuple[tuple[str, str, int], ...]  # role, machine, machines
    cost_usd_per_h: float | None
    power_w: float | None
    machines: int | None
    rate_rps: float | None
    reason: str
    basis: str = "formulas"

    @property
    def split(self) -> str:
        """Pool sizes in words, such as ``15 prompt + 2 token``."""
        return " + ".join(f"{machines} {role} {machine}" for role, machine, machines in self.pools)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A cluster that would be better and does not pass: what it breaks, and by how much.

    ``worst_ratio`` is the largest percentile over its limit; ``at_least``: its runs were stopped when that was certain.
    """

    design: str
    pools: tuple[tuple[str, str, int], ...]  # role, machine, machines
    cost_usd_per_h: float
    power_w: float
    machines: int
    breaks: tuple[str, ...]
    worst_ratio: float
    at_least: bool

    @property
    def split(self) -> str:
        """Pool sizes in words, such as ``13 prompt + 3 token``."""
        return " + ".join(f"{machines} {role}" for role, _, machines in self.pools)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was simulated to prove a plan, and by which rule a cluster passes.

    ``lower_bound`` is an objective that no plan can beat, ``gap`` the plan's distance to it. ``runs`` counts
    simulations of one request set; of the ``simulated`` clusters some were ``rejected_early``, by runs stopped when a
    limit was broken for certain. ``cut`` clusters were excluded without simulation (None: too many to count), because a
    larger one missed a limit by more than ``cut_margin`` times; ``near_misses`` fail by less and exclude nothing else.
    ``violations`` are pairs in which more machines fail where fewer pass. ``by_design`` has, for each design, the
    clusters at least as good as the plan, and how many of them were simulated and cut.
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
    by_design: tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """A batch job beside its plan. ``done_s`` is when its last request ends as simulated, None where it was not."""

    job: BatchJob
    done_s: float | None


@dataclass(frozen=True, slots=True)
class Promise:
    """The plan of the same question within other limits: what their promise costs.

    Without a plan ``reason`` says why. ``rate_rps`` is what it serves, the question's own but for the largest
    throughput.
    """

    slo: str
    design: str = ""
    pools: tuple[tuple[str, str, int], ...] = ()  # role, machine, machines
    rate_rps: float | None = None
    cost_usd_per_h: float | None = None
    power_w: float | None = None
    machines: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """The best cluster for a question, with its evidence. Every quantity in SI units; rates in requests/s.

    ``rate_rps`` is the load asked for, ``planned_rate_rps`` that with the headroom, for which the latencies hold.
    ``method`` says how the latencies were found, ``evidence`` has the proof of a plan verified by simulation,
    ``question`` holds every option, so that the plan can be repeated.
    """

    design: str
    pools: tuple[PoolPlan, ...]
    objective: str
    model: str
    workload: str
    slo: str
    rate_rps: float
    planned_rate_rps: float
    cost_usd_per_h: float
    cost_usd_per_million_tokens: float
    cost_usd_per_million_output_tokens: float
    power_w: float
    machines: int
    latency: tuple[LatencyFigure, ...]
    alternatives: tuple[Alternative, ...]
    sources: tuple[str, ...]
    warnings: tuple[str, ...]
    question: Mapping[str, Any]
    method: str
    solver: str
    gap: float
    seed: int
    versions: Mapping[str, str] = field(default_factory=dict)
    evidence: Evidence | None = None
    batch: BatchPlan | None = None
    promise: Promise | None = None

    @property
    def tokens_per_usd(self) -> float:
        """Prompt and output tokens that a dollar pays for."""
        return 1e6 / self.cost_usd_per_million_tokens

    @property
    def tokens_per_kwh(self) -> float:
        """Prompt and output tokens for a kWh of the provisioned power."""
        return self.tokens_per_usd * self.cost_usd_per_h / (1e-3 * self.power_w)

    @property
    def binding(self) -> tuple[str, ...]:
        """What breaks if any pool loses a machine, each named once."""
        return tuple(dict.fromkeys(name for pool in self.pools for name in pool.binding))

    @property
    def worst_slack(self) -> float | None:
        """The smallest slack of any limit; None without limits."""
        return min((figure.slack for figure in self.latency if figure.slack is not None), default=None)

    def to_dict(self) -> dict[str, Any]:
        """The plan as plain values: what ``--json`` prints."""
        from provisioner.report.as_json import plan_dict

        return plan_dict(self)

    def to_frame(self) -> pd.DataFrame:
        """One row per pool, with the totals repeated, as a pandas DataFrame."""
        from provisioner.report.frames import pools_frame

        return pools_frame(self)

    def latency_frame(self) -> pd.DataFrame:
        """One row per percentile of TTFT, TBT and E2E, as a pandas DataFrame."""
        from provisioner.report.frames import latency_frame

        return latency_frame(self)

    def alternatives_frame(self) -> pd.DataFrame:
        """One row per other design, as a pandas DataFrame."""
        from provisioner.report.frames import alternatives_frame

        return alternatives_frame(self)

    def document(self) -> Document:
        """The report with every input."""
        from provisioner.report.plan_document import plan_document

        return plan_document(self, inputs=True)

    def charts(self) -> tuple[Chart, ...]:
        """The pictures: latencies beside their limits, and the designs against each other."""
        from provisioner.report.plan_document import plan_charts

        return plan_charts(self)

    def plot(self, axes: object = None) -> OfflineChart:
        """Return the first of the charts as one of Altair, which a notebook shows without a network."""
        from provisioner.report.charts import plotted

        return plotted(self.charts()[0], axes)

    def _repr_html_(self) -> str:
        from provisioner.report.html import plan_html

        return plan_html(self)

    def __str__(self) -> str:
        from provisioner.report.markdown import plan_markdown

        return plan_markdown(self)

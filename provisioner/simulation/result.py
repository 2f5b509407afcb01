"""What a simulation found: latencies with their uncertainty, what the pools did, and what it rests on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from provisioner.specs.slo import LatencyLimit

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from provisioner.report.chart import Chart
    from provisioner.report.document import Document

Verdict = Literal["pass", "fail", "undecided"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over request sets with a two-sided confidence interval, None where one set allows none.

    ``values`` are those of each set. inf: requests were left unfinished; -inf: no request has the metric (a TBT
    where every output is one token); NaN: there is no reference to divide by.
    """

    mean: float
    low: float | None
    high: float | None
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class LatencyResult:
    """One percentile (0..100) of a metric, in s and as a slowdown, beside its limit and whether it is met."""

    metric: str
    percentile: float
    seconds: Interval
    slowdown: Interval
    limit: LatencyLimit | None = None
    met: Verdict | None = None

    @property
    def name(self) -> str:
        """The percentile as data name it.

        >>> LatencyResult("ttft", 99.0, Interval(1, None, None, (1,)), Interval(2, None, None, (2,))).name
        'p99'
        """
        return f"p{self.percentile:g}"

    @property
    def judged(self) -> Interval:
        """The value that the limit is on; the slowdown without a limit."""
        return self.seconds if self.limit is not None and self.limit.kind == "seconds" else self.slowdown


@dataclass(frozen=True, slots=True)
class PoolResult:
    """What the machines of a pool did over the measured window; means over the request sets, ``most_...`` the largest.

    ``utilization`` is the share of time in which a replica works; ``prompt_busy``, ``token_busy`` and ``mixed_busy``
    split it by kind of iteration, ``mixed_pool_share`` is the share of time as members of the mixed pool.
    ``mean_batch`` is the number of requests in an iteration, over the time in which a replica works;
    ``batch_time_share[b]`` the share of time with b of them, 0 for none. ``mean_waiting`` and ``most_waiting`` are
    prompts that wait at a replica; ``kv_memory_mean`` and ``kv_memory_most`` shares of its KV memory;
    ``generated_tokens_per_s`` is over the whole run. ``energy_kwh`` is None: no machine's power curve is known.
    """

    role: str
    machine: str
    machines: int
    replicas: int
    tensor_parallel: int
    utilization: float
    prompt_busy: float
    token_busy: float
    mixed_busy: float
    mixed_pool_share: float
    mean_batch: float
    batch_time_share: tuple[float, ...]
    mean_waiting: float
    most_waiting: float
    kv_memory_mean: float
    kv_memory_most: float
    generated_tokens_per_s: float
    energy_kwh: float | None = None


@dataclass(frozen=True, slots=True)
class Simulation:
    """A cluster simulated on one or several request sets, with everything needed to do it again.

    ``load`` says in words how requests arrive. ``requests`` is the mean number of requests of a set and
    ``measured_requests`` of those in the measured window, ``throughput_rps`` and ``throughput_tokens_per_s`` (output
    tokens) what the cluster completed in it. ``thresholds`` are those of the policy. ``moves`` of machines between
    pools, ``preemptions``, ``restarts`` and ``unfinished`` requests are summed over the sets. ``instability`` says why
    the cluster is not stable, "" when it is; ``slo_met`` is None without limits. ``wall_s`` is the time that the
    simulation alone took, its percentiles included, summed over the sets.
    """

    design: str
    pools: tuple[PoolResult, ...]
    latency: tuple[LatencyResult, ...]
    model: str
    workload: str
    slo: str
    slo_met: bool | None
    stable: bool
    instability: str
    requests: float
    sets: int
    rate_rps: float
    throughput_rps: float
    throughput_tokens_per_s: float
    policy: str
    assumptions: str
    wall_s: float
    moves: int
    preemptions: int
    restarts: int
    unfinished: int
    sources: tuple[str, ...]
    warnings: tuple[str, ...]
    question: Mapping[str, Any]
    seed: int
    versions: Mapping[str, str] = field(default_factory=dict)
    load: str = ""
    measured_requests: float = math.nan
    thresholds: Mapping[str, float | bool] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The simulation as plain values: what ``--json`` prints; numbers that are not finite become None.

        ``slowdown[metric][percentile]`` and ``seconds[metric][percentile]`` are means over the request sets;
        ``latency`` has them with their intervals, ``slo["limits"]`` those with a limit.
        """
        from provisioner.report.as_json import plain_value
        from provisioner.report.command_line import simulate_command

        rows = self._latency_rows()
        means: dict[str, dict[str, dict[str, float]]] = {"slowdown": {}, "seconds": {}}
        for each in self.latency:
            means["slowdown"].setdefault(each.metric, {})[each.name] = each.slowdown.mean
            means["seconds"].setdefault(each.metric, {})[each.name] = each.seconds.mean
        result: dict[str, Any] = {
            "design": self.design,
            "pools": self._pool_rows(),
            **means,
            "slo": {
                "name": self.slo,
                "met": self.slo_met,
                "limits": [self._limit_row(each) for each in self.latency if each.limit is not None],
            },
            "stable": self.stable,
            "instability": self.instability,
            "requests": self.requests,
            "measured_requests": self.measured_requests,
            "sets": self.sets,
            "rate_rps": self.rate_rps,
            "throughput_rps": self.throughput_rps,
            "throughput_tokens_per_s": self.throughput_tokens_per_s,
            "latency": rows,
            "model": self.model,
            "workload": self.workload,
            "load": self.load,
            "policy": self.policy,
            "thresholds": self.thresholds,
            "assumptions": self.assumptions,
            "wall_s": self.wall_s,
            "moves": self.moves,
            "preemptions": self.preemptions,
            "restarts": self.restarts,
            "unfinished": self.unfinished,
            "warnings": self.warnings,
            "sources": self.sources,
            "question": self.question,
            "command": simulate_command(self.question),
            "seed": self.seed,
            "versions": self.versions,
        }
        plain: dict[str, Any] = plain_value(result)
        return plain

    def to_frame(self) -> pd.DataFrame:
        """One row per metric and percentile, as a pandas DataFrame; NaN where there is no interval or limit."""
        import pandas as pd

        numbers = ("seconds_low", "seconds_high", "slowdown_low", "slowdown_high", "limit")
        return pd.DataFrame(self._latency_rows()).astype({name: "float64" for name in numbers if self.latency})

    def pools_frame(self) -> pd.DataFrame:
        """One row per pool, as a pandas DataFrame; without the shares of time by batch."""
        import pandas as pd

        rows = [{key: row[key] for key in row if key != "batch_time_share"} for row in self._pool_rows()]
        return pd.DataFrame(rows).astype({"energy_kwh": "float64"} if rows else {})

    def document(self) -> Document:
        """The report with every input."""
        from provisioner.report.simulation_document import simulation_document

        return simulation_document(self, inputs=True)

    def charts(self) -> tuple[Chart, ...]:
        """The pictures: latencies beside their limits, and how large batches are."""
        from provisioner.report.simulation_document import simulation_charts

        return simulation_charts(self)

    def plot(self, axes: Axes | None = None) -> Axes:
        """Draw the first of the pictures with matplotlib."""
        from provisioner.report.draw import draw

        return draw(self.charts()[0], axes)

    def _repr_html_(self) -> str:
        from provisioner.report.html import html
        from provisioner.report.simulation_document import simulation_document

        return html(simulation_document(self))

    def __str__(self) -> str:
        from provisioner.report.markdown import markdown
        from provisioner.report.simulation_document import simulation_document

        return markdown(simulation_document(self, inputs=True))

    def _latency_rows(self) -> list[dict[str, Any]]:
        return [
            {
                "metric": each.metric,
                "percentile": each.name,
                "seconds": each.seconds.mean,
                "seconds_low": each.seconds.low,
                "seconds_high": each.seconds.high,
                "slowdown": each.slowdown.mean,
                "slowdown_low": each.slowdown.low,
                "slowdown_high": each.slowdown.high,
                "limit": None if each.limit is None else each.limit.value,
                "limit_kind": "" if each.limit is None else each.limit.kind,
                "met": each.met or "",
            }
            for each in self.latency
        ]

    @staticmethod
    def _limit_row(result: LatencyResult) -> dict[str, Any]:
        assert result.limit is not None
        return {
            "metric": result.metric,
            "percentile": result.name,
            "kind": result.limit.kind,
            "limit": result.limit.value,
            "value": result.judged.mean,
            "low": result.judged.low,
            "high": result.judged.high,
            "met": result.met,
        }

    def _pool_rows(self) -> list[dict[str, Any]]:
        return [{name: getattr(pool, name) for name in PoolResult.__dataclass_fields__} for pool in self.pools]

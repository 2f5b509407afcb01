"""The result of a simulation: latencies with their uncertainty, the work of the pools, and what it rests on."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from provisioner.results.cluster import HasCluster, Pool
from provisioner.results.result import ServingResult, derived
from provisioner.specs.slo import LatencyLimit, Percentile

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
class LatencyResult(Percentile):
    """One percentile (0..100) of a metric, in s and as a slowdown, beside its limit and whether it is met."""

    seconds: Interval
    slowdown: Interval
    limit: LatencyLimit | None = None
    met: Verdict | None = None

    @property
    def judged(self) -> Interval:
        """The value that the limit is on; the slowdown without a limit."""
        return self.seconds if self.limit is not None and self.limit.kind == "seconds" else self.slowdown

    @derived
    def over_limit(self) -> float | None:
        """The value over its limit; None without a limit."""
        return None if self.limit is None else self.judged.mean / self.limit.value

    @property
    def beside_limit(self) -> str:
        """The value with its limit, such as ``4.21x of 5x``; "" without a limit."""
        limit = self.limit
        return "" if limit is None else f"{limit.format(self.judged.mean)} of {limit.format(limit.value)}"


@dataclass(frozen=True, slots=True)
class Attained:
    """The share of requests within all ``limits`` at once beside the one ``asked`` for.

    ``share`` has its mean over request sets and that of each; ``at_least`` is the one-sided lower confidence bound of
    the mean, None for one set.
    """

    asked: float
    limits: tuple[LatencyLimit, ...]
    share: Interval
    at_least: float | None
    met: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedPool(Pool):
    """A pool with the work of its machines in the measured window; means over the request sets, ``most_...`` largest.

    ``utilization`` is the share of time in which a replica works; ``prompt_busy``, ``token_busy`` and ``mixed_busy``
    split it by kind of iteration, ``mixed_pool_share`` is the share of time as members of the mixed pool.
    ``mean_batch`` is the number of requests in an iteration, over the time in which a replica works;
    ``batch_time_share[b]`` the share of time with b of them, 0 for none. ``mean_waiting`` and ``most_waiting`` are
    prompts that wait at a replica; ``kv_memory_mean`` and ``kv_memory_most`` shares of its KV memory;
    ``generated_tokens_per_s`` is the pool's, over the whole run. ``energy_kwh`` is None: no power curve is known.
    """

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulation(HasCluster, ServingResult):
    """A cluster simulated on one or several request sets, with everything needed to do it again.

    ``load`` is a phrase on how requests arrive. ``requests`` is the mean number of requests of a set and
    ``measured_requests`` of those in the measured window, ``throughput_rps`` and ``throughput_tokens_per_s`` (output
    tokens) their completions over its length, longer where delays grow (docs/reference/metrics.md). ``thresholds`` are
    those of the policy. ``moves`` of machines between pools, ``preemptions``, ``restarts`` and ``unfinished`` requests
    are summed over the sets. ``stable`` is None if the runs are too short to tell; ``instability`` says why the cluster
    is not shown to be stable, "" when it is; ``slo_met`` is None without limits. ``wall_s`` is the time that the
    simulation alone took, its percentiles included, summed over the sets; where ``repeated``, the median of warm runs.
    """

    design: str
    pools: tuple[SimulatedPool, ...]
    latency: tuple[LatencyResult, ...]
    slo_met: bool | None
    stable: bool | None
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
    attainment: Attained | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    load: str = ""
    measured_requests: float = math.nan
    thresholds: Mapping[str, int | float | bool | str] = field(default_factory=dict)
    command: str = ""
    repeated: bool = False
    kind: Literal["simulation"] = "simulation"

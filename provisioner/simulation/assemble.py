"""From runs to a result: what one run showed, and the means over request sets with their intervals and verdicts."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import zip_longest
from statistics import fmean
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from provisioner.options import spelled
from provisioner.options.defaults import CONFIDENCE
from provisioner.perf.assumptions import Reference, slo_strict
from provisioner.results.simulation import Interval, LatencyResult, SimulatedPool, Simulation
from provisioner.simulation import measure, stability
from provisioner.simulation.cluster import Cluster, Pool
from provisioner.simulation.requests import RequestSet
from provisioner.simulation.run import Run
from provisioner.specs.arrivals import Arrivals
from provisioner.specs.metrics import MEASURED
from provisioner.specs.slo import SLO, Attainment

_NOTABLE_EXTRAPOLATION: Final = 0.01  # share of a pool's busy time at extrapolated batches that is worth a warning


@dataclass(frozen=True, slots=True, eq=False)
class Scenario:
    """The input of a simulation: a cluster, its request sets by number, and the limits and percentiles asked for.

    ``expected_requests`` is about how many requests a set has. ``longer`` makes it with sets of twice the
    time, None if their time is given.
    """

    design: str
    cluster: Cluster
    reference: Reference
    request_set: Callable[[int], RequestSet]
    sets: int
    expected_requests: float
    percentiles: tuple[float, ...]
    slo: SLO
    workload: str
    arrivals: Arrivals = field(default_factory=Arrivals)
    seed: int = 0
    sources: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    question: Mapping[str, Any] = field(default_factory=dict)
    longer: Callable[[], "Scenario"] | None = None
    context_tokens: int = 0
    confidence: float = CONFIDENCE
    versions: Mapping[str, str] = field(default_factory=dict)
    engine: str = ""


@dataclass(frozen=True, slots=True)
class Observation:
    """The outcome of one run: ``seconds`` and ``slowdown`` have the scenario's percentiles by metric.

    Fields that a ``Simulation`` has too mean the same for one set; ``held`` are requests that no machine in service
    could take, ``end_s`` is when the last event happened.
    """

    seconds: Mapping[str, tuple[float, ...]]
    slowdown: Mapping[str, tuple[float, ...]]
    backlog: stability.Backlog
    pools: tuple[SimulatedPool, ...]
    status: str
    requests: int
    measured_requests: int
    rate_rps: float
    throughput_rps: float
    throughput_tokens_per_s: float
    moves: int
    preemptions: int
    restarts: int
    held: int
    end_s: float
    wall_s: float
    ratios: measure.Floats  # of each measured request to the limits that it has to be within at once


_MEANS: Final = ("requests", "measured_requests", "rate_rps", "throughput_rps", "throughput_tokens_per_s")
_SUMS: Final = ("wall_s", "moves", "preemptions", "restarts")
Percentiles = tuple[Mapping[str, tuple[float, ...]], Mapping[str, tuple[float, ...]]]


def percentiles_of(latencies: measure.Latencies, of: Sequence[float]) -> Percentiles:
    """Percentiles of every metric, in s and as slowdowns, each by metric in the order of ``of``."""
    seconds, slowdown = {}, {}
    for metric in MEASURED:
        seconds[metric], slowdown[metric] = (measure.percentiles(values, of) for values in latencies.both(metric))
    return seconds, slowdown


def observe(run: Run, values: Percentiles, wall_s: float, limit: Attainment | None = None) -> Observation:
    """The outcome of one run; ``values`` are its percentiles, ``wall_s`` the time that the run and they took.

    ``limit`` is that on all limits at once.
    """
    requests, last_s = run.prepared.requests, run.requests["last_s"]
    start_s, end_s = float(run.clock["from_s"]), float(run.clock["until_s"])
    if requests.in_flight is not None:  # from the entry of the first measured request to that of the first after them
        entered_s = run.requests["arrival_s"]
        after = requests.requests if requests.until_index is None else requests.until_index
        start_s, end_s = float(entered_s[requests.from_index]), float(entered_s[min(after, requests.requests - 1)])
    span_s, offered_rps = end_s - start_s, requests.rate_rps
    found = stability.observed_backlog(run)
    completed = (last_s >= start_s) & (last_s <= end_s)
    if requests.in_flight is None:  # all measured requests, in the time that they take if the delay grows on
        completed = requests.counted & ~np.isnan(last_s)
        if math.isinf(requests.until_s):  # a trace: n requests take n mean gaps
            span_s *= 1.0 + 1.0 / max(int(requests.counted.sum()) - 1, 1)
        slowed = 1.0 if stability.stability([found])[0] else 1.0 + max(found.growth, 0.0)
        span_s *= slowed if requests.follows is None else 1.0
        offered_rps *= 1.0 if requests.follows is None else slowed  # fewer came, as their sessions were slowed
    tokens = int(requests.output_tokens[completed].sum())
    return Observation(
        seconds=values[0],
        slowdown=values[1],
        backlog=found,
        pools=tuple(_pool(run, slot, pool) for slot, pool in enumerate(run.cluster.pools)),
        status=run.status,
        requests=requests.requests,
        measured_requests=int(np.count_nonzero(requests.counted)),
        rate_rps=offered_rps,
        throughput_rps=int(np.count_nonzero(completed)) / span_s if span_s > 0.0 else math.nan,
        throughput_tokens_per_s=tokens / span_s if span_s > 0.0 else math.nan,
        moves=int(run.clock["moves"]),
        preemptions=int(run.clock["preemptions"]),
        restarts=int(run.requests["restarts"].sum()),
        held=int(run.clock["held"]),
        end_s=float(run.clock["now_s"]),
        wall_s=wall_s,
        ratios=run.latencies.ratios(limit.limits) if limit else np.empty(0),
    )


def _machines(pool: Pool) -> dict[str, Any]:
    """The fields of a pool that say on which machines its replicas are."""
    machine = pool.perf.machine
    return {"machine": machine.name, "tensor_parallel": pool.perf.tensor_parallel, "gpus_per_machine": machine.gpus}


def of_cluster(observation: Observation, cluster: Cluster) -> Observation:
    """The observation of a cluster of the same behaviour, with the machines of this one."""
    pools = zip(observation.pools, cluster.pools, strict=True)
    return replace(observation, pools=tuple(replace(shown, **_machines(pool)) for shown, pool in pools))


def _pool(run: Run, slot: int, pool: Pool) -> SimulatedPool:
    """The work of the machines of one pool; shares are of the time of all its replicas in the measured window."""
    replicas = run.replicas[run.replicas["slot"] == slot]
    replica_s = replicas.size * run.window_s
    by_batch_s = np.trim_zeros(run.batch_time_s[slot], "b")
    busy_s = float(by_batch_s.sum())
    end_s = float(run.clock["now_s"])

    def share(values: NDArray[Any]) -> float:
        return float(values.sum()) / replica_s if replica_s > 0.0 else 0.0

    prompts, tokens, mixed = (share(replicas[f"{kind}_busy_s"]) for kind in ("prompts", "tokens", "mixed"))
    shares = ((by_batch_s / replica_s).tolist() if replica_s > 0.0 else []) or [0.0]
    shares[0] = max(1.0 - math.fsum(shares[1:]), 0.0)
    return SimulatedPool(
        role=pool.role,
        **_machines(pool),
        replicas=pool.replicas,
        min_prompt_tokens=pool.min_prompt_tokens,
        max_prompt_tokens=pool.max_prompt_tokens,
        utilization=prompts + tokens + mixed,
        prompt_busy=prompts,
        token_busy=tokens,
        mixed_busy=mixed,
        mixed_pool_share=share(replicas["mixed_pool_s"]),
        mean_batch=float(np.arange(by_batch_s.size) @ by_batch_s) / busy_s if busy_s > 0.0 else 0.0,
        batch_time_share=tuple(shares),
        mean_waiting=share(replicas["queue_s"]),
        most_waiting=float(replicas["most_waiting"].max()),
        kv_memory_mean=share(replicas["kv_token_s"] / replicas["capacity_tokens"]),
        kv_memory_most=float((replicas["most_used_tokens"] / replicas["capacity_tokens"]).max()),
        generated_tokens_per_s=float(replicas["generated_tokens"].sum()) / end_s if end_s > 0.0 else 0.0,
    )


def assemble(scenario: Scenario, observations: Sequence[Observation]) -> Simulation:
    """The result of a scenario from what the run of each of its request sets showed."""
    cluster = scenario.cluster
    assumptions = cluster.pools[0].perf.assumptions
    strict = slo_strict(assumptions)
    latency = []
    for metric in MEASURED:
        for k, percentile in enumerate(scenario.percentiles):
            seconds = [each.seconds[metric][k] for each in observations]
            slowdown = [each.slowdown[metric][k] for each in observations]
            limits = [x for x in scenario.slo.limits if (x.metric, x.percentile) == (metric, percentile)]
            for limit in limits or (None,):
                result = LatencyResult(metric, percentile, measure.interval(seconds), measure.interval(slowdown), limit)
                if limit is not None:
                    result = replace(
                        result, met=measure.verdict(limit.value, result.judged.values, strict, scenario.confidence)
                    )
                latency.append(result)
    attainment = None
    if (limit := scenario.slo.attainment) is not None:
        ratios = [each.ratios for each in observations]
        attainment = measure.attained(limit, ratios, strict, scenario.confidence)
        each_set = tuple(measure.quantile_over_sets([of], limit.quantile) for of in ratios)
        worst = Interval(measure.quantile_over_sets(ratios, limit.quantile), None, None, each_set)
        none = Interval(math.nan, None, None, ())
        latency.append(LatencyResult("all", limit.percentile, none, worst, limit, attainment.met))
    verdicts = [each.met for each in latency if each.met is not None]
    stable, reason = _stability(scenario, observations)
    pools = tuple(_mean_pool(each) for each in zip(*(one.pools for one in observations), strict=True))
    merged: dict[str, Any] = {name: _mean([getattr(each, name) for each in observations]) for name in _MEANS}
    merged |= {name: sum(getattr(each, name) for each in observations) for name in _SUMS}
    return Simulation(
        design=scenario.design,
        pools=pools,
        latency=tuple(latency),
        model=cluster.pools[0].perf.model.name,
        workload=scenario.workload,
        load=str(scenario.arrivals),
        slo=scenario.slo.name,
        reference=str(scenario.reference),
        context_tokens=scenario.context_tokens,
        attainment=attainment,
        slo_met=all(met == "pass" for met in verdicts) if verdicts else None,
        stable=stable,
        instability=reason,
        sets=len(observations),
        policy=cluster.policy.name,
        thresholds=_thresholds(cluster),
        assumptions=assumptions,
        unfinished=sum(each.backlog.unfinished for each in observations),
        sources=scenario.sources,
        warnings=(*scenario.warnings, *_warnings(scenario, observations, pools)),
        question=scenario.question,
        seed=scenario.seed,
        versions=scenario.versions,
        engine=scenario.engine,
        **merged,
    )


def _thresholds(cluster: Cluster) -> dict[str, int | float | bool | str]:
    """Thresholds of the policy; tokens of an iteration by role, as in ``prompt_batch_tokens``, where pools differ."""
    budgets = {pool.role: cluster.budget_tokens(pool) for pool in cluster.pools}
    known = cluster.policy.settings
    if len({*budgets.values()}) == 1:
        return known | {"batch_tokens": next(iter(budgets.values()))}
    del known["batch_tokens"]
    return known | {f"{role}_batch_tokens": tokens for role, tokens in budgets.items()}


def _mean(values: Sequence[float]) -> float:
    """Mean of values; equal ones give that value, of its own type."""
    return values[0] if len(set(values)) == 1 else fmean(values)


def _stability(scenario: Scenario, observations: Sequence[Observation]) -> tuple[bool | None, str]:
    """Whether the cluster is stable, and why it is not, with the cause if some requests are never served.

    Runs of a given time that are too short to tell come with the options that make them longer.
    """
    stable, reason = stability.stability([each.backlog for each in observations])
    if stable is None and scenario.longer is None and scenario.question.get("duration_s"):
        reason += f" ({spelled('duration_s')}, {spelled('sets')})"
    if not any(each.status == "stuck" for each in observations):
        return stable, reason
    held = sum(each.held for each in observations)
    unfinished = sum(each.backlog.unfinished for each in observations)
    causes = [f"{held:,} because no machine in service could take them"] if held else []
    if held < unfinished:
        causes.append(f"{unfinished - held:,} because nothing frees the KV memory that they wait for")
    return stable, f"{reason}, {' and '.join(causes)}"


def _warnings(
    scenario: Scenario, observations: Sequence[Observation], pools: Sequence[SimulatedPool]
) -> tuple[str, ...]:
    """Warnings that only the runs show."""
    notes = []
    for pool, result in zip(scenario.cluster.pools, pools, strict=True):
        largest = pool.perf.curve.decode_batch_range[1]
        beyond, busy = math.fsum(result.batch_time_share[largest + 1 :]), math.fsum(result.batch_time_share[1:])
        if beyond > _NOTABLE_EXTRAPOLATION * busy:
            notes.append(
                f"{pool.role} pool: {100 * beyond / busy:.0f} % of its work was at batches beyond the largest measured "
                f"({largest}), up to {len(result.batch_time_share) - 1}; their latency is extrapolated (its error: "
                f"provision curves {result.machine})"
            )
    least = min(each.measured_requests for each in observations)
    few = [f"P{percentile:g}" for percentile in scenario.percentiles if least * (100.0 - percentile) < 100.0 - 1e-6]
    if few:
        notes.append(
            f"{', '.join(few)}: not one request is beyond it in a set of {least:,} measured: too few to tell it"
        )
    end_s = min(each.end_s for each in observations)
    late = sum(outage.at_s >= end_s for outage in scenario.cluster.outages)
    if late:
        notes.append(f"{late} of the failures begin after the last request is served, at {end_s:.4g} s: no effect")
    return tuple(notes)


_LARGEST: Final = ("most_waiting", "kv_memory_most")


def _mean_pool(pools: Sequence[SimulatedPool]) -> SimulatedPool:
    """One pool over the request sets: means, and maxima of maxima."""
    shares = np.array(list(zip_longest(*(pool.batch_time_share for pool in pools), fillvalue=0.0))).T.copy()
    merged: dict[str, Any] = {"batch_time_share": tuple(shares.mean(axis=0).tolist())}
    for name in (each.name for each in fields(SimulatedPool)):
        values = [getattr(pool, name) for pool in pools]
        if isinstance(values[0], float):
            merged[name] = max(values) if name in _LARGEST else _mean(values)
    return replace(pools[0], **merged)

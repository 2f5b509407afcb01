"""A simulation as a report: the verdict first, then latency, pools, batches, warnings and evidence."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Final

from provisioner.options import SimulateOptions
from provisioner.report.chart import Axis, BarChart, Chart, LineChart, Series
from provisioner.report.document import Block, Boxes, Column, Document, Facts, KeyNumber, KeyNumbers, Table, table
from provisioner.report.numbers import milliseconds, per_cent, significant, whole
from provisioner.report.tables import Row, flat
from provisioner.report.views.view import View, closing, latency_chart, method_facts
from provisioner.results.simulation import Interval, LatencyResult, SimulatedPool, Simulation
from provisioner.specs.units import format_rate, format_seconds

_MET: Final = {"pass": "met", "fail": "missed", "undecided": "undecided", None: ""}
# Batches are shown by powers of two.
_BATCHES: Final = ((1, 1), (2, 2), (3, 4), (5, 8), (9, 16), (17, 32), (33, 64), (65, 128), (129, 256), (257, 512))


def document(simulation: Simulation, inputs: bool = False) -> Document:
    """The report of a simulation. ``inputs`` adds every option."""
    blocks: list[Block] = [key_numbers(simulation), latency_table(simulation.latency)]
    blocks += [Boxes(pools_table(simulation), simulation.pools), queues_table(simulation), batches_table(simulation)]
    blocks += closing(simulation, _method(simulation), SimulateOptions, inputs)
    return Document(simulation.cluster.headline, subtitle(simulation), tuple(blocks))


def charts(simulation: Simulation) -> Mapping[str, Chart]:
    """Latencies beside their limits, and how large batches are."""
    return {"latency": _latency_chart(simulation), "batches": batches_chart(simulation)}


def latency_rows(latency: Sequence[LatencyResult]) -> list[Row]:
    """One row per metric and percentile: means with their intervals, the limit in ``limit_kind``, and the verdict."""
    return [
        {
            "metric": figure.metric,
            "percentile": figure.percentile,
            "seconds": figure.seconds.mean,
            "seconds_low": figure.seconds.low,
            "seconds_high": figure.seconds.high,
            "slowdown": figure.slowdown.mean,
            "slowdown_low": figure.slowdown.low,
            "slowdown_high": figure.slowdown.high,
            "limit": None if figure.limit is None else figure.limit.value,
            "limit_kind": "" if figure.limit is None else figure.limit.kind,
            "met": figure.met or "",
        }
        for figure in latency
    ]


def pool_rows(pools: Sequence[SimulatedPool]) -> list[Row]:
    """One row per pool."""
    return [flat(pool) for pool in pools]


def batch_rows(simulation: Simulation) -> list[Row]:
    """One row per pool and batch: the share of time with that number of requests in an iteration (0: idle)."""
    return [
        {"role": pool.role, "machine": pool.machine, "batch": batch, "time_share": share}
        for pool in simulation.pools
        for batch, share in enumerate(pool.batch_time_share)
    ]


def _latency_chart(simulation: Simulation) -> BarChart:
    return latency_chart(
        "Simulated",
        _case(simulation),
        simulation.latency,
        beside_limit=_beside_limit,
        slowdown=lambda each: each.slowdown.mean,
        seconds=_in_seconds,
    )


def _case(simulation: Simulation) -> str:
    return f"{simulation.cluster}, {simulation.workload} on {simulation.model}, {simulation.load}"


def _in_seconds(result: LatencyResult) -> str:
    text = _milliseconds(result.seconds.mean)
    return f"{text} ms" if math.isfinite(result.seconds.mean) else text or "no request has it"


def _beside_limit(result: LatencyResult) -> str:
    """A value with its interval and its limit, in the limit's unit, and whether it is met."""
    assert result.limit is not None
    judged, text = result.judged, result.limit.format
    if judged.mean == -math.inf:
        return "no request has it"
    value = "never" if judged.mean == math.inf else text(judged.mean)
    interval = ""
    if judged.low is not None and judged.high is not None and math.isfinite(judged.high):
        interval = f" ({text(max(judged.low, 0.0))} to {text(judged.high)})"
    met = f": {_MET[result.met]}" if result.met else ""
    return f"{value}{interval} of {text(result.limit.value)}{met}"


def batches_chart(simulation: Simulation) -> LineChart:
    """The share of time with at most N requests in an iteration, for each pool, N from 0."""
    series = []
    for pool in simulation.pools:
        sums = list(accumulate(pool.batch_time_share))
        used = [batch for batch, share in enumerate(pool.batch_time_share) if share > 0.0 or batch == 0]
        series.append(
            Series(
                f"{pool.role}, {pool.machines} {pool.machine}",
                tuple(map(float, used)),
                tuple(min(100.0 * sums[batch], 100.0) for batch in used),
            )
        )
    return LineChart(
        f"Share of time with at most N requests in an iteration: {_case(simulation)}",
        Axis("requests in an iteration (0: idle)", logarithmic=True, from_zero=True),
        Axis("share of the pool's time (%)", from_zero=True),
        tuple(series),
        steps=True,
        points=False,
    )


def subtitle(simulation: Simulation) -> str:
    """One sentence on the case that was simulated and whether it holds."""
    verdict = {None: "no latency limits", True: "meets", False: "does not meet"}[simulation.slo_met]
    judged = verdict if simulation.slo_met is None else f"{verdict} SLO {simulation.slo}"
    unstable = "" if simulation.stable else "; unstable"
    return f"Simulated: {simulation.workload} on {simulation.model}, {simulation.load}: {judged}{unstable}."


def key_numbers(simulation: Simulation) -> KeyNumbers:
    """The verdicts on limits and stability, throughput, and counts."""
    numbers = []
    if simulation.slo_met is not None:
        numbers.append(KeyNumber("SLO", _slo(simulation)))
    numbers.append(KeyNumber("stable", "yes" if simulation.stable else f"no: {simulation.instability}"))
    offered = "" if not math.isfinite(simulation.rate_rps) else f" of {format_rate(simulation.rate_rps)} offered"
    if math.isfinite(simulation.throughput_rps):
        tokens = f"{significant(simulation.throughput_tokens_per_s)} output tokens/s"
        numbers.append(KeyNumber("throughput", f"{format_rate(simulation.throughput_rps)}{offered}", tokens))
    requests = f"{whole(simulation.requests)} requests"
    measured = f"{whole(simulation.measured_requests)} of them measured"
    numbers.append(
        KeyNumber("simulated", requests, measured)
        if simulation.sets == 1
        else KeyNumber("simulated", f"{simulation.sets} request sets", f"on average {requests}, {measured}")
    )
    events = (
        (simulation.moves, "moves to the mixed pool"),
        (simulation.preemptions, "preemptions"),
        (simulation.restarts, "restarts after failures"),
        (simulation.unfinished, "requests left unfinished"),
    )
    happened = [f"{count:,} {what}" for count, what in events if count]
    if happened:
        numbers.append(KeyNumber("events", happened[0], ", ".join(happened[1:])))
    return KeyNumbers(tuple(numbers))


def _slo(simulation: Simulation) -> str:
    def named(verdict: str) -> str:
        return ", ".join(_limited(each) for each in simulation.latency if each.met == verdict)

    failed, undecided = named("fail"), named("undecided")
    if not failed and not undecided:
        return f"met: {simulation.slo}"
    parts = ([f"missed by {failed}"] if failed else []) + ([f"undecided for {undecided}"] if undecided else [])
    return f"{simulation.slo}: {'; '.join(parts)}"


def _limited(result: LatencyResult) -> str:
    assert result.limit is not None
    value = result.judged.mean
    shown = "never" if value == math.inf else result.limit.format(value)
    return f"{result.label} ({shown} for {result.limit.format(result.limit.value)})"


def latency_table(latency: Sequence[LatencyResult]) -> Table:
    """One row per percentile with its interval, beside its limit; those not met stand out."""
    columns = (
        Column("latency"),
        Column("ms", True),
        Column("95 % interval", True),
        Column("slowdown, x", True),
        Column("95 % interval", True),
        Column("limit", True),
        Column(""),
    )
    rows = [
        (
            each.label,
            _milliseconds(each.seconds.mean),
            _interval(each.seconds, _milliseconds),
            _number(each.slowdown.mean),
            _interval(each.slowdown, _number),
            "" if each.limit is None else each.limit.format(each.limit.value),
            _MET[each.met],
        )
        for each in latency
    ]
    strong = [k for k, each in enumerate(latency) if each.met in ("fail", "undecided")]
    return table("Latency", columns, rows, strong)


def _milliseconds(seconds: float) -> str:
    return "" if seconds == -math.inf else "never" if seconds == math.inf else milliseconds(seconds)


def _number(value: float) -> str:
    return "" if value == -math.inf else "never" if value == math.inf else significant(value)


def _interval(of: Interval, text: Callable[[float], str]) -> str:
    return "" if of.low is None or of.high is None else f"{text(max(of.low, 0.0))} to {text(of.high)}"


def pools_table(simulation: Simulation) -> Table:
    """One row per pool: its size, and its time by kind of work."""
    columns = (
        Column("role"),
        Column("machine"),
        Column("machines", True),
        Column("TP", True),
        Column("busy, %", True),
        Column("prompts, %", True),
        Column("tokens, %", True),
        Column("mixed, %", True),
        Column("lent, %", True),
        Column("batch", True),
    )
    rows = [
        (
            pool.role,
            pool.machine,
            whole(pool.machines),
            whole(pool.tensor_parallel),
            per_cent(pool.utilization),
            per_cent(pool.prompt_busy),
            per_cent(pool.token_busy),
            per_cent(pool.mixed_busy),
            per_cent(pool.mixed_pool_share) if simulation.policy == "splitwise" else "",
            significant(pool.mean_batch),
        )
        for pool in simulation.pools
    ]
    return table("Pools", columns, rows)


def queues_table(simulation: Simulation) -> Table:
    """One row per pool: waiting prompts and KV memory of its replicas, and the tokens generated."""
    columns = (
        Column("role"),
        Column("machine"),
        Column("prompts waiting", True),
        Column("most", True),
        Column("KV memory, %", True),
        Column("most, %", True),
        Column("output tokens/s", True),
    )
    rows = [
        (
            pool.role,
            pool.machine,
            significant(pool.mean_waiting),
            whole(pool.most_waiting),
            per_cent(pool.kv_memory_mean),
            per_cent(pool.kv_memory_most),
            significant(pool.generated_tokens_per_s),
        )
        for pool in simulation.pools
    ]
    return table("Queues and memory of a replica", columns, rows)


def batches_table(simulation: Simulation) -> Table:
    """One row per pool: the share of its time by the number of requests in an iteration."""
    largest = max(len(pool.batch_time_share) for pool in simulation.pools) - 1
    groups = [(low, high) for low, high in _BATCHES if low <= largest]
    if largest > _BATCHES[-1][1]:
        groups.append((_BATCHES[-1][1] + 1, largest))
    columns = [Column("role"), Column("machine"), Column("idle", True)]
    columns += [Column(f"{low}" if low == high else f"{low}-{high}", True) for low, high in groups]
    rows = [
        (pool.role, pool.machine, _share(pool, 0, 0), *(_share(pool, low, high) for low, high in groups))
        for pool in simulation.pools
    ]
    return table("Share of time by requests in an iteration, %", columns, rows)


def _share(pool: SimulatedPool, low: int, high: int) -> str:
    return per_cent(math.fsum(pool.batch_time_share[low : high + 1]))


def _method(simulation: Simulation) -> Facts:
    rows = (
        ("policy", f"{simulation.policy} (docs/reference/simulation.md): {_thresholds(simulation.thresholds)}"),
        ("assumptions", simulation.assumptions),
        ("seed", str(simulation.seed)),
        (
            "time",
            f"{format_seconds(simulation.wall_s)}, median of warm runs" if simulation.repeated else "",
        ),
    )
    return method_facts("How this was simulated", rows, simulation.versions)


def _thresholds(thresholds: Mapping[str, float | bool]) -> str:
    retry_s = thresholds.get("transfer_retry_s", 0.0)
    texts = {
        "max_pending_tokens": "{:,} pending tokens",
        "batch_tokens": "{:,} tokens",
        "batch_requests": "{:,} requests in an iteration",
        "max_preemptions": "{:,} preemptions",
    }
    parts = [text.format(thresholds[name]) for name, text in texts.items() if name in thresholds]
    parts.append("links shared" if thresholds.get("share_links") else "links not shared")
    parts.append(f"transfers without room retried after {format_seconds(retry_s)}" if retry_s else "")
    return ", ".join(part for part in parts if part)


VIEW: Final = View(
    Simulation,
    document,
    charts,
    {
        "latency": lambda simulation: latency_rows(simulation.latency),
        "pools": lambda simulation: pool_rows(simulation.pools),
        "batches": batch_rows,
    },
)
"""The view of simulations."""

"""A simulation as a report: the verdict first, then latency, pools, batches, warnings and evidence."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import Final

from provisioner.options import SimulateOptions
from provisioner.report.chart import Axis, Chart, LineChart, Series
from provisioner.report.document import Boxes, Column, Document, KeyNumber, KeyNumbers, Table, listing
from provisioner.report.numbers import milliseconds, per_cent, significant, simulated, whole
from provisioner.report.tables import Row, flat
from provisioner.report.views.view import (
    POOL,
    Tables,
    View,
    attainment_numbers,
    bounds,
    latency_chart,
    limit_cells,
    over,
    report,
    scheduler,
)
from provisioner.results.capacity import Capacity
from provisioner.results.simulation import Interval, LatencyResult, SimulatedPool, Simulation
from provisioner.specs.roles import ROLES
from provisioner.specs.units import format_rate, format_seconds

_MET: Final = {"pass": "met", "fail": "missed", "undecided": "undecided", None: ""}
# Batches are shown by powers of two: these are the largest of each group.
_BATCHES: Final = (0, *(2**power for power in range(10)))


def document(simulation: Simulation, inputs: bool = False) -> Document:
    """The report of a simulation. ``inputs`` adds every option."""
    lends = simulation.policy == "splitwise"
    pools = listing(
        "Pools",
        simulation.pools,
        *POOL,
        (Column("busy, %", True), lambda pool: per_cent(pool.utilization)),
        (Column("prompts, %", True), lambda pool: per_cent(pool.prompt_busy)),
        (Column("tokens, %", True), lambda pool: per_cent(pool.token_busy)),
        (Column("mixed, %", True), lambda pool: per_cent(pool.mixed_busy)),
        (Column("lent, %", True), lambda pool: per_cent(pool.mixed_pool_share if lends else None)),
        (Column("batch", True), lambda pool: significant(pool.mean_batch)),
    )
    blocks = (
        key_numbers(simulation),
        latency_table(simulation),
        Boxes(pools, simulation.pools),
        listing(
            "Queues and memory of a replica",
            simulation.pools,
            *POOL[:2],
            (Column("prompts waiting", True), lambda pool: significant(pool.mean_waiting)),
            (Column("most", True), lambda pool: whole(pool.most_waiting)),
            (Column("KV memory, %", True), lambda pool: per_cent(pool.kv_memory_mean)),
            (Column("most, %", True), lambda pool: per_cent(pool.kv_memory_most)),
            (Column("output tokens/s", True), lambda pool: significant(pool.generated_tokens_per_s / pool.replicas)),
        ),
        batches_table(simulation),
    )
    repeated = f"{format_seconds(simulation.wall_s)}, median of warm runs"
    method = (
        ("policy", f"{simulation.policy} (docs/reference/simulation.md): {_thresholds(simulation.thresholds)}"),
        *scheduler(simulation.policy),
        ("assumptions", simulation.assumptions),
        ("seed", str(simulation.seed)),
        ("time", repeated if simulation.repeated else ""),
    )
    headline, subject = simulation.cluster.headline, subtitle(simulation)
    return report(simulation, headline, subject, blocks, method, SimulateOptions, inputs, how="simulated")


def charts(simulation: Simulation) -> Mapping[str, Chart]:
    """Latencies beside their limits, and for each pool the share of time with at most N requests in an iteration."""
    case = f"{simulation.cluster}, {simulation.workload} on {simulation.model}, {simulation.load}"
    series = []
    for pool in simulation.pools:
        sums = list(accumulate(pool.batch_time_share))
        used = [batch for batch, share in enumerate(pool.batch_time_share) if share > 0.0 or batch == 0]
        upto = tuple(min(100.0 * sums[batch], 100.0) for batch in used)
        series.append(Series(f"{pool.role}, {pool.machines} {pool.machine}", tuple(map(float, used)), upto))
    batches = LineChart(
        f"Share of time with at most N requests in an iteration: {case}",
        Axis("requests in an iteration (0: idle)", logarithmic=True, from_zero=True),
        Axis("share of the pool's time (%)", from_zero=True),
        tuple(series),
        steps=True,
        points=False,
    )
    latency = latency_chart("Simulated", case, simulation.latency, lambda each: each.slowdown.mean, _note)
    return {"latency": latency, "batches": batches}


def latency_rows(latency: Sequence[LatencyResult]) -> list[Row]:
    """One row per metric and percentile: means with their intervals, the limit in ``limit_kind``, and the verdict."""
    return [
        {
            "metric": figure.metric,
            "percentile": figure.percentile,
            "seconds": figure.seconds.mean,
            **bounds("seconds", (figure.seconds.low, figure.seconds.high)),
            "slowdown": figure.slowdown.mean,
            **bounds("slowdown", (figure.slowdown.low, figure.slowdown.high)),
            **limit_cells(figure.limit),
            "met": figure.met or "",
        }
        for figure in latency
    ]


def batch_rows(simulation: Simulation) -> list[Row]:
    """One row per pool and batch: the share of time with that number of requests in an iteration (0: idle)."""
    return [
        {"role": pool.role, "machine": pool.machine, "batch": batch, "time_share": share}
        for pool in simulation.pools
        for batch, share in enumerate(pool.batch_time_share)
    ]


def _note(result: LatencyResult) -> str:
    """A value with its interval and its limit, in the limit's unit, and whether it is met; without a limit in ms."""
    if result.limit is None:
        seconds = simulated(result.seconds.mean, milliseconds)
        return f"{seconds} ms" if math.isfinite(result.seconds.mean) else seconds or "no request has it"
    judged, text = result.judged, result.limit.format
    if judged.mean == -math.inf:
        return "no request has it"
    value = simulated(judged.mean, text)
    interval = ""
    if judged.low is not None and judged.high is not None and math.isfinite(judged.high):
        interval = f" ({text(max(judged.low, 0.0))} to {text(judged.high)})"
    met = f": {_MET[result.met]}" if result.met else ""
    return f"{value}{interval} of {text(result.limit.value)}{met}"


def subtitle(simulation: Simulation) -> str:
    """One sentence on the case that was simulated and whether it holds."""
    verdicts = {True: f"meets SLO {simulation.slo}", False: f"does not meet SLO {simulation.slo}"}
    judged = "no latency limits" if simulation.slo_met is None else verdicts[simulation.slo_met]
    unstable = {True: "", False: "; unstable", None: "; too short to tell whether it is stable"}[simulation.stable]
    return f"Simulated: {simulation.workload} on {simulation.model}, {simulation.load}: {judged}{unstable}."


def key_numbers(simulation: Simulation) -> KeyNumbers:
    """The verdicts on limits and stability, throughput, and counts."""
    numbers = []
    if simulation.slo_met is not None:
        numbers.append(KeyNumber("SLO", _slo(simulation)))
    numbers += attainment_numbers(simulation.attainment)
    stable = {True: "yes", False: f"no: {simulation.instability}", None: simulation.instability}
    numbers.append(KeyNumber("stable", stable[simulation.stable]))
    offered = f" of {format_rate(simulation.rate_rps)} offered" if math.isfinite(simulation.rate_rps) else ""
    if math.isfinite(simulation.throughput_rps):
        tokens = f"{significant(simulation.throughput_tokens_per_s)} output tokens/s"
        numbers.append(KeyNumber("throughput", f"{format_rate(simulation.throughput_rps)}{offered}", tokens))
    counts = [f"{whole(simulation.requests)} requests", f"{whole(simulation.measured_requests)} of them measured"]
    if simulation.sets > 1:
        counts = [f"{simulation.sets} request sets", f"on average {', '.join(counts)}"]
    numbers.append(KeyNumber("simulated", *counts))
    events = (
        (simulation.moves, "move{} to the mixed pool"),
        (simulation.preemptions, "preemption{}"),
        (simulation.restarts, "restart{} after failures"),
        (simulation.unfinished, "request{} left unfinished"),
    )
    if happened := [f"{count:,} {what.format('s' * (count != 1))}" for count, what in events if count]:
        numbers.append(KeyNumber("events", happened[0], ", ".join(happened[1:])))
    return KeyNumbers(tuple(numbers))


def _slo(simulation: Simulation) -> str:
    parts = []
    for verdict, said in (("fail", "missed by"), ("undecided", "undecided for")):
        values = [
            f"{each.label} ({simulated(each.judged.mean, limit.format)} for {limit.format(limit.value)})"
            for each in simulation.latency
            if each.met == verdict and (limit := each.limit)
        ]
        parts += [f"{said} {', '.join(values)}"] if values else []
    return f"{simulation.slo}: {'; '.join(parts)}" if parts else f"met: {simulation.slo}"


def latency_table(simulation: Simulation | Capacity) -> Table:
    """One row per percentile with its interval, beside its limit; those not met stand out."""
    return listing(
        f"Latency{over(simulation)}",
        simulation.latency,
        (Column("latency"), lambda each: each.label),
        (Column("ms", True), lambda each: simulated(each.seconds.mean, milliseconds)),
        (Column("95 % interval", True), lambda each: _interval(each.seconds, milliseconds)),
        (Column("slowdown, x", True), lambda each: simulated(each.slowdown.mean)),
        (Column("95 % interval", True), lambda each: _interval(each.slowdown, significant)),
        (Column("limit", True), lambda each: each.limit.format(each.limit.value) if each.limit else ""),
        (Column(""), lambda each: _MET[each.met]),
        strong=lambda each: each.met in ("fail", "undecided"),
    )


def _interval(of: Interval, text: Callable[[float], str]) -> str:
    if of.low is None or of.high is None:
        return ""
    return f"{simulated(max(of.low, 0.0), text)} to {simulated(of.high, text)}"


def batches_table(simulation: Simulation) -> Table:
    """One row per pool: the share of its time by the number of requests in an iteration."""
    largest = max(len(pool.batch_time_share) for pool in simulation.pools) - 1
    ends = (*_BATCHES, max(largest, _BATCHES[-1]))
    groups = [(below + 1, high) for below, high in pairwise(ends) if below < largest]
    headers = {"idle": (0, 0)} | {f"{low}" if low == high else f"{low}-{high}": (low, high) for low, high in groups}

    def share(pool: SimulatedPool, low: int, high: int) -> str:
        return per_cent(math.fsum(pool.batch_time_share[low : high + 1]))

    return listing(
        "Share of time by requests in an iteration, %",
        simulation.pools,
        *POOL[:2],
        *((Column(header, True), partial(share, low=low, high=high)) for header, (low, high) in headers.items()),
    )


def _thresholds(thresholds: Mapping[str, float | bool | str]) -> str:
    texts = {
        "max_pending_tokens": "{:,} pending tokens",
        "batch_tokens": "{:,} tokens",
        **{f"{role}_batch_tokens": f"{{:,}} tokens ({role})" for role in ROLES},
        "batch_requests": "{:,} requests in an iteration",
        "max_preemptions": "{:,} preemptions",
        "deflect_below_tokens": "prompts below {:,} tokens computed where they are decoded",
        "order": "{}",
        "admission": "admission: {}",
        "first_token": "first token from {} machines",
    }
    known = {name: value for name, value in thresholds.items() if value != "decode-first"}  # the usual order
    parts = [text.format(known[name]) for name, text in texts.items() if name in known]
    parts.append("links shared" if thresholds.get("share_links") else "links not shared")
    if handover_s := float(thresholds.get("handover_s", 0.0)):
        parts.append(f"handover {format_seconds(handover_s)}")
    if retry_s := float(thresholds.get("transfer_retry_s", 0.0)):
        parts.append(f"transfers without room retried after {format_seconds(retry_s)}")
    return ", ".join(parts)


_TABLES: Final[Tables[Simulation]] = {
    "latency": lambda simulation: latency_rows(simulation.latency),
    "pools": lambda simulation: [flat(pool) for pool in simulation.pools],
    "batches": batch_rows,
}
VIEW: Final = View(Simulation, document, charts, _TABLES)

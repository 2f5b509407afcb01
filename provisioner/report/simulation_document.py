"""A simulation as a report: whether it holds first, then latency, pools, batches, warnings and evidence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, Final

from provisioner.report.chart import Axis, BarChart, Bars, Chart, LineChart, Rule, Series
from provisioner.report.command_line import simulate_command, simulate_question
from provisioner.report.document import Block, Code, Column, Document, Facts, Notes, Table, table
from provisioner.report.numbers import milliseconds, per_cent, significant, whole
from provisioner.report.plan_document import shown
from provisioner.simulation.result import Interval, LatencyResult, PoolResult, Simulation
from provisioner.specs.units import format_rate, format_seconds

# Of the versions, those of the program itself and of what runs it.
_PROGRAM: Final = ("provisioner", "python")
_METRIC: Final = {"ttft": "TTFT", "tbt": "TBT", "largest_gap": "largest gap", "e2e": "E2E"}
_MET: Final = {"pass": "met", "fail": "missed", "undecided": "undecided", None: ""}
# Batches are shown by powers of two.
_BATCHES: Final = ((1, 1), (2, 2), (3, 4), (5, 8), (9, 16), (17, 32), (33, 64), (65, 128), (129, 256), (257, 512))


def simulation_document(found: Simulation, *, inputs: bool = False, written: Sequence[str] = ()) -> Document:
    """The report of a simulation. ``inputs`` adds every option; ``written`` names files that hold it too."""
    blocks: list[Block] = [answer_facts(found), latency_table(found), pools_table(found)]
    blocks += [queues_table(found), batches_table(found)]
    if found.warnings:
        blocks.append(Notes("Warnings", tuple(found.warnings), warning=True))
    blocks += [Notes("Sources", tuple(found.sources)), method_facts(found)]
    if inputs:
        rows = [(name, shown(value)) for name, value in simulate_question(found.question).items()]
        blocks.append(Table("Inputs", (Column("option"), Column("value", words=True)), tuple(rows)))
        blocks.append(Code("To repeat this simulation", simulate_command(found.question)))
    if written:
        blocks.append(Facts("", (("written to", ", ".join(written)),)))
    return Document(headline(found), subtitle(found), tuple(blocks))


def simulation_charts(found: Simulation) -> tuple[Chart, ...]:
    """Latencies beside their limits, and how large batches are."""
    return latency_chart(found), batches_chart(found)


def latency_chart(found: Simulation) -> BarChart:
    """Each percentile over its limit; without limits, over what the request takes alone on the reference."""
    limited = [each for each in found.latency if each.limit is not None]
    if not limited:
        return BarChart(
            f"Simulated latency over that of the same request alone: {_case(found)}",
            tuple(map(_name, found.latency)),
            Axis("slowdown (x)", from_zero=True),
            (
                Bars(
                    "",
                    tuple(_over(each.slowdown, 1.0) for each in found.latency),
                    tuple(_in_seconds(each) for each in found.latency),
                ),
            ),
        )
    return BarChart(
        f"Simulated latency over its limit: {_case(found)}",
        tuple(map(_name, limited)),
        Axis("percentile over its limit (x)", from_zero=True),
        (
            Bars(
                "",
                tuple(_over(each.judged, each.limit.value) for each in limited if each.limit is not None),
                tuple(map(_beside_limit, limited)),
            ),
        ),
        (Rule(1.0, "limit"),),
    )


def _case(found: Simulation) -> str:
    pools = " + ".join(str(pool.machines) for pool in found.pools)
    return f"{found.design} {pools}, {found.workload} on {found.model}, {found.load}"


def _over(of: Interval, limit: float) -> float | None:
    """A mean over its limit; None where no request has the metric."""
    return None if of.mean == -math.inf else of.mean / limit


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


def batches_chart(found: Simulation) -> LineChart:
    """For each pool the share of its time with at most so many requests in an iteration, from none."""
    series = []
    for pool in found.pools:
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
        f"Share of time with at most so many requests in an iteration: {_case(found)}",
        Axis("requests in an iteration (0: idle)", logarithmic=True, from_zero=True),
        Axis("share of the pool's time (%)", from_zero=True),
        tuple(series),
        steps=True,
        points=False,
    )


def headline(found: Simulation) -> str:
    """The cluster."""
    pools = " + ".join(f"{pool.machines} {pool.machine} ({pool.role})" for pool in found.pools)
    return f"{found.design}: {pools}"


def subtitle(found: Simulation) -> str:
    """What was simulated, and whether it holds, in a sentence."""
    verdict = {None: "no latency limits", True: "meets", False: "does not meet"}[found.slo_met]
    judged = verdict if found.slo_met is None else f"{verdict} SLO {found.slo}"
    unstable = "" if found.stable else "; unstable"
    return f"Simulated: {found.workload} on {found.model}, {found.load}: {judged}{unstable}."


def answer_facts(found: Simulation) -> Facts:
    """Whether limits are met and the cluster is stable, throughput, and what was counted."""
    facts = []
    if found.slo_met is not None:
        facts.append(("SLO", _slo(found)))
    facts.append(("stable", "yes" if found.stable else f"no: {found.instability}"))
    offered = "" if not math.isfinite(found.rate_rps) else f" of {format_rate(found.rate_rps)} offered"
    if math.isfinite(found.throughput_rps):
        tokens = significant(found.throughput_tokens_per_s)
        facts.append(("throughput", f"{format_rate(found.throughput_rps)}{offered}, {tokens} output tokens/s"))
    measured = f"{whole(found.requests)} requests, {whole(found.measured_requests)} of them measured"
    facts.append(("simulated", measured if found.sets == 1 else f"{found.sets} request sets, on average {measured}"))
    events = (
        (found.moves, "moves to the mixed pool"),
        (found.preemptions, "preemptions"),
        (found.restarts, "restarts after failures"),
        (found.unfinished, "requests left unfinished"),
    )
    happened = [f"{count:,} {what}" for count, what in events if count]
    if happened:
        facts.append(("events", ", ".join(happened)))
    return Facts("", tuple(facts))


def _slo(found: Simulation) -> str:
    def named(verdict: str) -> str:
        return ", ".join(_limited(each) for each in found.latency if each.met == verdict)

    failed, undecided = named("fail"), named("undecided")
    if not failed and not undecided:
        return f"met: {found.slo}"
    parts = ([f"missed by {failed}"] if failed else []) + ([f"undecided for {undecided}"] if undecided else [])
    return f"{found.slo}: {'; '.join(parts)}"


def _limited(result: LatencyResult) -> str:
    assert result.limit is not None
    value = result.judged.mean
    shown = "never" if value == math.inf else result.limit.format(value)
    return f"{_name(result)} ({shown} for {result.limit.format(result.limit.value)})"


def _name(result: LatencyResult) -> str:
    return f"{_METRIC[result.metric]} P{result.percentile:g}"


def latency_table(found: Simulation) -> Table:
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
            _name(each),
            _milliseconds(each.seconds.mean),
            _interval(each.seconds, _milliseconds),
            _number(each.slowdown.mean),
            _interval(each.slowdown, _number),
            "" if each.limit is None else each.limit.format(each.limit.value),
            _MET[each.met],
        )
        for each in found.latency
    ]
    strong = [k for k, each in enumerate(found.latency) if each.met in ("fail", "undecided")]
    return table("Latency", columns, rows, strong)


def _milliseconds(seconds: float) -> str:
    return "" if seconds == -math.inf else "never" if seconds == math.inf else milliseconds(seconds)


def _number(value: float) -> str:
    return "" if value == -math.inf else "never" if value == math.inf else significant(value)


def _interval(of: Interval, text: Any) -> str:
    return "" if of.low is None or of.high is None else f"{text(max(of.low, 0.0))} to {text(of.high)}"


def pools_table(found: Simulation) -> Table:
    """One row per pool: its size, and how its time went."""
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
            per_cent(pool.mixed_pool_share) if found.policy == "splitwise" else "",
            significant(pool.mean_batch),
        )
        for pool in found.pools
    ]
    return table("Pools", columns, rows)


def queues_table(found: Simulation) -> Table:
    """One row per pool: waiting prompts and KV memory of its replicas, and the tokens that they gave."""
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
        for pool in found.pools
    ]
    return table("Queues and memory of a replica", columns, rows)


def batches_table(found: Simulation) -> Table:
    """One row per pool: the share of its time by the number of requests in an iteration."""
    largest = max(len(pool.batch_time_share) for pool in found.pools) - 1
    groups = [(low, high) for low, high in _BATCHES if low <= largest]
    if largest > _BATCHES[-1][1]:
        groups.append((_BATCHES[-1][1] + 1, largest))
    columns = [Column("role"), Column("machine"), Column("idle", True)]
    columns += [Column(f"{low}" if low == high else f"{low}-{high}", True) for low, high in groups]
    rows = [
        (pool.role, pool.machine, _share(pool, 0, 0), *(_share(pool, low, high) for low, high in groups))
        for pool in found.pools
    ]
    return table("Share of time by requests in an iteration, %", columns, rows)


def _share(pool: PoolResult, low: int, high: int) -> str:
    return per_cent(math.fsum(pool.batch_time_share[low : high + 1]))


def method_facts(found: Simulation) -> Facts:
    """How it was simulated."""
    program = [f"{name} {found.versions[name]}" for name in _PROGRAM if name in found.versions]
    libraries = [f"{name} {version}" for name, version in found.versions.items() if name not in _PROGRAM]
    facts = [
        ("policy", f"{found.policy} (docs/reference/simulation.md): {_thresholds(found.thresholds)}"),
        ("assumptions", found.assumptions),
        ("seed", str(found.seed)),
        ("time", f"{format_seconds(found.wall_s)}, median of warm runs" if found.question.get("repeat") else ""),
        ("program", ", ".join(program)),
        ("libraries", ", ".join(libraries)),
    ]
    return Facts("How this was simulated", tuple(fact for fact in facts if fact[1]))


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

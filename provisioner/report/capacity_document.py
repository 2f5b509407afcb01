"""A capacity as a report: the largest rate first, then what breaks above it, what to add for more, and latencies."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from provisioner.options import PlanOptions
from provisioner.options.command import typed as arguments
from provisioner.report.chart import Axis, BarChart, Bars, Chart, LineChart, Rule, Series
from provisioner.report.document import Block, Code, Column, Document, Facts, Notes, Table, table
from provisioner.report.numbers import dollars, kilowatts, per_cent, significant, whole
from provisioner.report.views.simulation import latency_table
from provisioner.report.views.view import method_facts, shown
from provisioner.specs.units import format_cost, format_power, format_rate, format_share

if TYPE_CHECKING:
    from provisioner.results.simulation import SimulatedPool
    from provisioner.studies.capacity import Addition, Capacity, Tried


def capacity_document(found: Capacity, *, inputs: bool = False) -> Document:
    """The report of a capacity. ``inputs`` adds every option."""
    blocks: list[Block] = [answer_facts(found)]
    if found.breaks:
        blocks.append(breaks_table(found))
    if found.additions:
        blocks.append(additions_table(found))
        refused = [f"{format_rate(a.rate_rps)}: {a.reason}" for a in found.additions if not a.feasible]
        if refused:
            blocks.append(Notes("Rates that nothing added holds", tuple(refused)))
    blocks += [pools_table(found), latency_table(found.simulation)]
    if found.warnings:
        blocks.append(Notes("Warnings", tuple(found.warnings), warning=True))
    blocks += [Notes("Sources", tuple(found.sources)), _method(found)]
    if inputs:
        rows = [(name, shown(value)) for name, value in found.question.items()]
        blocks.append(Table("Inputs", (Column("option"), Column("value", words=True)), tuple(rows)))
        blocks.append(Code("To repeat this", capacity_command(found.question)))
    return Document(headline(found), subtitle(found), tuple(blocks))


def capacity_command(question: Mapping[str, Any]) -> str:
    """The ``provision capacity`` command of a question, with its defaults written out."""
    typed = ["provision", "capacity"]
    for role in ("prompt", "token", "mixed"):
        if question.get(role) is not None:
            typed += [f"--{role}", str(question[role])]
    for rate in question.get("to") or ():
        typed += ["--to", f"{rate:.12g}"]
    typed += [] if question.get("additions", True) else ["--no-additions"]
    return shlex.join([*typed, *arguments(question, PlanOptions)])


def headline(found: Capacity) -> str:
    """The cluster and the rate that it holds."""
    pools = " + ".join(f"{n} {name} ({role})" for role, name, n in found.pools)
    return f"{found.design} with {pools} holds {format_rate(found.rate_rps)}"


def subtitle(found: Capacity) -> str:
    """What was asked, in a sentence."""
    within = f"within SLO {found.slo}" if any(each.limit for each in found.simulation.latency) else "stable"
    return f"The largest rate of {found.workload} on {found.model} that this cluster serves {within}."


def answer_facts(found: Capacity) -> Facts:
    """The rate, how sharp it is, what binds, and what the cluster costs."""
    facts = [("holds", f"{found.rate_rps:.4g} requests/s, {found.failed_rps:.4g} not: the first failure to 1 %")]
    if found.passes_again_rps:
        flips = f"passes again at {', '.join(f'{rate:.4g}' for rate in found.passes_again_rps)} requests/s: " + (
            "between these rates chance decides"
        )
    else:
        flips = "at 1, 2 and 4 % more it fails too"
    facts.append(("beyond", flips))
    if not found.stable:
        facts.append(("binding", "capacity: above, requests wait ever longer"))
    elif found.breaks:
        worst = found.breaks[0]
        how = ", within, but not with the confidence asked for" if worst.undecided else ""
        facts.append(("binding", f"{worst.limit}: above, {worst.value} of {worst.allowed}{how}"))
    facts += [
        ("cost", format_cost(found.cost_usd_per_h)),
        ("power", format_power(found.power_w)),
        ("machines", whole(found.machines)),
    ]
    return Facts("", tuple(facts))


def breaks_table(found: Capacity) -> Table:
    """What is missed at the first failure, beside what it is at the largest rate that passes."""
    at_rate = {
        each.limit.label: each.limit.format(each.judged.mean)
        for each in found.simulation.latency
        if each.limit is not None
    }
    columns = (
        Column("limit"),
        Column("allowed", True),
        Column(f"at {found.rate_rps:.4g} requests/s", True),
        Column(f"at {found.failed_rps:.4g}", True),
        Column("over by, %", True),
        Column(""),
    )
    rows = []
    for each in found.breaks:
        over = per_cent(each.ratio - 1.0) if each.ratio > 1.0 else ""
        value = each.value if math.isfinite(each.ratio) else "unbounded"
        state = "undecided: its upper bound is beyond" if each.undecided else ""
        rows.append((each.limit, each.allowed, at_rate.get(each.limit, ""), value, over, state))
    return table("What breaks just above", columns, rows)


def additions_table(found: Capacity) -> Table:
    """The least to add for each higher rate."""
    columns = (
        Column("requests/s", True),
        Column("against now", True),
        Column("add", words=True),
        Column("for", words=True),
        Column("$/h more", True),
        Column("kW more", True),
        Column("$/h", True),
        Column("kW", True),
        Column("simulated", True),
    )
    rows = []
    for each in found.additions:
        more = f"+{format_share(each.rate_rps / found.rate_rps - 1.0)}".replace("+-", "-")
        if not each.feasible:
            rows.append((significant(each.rate_rps), more, "not possible", "", "", "", "", "", whole(each.simulated)))
            continue
        rows.append(
            (
                significant(each.rate_rps),
                more,
                _added(found, each),
                " + ".join(f"{n + k} {role}" for (role, _, n), k in zip(found.pools, each.machines, strict=True)),
                dollars(each.cost_usd_per_h, sign=False),
                kilowatts(each.power_w),
                dollars(found.cost_usd_per_h + each.cost_usd_per_h, sign=False),
                kilowatts(found.power_w + each.power_w),
                whole(each.simulated),
            )
        )
    least = {"cost": "cost", "power": "power", "machines": "machines"}[found.objective]
    return table(f"What to add for more, the least {least}", columns, rows)


def _added(found: Capacity, each: Addition) -> str:
    texts = [f"{k} {role}" for (role, _, _), k in zip(found.pools, each.machines, strict=True) if k]
    text = " + ".join(texts) or "nothing"
    return text if each.proven else f"{text} (less may do: time limit)"


def pools_table(found: Capacity) -> Table:
    """What the pools do at the largest rate."""
    columns = (
        Column("role"),
        Column("machine"),
        Column("machines", True),
        Column("busy, %", True),
        Column("lent, %", True),
        Column("batch", True),
        Column("KV memory, %", True),
        Column("most KV memory, %", True),
    )
    rows = [_pool_row(pool) for pool in found.simulation.pools]
    return table(f"Pools at {format_rate(found.rate_rps)}", columns, rows)


def _pool_row(pool: SimulatedPool) -> tuple[str, ...]:
    return (
        pool.role,
        pool.machine,
        whole(pool.machines),
        per_cent(pool.utilization),
        per_cent(pool.mixed_pool_share) if pool.role != "mixed" else "",
        significant(pool.mean_batch),
        per_cent(pool.kv_memory_mean),
        per_cent(pool.kv_memory_most),
    )


def _method(found: Capacity) -> Facts:
    """How the rate was found."""
    rows = (
        ("passes when", found.rule),
        ("rates", f"{len(found.tried)} tried, to 1 %; additions proven by simulation, no pool smaller than in hand"),
        ("seed", str(found.seed)),
    )
    return method_facts("How this was computed", rows, found.versions)


def _series(name: str, tried: Sequence[Tried]) -> Series:
    x = tuple(each.rate_rps for each in tried)
    return Series(name, x, tuple(each.worst_ratio for each in tried), notes=tuple(each.outcome for each in tried))


def capacity_charts(found: Capacity) -> tuple[Chart, ...]:
    """The worst limit against the rate; then what the additions cost."""
    tried = [each for each in found.tried if math.isfinite(each.worst_ratio)]
    name = " + ".join(f"{n} {role}" for role, _, n in found.pools)
    series = [_series(f"{found.design} {name}", [each for each in tried if not each.at_least])]
    early = [each for each in tried if each.at_least]
    series += [_series("at least this (stopped early)", early)] if early else []
    title = f"How close the cluster is to its limits: {found.workload} on {found.model}, SLO {found.slo}"
    charts: list[Chart] = [
        LineChart(
            title,
            Axis("rate (requests/s)"),
            Axis("largest percentile over its limit", from_zero=True),
            tuple(series),
            rules=(Rule(1.0, "limit"), Rule(found.rate_rps, f"holds {found.rate_rps:.4g} requests/s", "x")),
        )
    ]
    if found.additions:
        in_hand = (format_rate(found.rate_rps), found.cost_usd_per_h, "in hand")
        groups = [in_hand]
        for each in found.additions:
            cost = found.cost_usd_per_h + each.cost_usd_per_h if each.feasible else None
            note = f"add {_added(found, each)}" if each.feasible else each.reason
            groups.append((format_rate(each.rate_rps), cost, note))  # type: ignore[arg-type]
        bars = Bars("cost", tuple(cost for _, cost, _ in groups), tuple(note for _, _, note in groups))
        label = "What more costs: the cluster in hand with the least that has to be added"
        charts.append(BarChart(label, tuple(g for g, _, _ in groups), Axis("cost ($/h)", from_zero=True), (bars,)))
    return tuple(charts)

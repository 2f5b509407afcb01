"""A capacity as a report: the largest rate, the limits that break above it, additions for more, and latencies."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from provisioner.options import CapacityOptions
from provisioner.report.chart import Axis, BarChart, Bars, Chart, LineChart, Rule, Series
from provisioner.report.document import Boxes, Column, Document, KeyNumber, KeyNumbers, Notes, Table, listing
from provisioner.report.numbers import per_cent, significant
from provisioner.report.tables import Row, flat
from provisioner.report.views.simulation import latency_rows, latency_table
from provisioner.report.views.view import (
    POOL,
    Tables,
    View,
    amount,
    attainment_numbers,
    criteria_columns,
    degree_cells,
    degrees,
    report,
    total_cells,
)
from provisioner.results.capacity import Addition, Capacity
from provisioner.results.cluster import Totals
from provisioner.specs.criteria import CRITERIA, OF_CLUSTERS
from provisioner.specs.roles import RoleName
from provisioner.specs.slo import LatencyLimit
from provisioner.specs.units import format_rate, format_share


def document(capacity: Capacity, inputs: bool = False) -> Document:
    """The report of a capacity. ``inputs`` adds every option."""
    lends = any(pool.mixed_pool_share for pool in capacity.pools if pool.role != "mixed")
    budgets = {pool.role: tokens for pool, tokens in zip(capacity.pools, capacity.batch_tokens, strict=True)}
    pools = listing(
        f"Pools at {format_rate(capacity.rate_rps)}",
        capacity.pools,
        *POOL,
        (Column("token budget", True), lambda pool: "" if (most := budgets[pool.role]) is None else f"{most:,}"),
        (Column("busy, %", True), lambda pool: per_cent(pool.utilization)),
        (Column("lent, %", True), lambda pool: per_cent(pool.mixed_pool_share) if lends else ""),
        (Column("batch", True), lambda pool: significant(pool.mean_batch)),
        (Column("KV memory, %", True), lambda pool: per_cent(pool.kv_memory_mean)),
        (Column("most KV memory, %", True), lambda pool: per_cent(pool.kv_memory_most)),
    )
    refused = (each for each in capacity.additions if not each.feasible)
    blocks = (
        _key_numbers(capacity),
        _breaks_table(capacity),
        _additions_table(capacity),
        Notes("Rates that nothing added holds", tuple(f"{format_rate(of.rate_rps)}: {of.reason}" for of in refused)),
        Boxes(pools, capacity.pools),
        latency_table(capacity),
    )
    tried = f"{len(capacity.tried)} tried, to 1 %; additions proven by simulation, no pool smaller than in hand"
    every = ", ".join("+".join(map(str, degrees)) for degrees in capacity.considered)
    method = (
        ("passes when", capacity.rule),
        ("rates", tried),
        ("TP", f"{every}: the machines in hand, and with what is added, are at the one that holds most"),
        ("seed", str(capacity.seed)),
    )
    limited = any(each.limit for each in capacity.latency)
    within = f"within SLO {capacity.slo}" if limited else "stable"
    at = f"{capacity.cluster.listed} at TP {capacity.cluster.degrees}"
    headline = f"{capacity.design} with {at} holds {format_rate(capacity.rate_rps)}"
    subtitle = f"The largest rate of {capacity.workload} on {capacity.model} that this cluster serves {within}."
    return report(capacity, headline, subtitle, blocks, method, CapacityOptions, inputs)


def _key_numbers(capacity: Capacity) -> KeyNumbers:
    """The rate, the first failure, the binding limit, and the cost of the cluster."""
    beyond = ("fails too", "at 1, 2 and 4 % more")
    if again := ", ".join(f"{rate:.4g}" for rate in capacity.passes_again_rps):
        beyond = (f"passes again at {again} requests/s", "between these rates chance decides")
    numbers = [
        KeyNumber("holds", f"{capacity.rate_rps:.4g} requests/s"),
        KeyNumber("fails at", f"{capacity.failed_rps:.4g} requests/s", "the first failure, to 1 %"),
        KeyNumber("beyond", *beyond),
    ]
    if not capacity.stable_beyond:
        why = "runs are too short to tell" if capacity.stable_beyond is None else "requests wait ever longer"
        numbers.append(KeyNumber("binding", "capacity", f"above, {why}"))
    elif capacity.breaks:
        worst = capacity.breaks[0]
        how = ", within, but not with the confidence asked for" if worst.met == "undecided" else ""
        numbers.append(KeyNumber("binding", worst.label, f"above, {worst.beside_limit}{how}"))
    numbers += attainment_numbers(capacity.attainment)
    return KeyNumbers((*numbers, *(amount(name, capacity.totals) for name in OF_CLUSTERS)))


def _breaks_table(capacity: Capacity) -> Table:
    """Limits that are missed at the first failure, with their values there and at the largest rate that passes."""
    held = {each.limit: each.judged.mean for each in capacity.latency}

    def shown(limit: LatencyLimit | None, value: float | None) -> str:
        if limit is None or value is None:
            return ""
        return limit.format(value) if math.isfinite(value) else "unbounded"

    return listing(
        "What breaks just above",
        capacity.breaks,
        (Column("limit"), lambda each: each.label),
        (Column("allowed", True), lambda each: shown(each.limit, each.limit.value if each.limit else None)),
        (Column(f"at {capacity.rate_rps:.4g} requests/s", True), lambda each: shown(each.limit, held[each.limit])),
        (Column(f"at {capacity.failed_rps:.4g}", True), lambda each: shown(each.limit, each.judged.mean)),
        (Column("over by, %", True), lambda each: per_cent(over - 1.0) if (over := each.over_limit or 0) > 1 else ""),
        (Column(""), lambda each: "undecided: its upper bound is beyond" if each.met == "undecided" else ""),
    )


def _additions_table(capacity: Capacity) -> Table:
    """The least to add for each higher rate."""
    now = capacity.rate_rps
    return listing(
        f"What to add for more, the least {capacity.objective}",
        capacity.additions,
        (Column("requests/s", True), lambda each: significant(each.rate_rps)),
        (Column("more", True), lambda each: f"+{format_share(each.rate_rps / now - 1.0)}".replace("+-", "-")),
        (Column("add", words=True), _added),
        (Column("for", words=True), lambda each: " + ".join(f"{n} {role}" for role, n in _sizes(capacity, each))),
        degrees(lambda each: each.added),
        (Column("token budget", True), lambda each: " + ".join(f"{most:,}" for most in each.batch_tokens if most)),
        *criteria_columns(("cost",), lambda each: each.totals, more=" more"),
        *criteria_columns(("cost", "power"), lambda each: _whole(capacity, each), of_month=True),
    )


def _whole(capacity: Capacity, each: Addition) -> Totals | None:
    """The totals of the cluster in hand with an addition; None if nothing would do."""
    return None if each.totals is None else Totals.over((capacity.totals, each.totals))


def _sizes(capacity: Capacity, each: Addition) -> list[tuple[RoleName, int]]:
    """The machines of each pool with an addition, by role; none if nothing would do."""
    if each.added is None:
        return []
    pools = zip(capacity.pools, each.added.pools, strict=True)
    return [(pool.role, pool.machines + more.machines) for pool, more in pools]


def _added(each: Addition) -> str:
    if each.added is None:
        return "not possible"
    text = " + ".join(f"{pool.machines} {pool.role}" for pool in each.added.pools if pool.machines) or "nothing"
    return text if each.proven else f"{text} (less may do: time limit)"


def charts(capacity: Capacity) -> Mapping[str, Chart]:
    """The worst limit against the rate; then the cost with what is added for more."""
    series = []
    for at_least in (False, True):
        tried = [each for each in capacity.tried if each.at_least is at_least and math.isfinite(each.worst_ratio)]
        name = "at least this (stopped early)" if at_least else f"{capacity.design} {capacity.cluster.by_role}"
        rates, ratios = tuple(each.rate_rps for each in tried), tuple(each.worst_ratio for each in tried)
        series += [Series(name, rates, ratios, notes=tuple(each.outcome for each in tried))] if tried else []
    limits = LineChart(
        f"How close the cluster is to its limits: {capacity.workload} on {capacity.model}, SLO {capacity.slo}",
        Axis("rate (requests/s)"),
        Axis("largest percentile over its limit", from_zero=True),
        tuple(series),
        rules=(Rule(1.0, "limit"), Rule(capacity.rate_rps, f"holds {capacity.rate_rps:.4g} requests/s", "x")),
    )
    if not capacity.additions:
        return {"limits": limits}
    more = [(each, _whole(capacity, each)) for each in capacity.additions]
    costs = (capacity.totals.cost_usd_per_h, *(None if of is None else of.cost_usd_per_h for _, of in more))
    notes = ("in hand", *(f"add {_added(each)}" if each.feasible else each.reason for each, _ in more))
    additions = BarChart(
        "What more costs: the cluster in hand with the least that has to be added",
        (format_rate(capacity.rate_rps), *(format_rate(each.rate_rps) for each, _ in more)),
        Axis(CRITERIA["cost"].axis, from_zero=True),
        (Bars("cost", costs, notes),),
    )
    return {"limits": limits, "additions": additions}


def rate_rows(capacity: Capacity) -> list[Row]:
    """One row per rate: the cluster in hand at the largest that it holds, then with what is added for more."""
    none = replace(capacity.cluster, pools=tuple(replace(pool, replicas=0) for pool in capacity.cluster.pools))
    in_hand = Addition(capacity.rate_rps, none, Totals(0.0, 0.0, 0), True, len(capacity.tried))
    return [
        {
            "design": capacity.design,
            "rate_rps": each.rate_rps,
            "in_hand": each is in_hand,
            "feasible": each.feasible,
            **{f"{role}_machines": machines for role, machines in _sizes(capacity, each)},
            **degree_cells(each.added),
            **{f"added_{pool.role}_machines": pool.machines for pool in (each.added.pools if each.added else ())},
            **{f"added_{name}": value for name, value in total_cells(each.totals).items()},
            **total_cells(_whole(capacity, each)),
            "proven": each.proven,
            "reason": each.reason,
        }
        for each in (in_hand, *capacity.additions)
    ]


_TABLES: Final[Tables[Capacity]] = {
    "rates": rate_rows,
    "tried": lambda capacity: [flat(each) for each in capacity.tried],
    "latency": lambda capacity: latency_rows(capacity.latency),
    "pools": lambda capacity: [
        {**flat(pool), "batch_tokens": tokens}
        for pool, tokens in zip(capacity.pools, capacity.batch_tokens, strict=True)
    ],
}
VIEW: Final = View(Capacity, document, charts, _TABLES)

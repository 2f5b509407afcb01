"""A frontier as a report: the best cluster in each criterion, all points, and the boxes left open."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from provisioner.options import ParetoOptions
from provisioner.report.chart import Axis, Chart, LineChart, Series
from provisioner.report.document import Column, Document, KeyNumbers, Notes, Table, listing
from provisioner.report.numbers import per_cent
from provisioner.report.tables import Row, flat
from provisioner.report.views.view import (
    View,
    amount,
    criteria_columns,
    degree_cells,
    degrees,
    report,
    scaled,
    total_cells,
)
from provisioner.results.frontier import Frontier
from provisioner.results.plan import Plan
from provisioner.specs.criteria import CRITERIA, OF_CLUSTERS, CriterionName
from provisioner.specs.units import format_rate


def document(frontier: Frontier, inputs: bool = False) -> Document:
    """The report of a frontier. ``inputs`` adds every option."""

    def change(plan: Plan, name: CriterionName) -> str:
        return f"{100.0 * (plan.of(name) / frontier.points[0].of(name) - 1.0):+.1f}"

    proven = "the points above are proven; " if frontier.points else ""
    missing = f"{proven}points that none of them beats may be missing among the clusters below:"
    lines = () if frontier.complete else (missing, *map(str, frontier.open_boxes))
    left_open = "Clusters that pass in what was left open; something may beat them"
    blocks = (
        key_numbers(frontier),
        _table("The frontier, the cheapest first", frontier, frontier.points),
        listing(
            "Against the cheapest",
            frontier.points[1:],
            (Column("design"), lambda plan: plan.design),
            (Column("machines", words=True), lambda plan: plan.cluster.by_role),
            degrees(),
            *((Column(f"{name}, %", True), partial(change, name=name)) for name in OF_CLUSTERS),
        ),
        Notes("Not searched to the end: the time limit", lines, warning=True),
        _table(left_open, frontier, frontier.candidates),
    )
    boxes = "1 box" if frontier.boxes == 1 else f"{frontier.boxes} boxes"
    simulated = f"; {frontier.simulated:,} clusters simulated in {frontier.runs:,} runs" if frontier.simulated else ""
    method = (
        ("passes when", frontier.rule),
        ("searched", f"{boxes} of power and machines, the cheapest cluster of each{simulated}"),
        ("proven", "every point, and that there are no others" if frontier.complete else "every point of the frontier"),
        ("latency", frontier.method),
        ("seed", str(frontier.seed)),
    )
    return report(frontier, headline(frontier), subtitle(frontier), blocks, method, ParetoOptions, inputs)


def headline(frontier: Frontier) -> str:
    """The number of choices, or the one that is best in everything."""
    count = len(frontier.points)
    if not count:
        return "No point of the frontier was proven"
    if count == 1 and frontier.complete:
        (plan,) = frontier.points
        return f"{plan.design} {plan.cluster.by_role} is best in cost, power and machines at once"
    more = "" if frontier.complete else ", and more may be left"
    noun = "cluster is" if count == 1 else "clusters are"
    return f"{count} {noun} beaten by none in cost, power and machines at once{more}"


def subtitle(frontier: Frontier) -> str:
    """The question, in a sentence."""
    designs = f"{len(frontier.designs)} designs" if len(frontier.designs) > 1 else frontier.designs[0]
    load = format_rate(frontier.rate_rps)
    if abs(frontier.planned_rate_rps / frontier.rate_rps - 1.0) > 1e-9:
        load += f" with headroom, {format_rate(frontier.planned_rate_rps)}"
    return f"{frontier.workload} on {frontier.model} at {load}, SLO {frontier.slo}, over {designs} of any size."


def key_numbers(frontier: Frontier) -> KeyNumbers:
    """The least cost, power and machines, each with the first cluster that has it."""
    numbers = []
    for name in OF_CLUSTERS if frontier.points else ():
        plan = next(plan for plan in frontier.points if name in frontier.best_in(plan))
        numbers.append(replace(amount(name, plan, str(plan.cluster)), label=CRITERIA[name].short))
    return KeyNumbers(tuple(numbers))


def _table(title: str, frontier: Frontier, plans: Sequence[Plan]) -> Table:
    """One row per cluster; the cheapest point stands out."""
    return listing(
        title,
        plans,
        (Column("design"), lambda plan: plan.design),
        (Column("machines", words=True), lambda plan: plan.cluster.by_role),
        degrees(),
        *criteria_columns(OF_CLUSTERS, of_month=True),
        (Column("slack, %", True), lambda plan: per_cent(plan.worst_slack)),
        (Column("least of all", words=True), lambda plan: _least(frontier, plan)),
        strong=lambda plan: plan in frontier.points[:1],
    )


def _least(frontier: Frontier, plan: Plan) -> str:
    """The criteria in which nothing has less than a point; empty for a candidate."""
    return ", ".join(frontier.best_in(plan)) if plan in frontier.points else ""


def charts(frontier: Frontier) -> Mapping[str, Chart]:
    """Power against cost, a series for each design."""

    def note(plan: Plan) -> str:
        least = _least(frontier, plan)
        known = ("not proven",) if plan not in frontier.points else (f"least {least}",) if least else ()
        return ", ".join((plan.cluster.by_role, f"{plan.machines} machines", *known))

    series = []
    plans = frontier.points + frontier.candidates
    for design in dict.fromkeys(plan.design for plan in plans):
        of = [plan for plan in plans if plan.design == design]
        costs = tuple(plan.cost_usd_per_h for plan in of)
        series.append(Series(design, costs, scaled("power", of), notes=tuple(map(note, of))))
    title = f"Beaten by none in cost, power and machines: {subtitle(frontier).removesuffix('.')}"
    cost, power = (Axis(CRITERIA[name].axis) for name in ("cost", "power"))
    return {"frontier": LineChart(title, cost, power, tuple(series))}


def point_rows(frontier: Frontier) -> list[Row]:
    """One row per point, then per candidate, which is not ``proven``."""
    return [
        {
            "design": plan.design,
            "split": plan.cluster.by_machine,
            **degree_cells(plan.cluster),
            **total_cells(plan),
            "rate_rps": plan.rate_rps,
            "worst_slack": plan.worst_slack,
            "binding": ", ".join(plan.binding),
            "proven": plan in frontier.points,
        }
        for plan in frontier.points + frontier.candidates
    ]


def pool_rows(frontier: Frontier) -> list[Row]:
    """One row per pool of each point, then of each candidate; ``point`` is the cluster's row in the table of points."""
    return [
        {"point": k, "design": plan.design, **flat(pool)}
        for k, plan in enumerate(frontier.points + frontier.candidates)
        for pool in plan.pools
    ]


VIEW: Final = View(Frontier, document, charts, {"points": point_rows, "pools": pool_rows})

"""A frontier as a report: its points, which criterion each is best in, and what was left open."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from provisioner.options import PlanOptions
from provisioner.options.command import typed as arguments
from provisioner.report.chart import Axis, Chart, LineChart, Series
from provisioner.report.document import Block, Code, Column, Document, Facts, Notes, Table, table
from provisioner.report.numbers import dollars, kilowatts, per_cent, whole
from provisioner.report.views.view import method_facts, shown
from provisioner.specs.units import format_rate

if TYPE_CHECKING:
    from provisioner.results.plan import Plan
    from provisioner.studies.pareto import Frontier


def pareto_document(found: Frontier, *, inputs: bool = False) -> Document:
    """The report of a frontier. ``inputs`` adds every option."""
    blocks: list[Block] = []
    if found.points:
        blocks.append(points_table(found))
        blocks += [changes_table(found)] if len(found.points) > 1 else []
    if not found.complete:
        blocks.append(Notes("Not searched to the end: the time limit", open_lines(found), warning=True))
    if found.candidates:
        blocks.append(candidates_table(found))
    if found.warnings:
        blocks.append(Notes("Warnings", tuple(found.warnings), warning=True))
    blocks += [Notes("Sources", tuple(found.sources)), _method(found)]
    if inputs:
        rows = [(name, shown(value)) for name, value in found.question.items()]
        blocks.append(Table("Inputs", (Column("option"), Column("value", words=True)), tuple(rows)))
        blocks.append(Code("To repeat this frontier", pareto_command(found.question)))
    return Document(headline(found), subtitle(found), tuple(blocks))


def pareto_command(question: Mapping[str, Any]) -> str:
    """The ``provision pareto`` command of a question, with its defaults written out."""
    options = {name: value for name, value in question.items() if name != "objective"}
    return shlex.join(["provision", "pareto", *arguments(options, PlanOptions)])


def headline(found: Frontier) -> str:
    """How many choices there are, from the cheapest to the last."""
    count = len(found.points)
    if not count:
        return "No point of the frontier was proven"
    if count == 1 and found.complete:
        return f"{found.points[0].design} {split(found.points[0])} is best in cost, power and machines at once"
    whole_frontier = "" if found.complete else ", and more may be left"
    noun = "cluster is" if count == 1 else "clusters are"
    return f"{count} {noun} beaten by none in cost, power and machines at once{whole_frontier}"


def subtitle(found: Frontier) -> str:
    """The question, in a sentence."""
    designs = f"{len(found.designs)} designs" if len(found.designs) > 1 else found.designs[0]
    load = format_rate(found.rate_rps)
    if abs(found.planned_rate_rps / found.rate_rps - 1.0) > 1e-9:
        load += f" with headroom, {format_rate(found.planned_rate_rps)}"
    return f"{found.workload} on {found.model} at {load}, SLO {found.slo}, over {designs} of any size."


def split(plan: Plan) -> str:
    """Pool sizes in words."""
    return " + ".join(f"{pool.machines} {pool.role}" for pool in plan.pools)


def points_table(found: Frontier) -> Table:
    """One row per point of the frontier, the cheapest first."""
    return _table("The frontier, the cheapest first", found, found.points, True)


def candidates_table(found: Frontier) -> Table:
    """Clusters of open boxes that pass."""
    return _table("Clusters that pass in what was left open; something may beat them", found, found.candidates, False)


def _table(title: str, found: Frontier, plans: Sequence[Plan], proven: bool) -> Table:
    columns = (
        Column("design"),
        Column("machines", words=True),
        Column("$/h", True),
        Column("kW", True),
        Column("total", True),
        Column("slack, %", True),
        Column("least of all", words=True),
    )
    rows = []
    for plan in plans:
        slack = plan.worst_slack
        rows.append(
            (
                plan.design,
                split(plan),
                dollars(plan.cost_usd_per_h, sign=False),
                kilowatts(plan.power_w),
                whole(plan.machines),
                "" if slack is None else per_cent(slack),
                ", ".join(found.best_in(plan)) if proven else "",
            )
        )
    return table(title, columns, rows)


def changes_table(found: Frontier) -> Table:
    """One row per point after the cheapest: what it takes and gives against that, in per cent."""
    columns = (
        Column("design"),
        Column("machines", words=True),
        Column("cost, %", True),
        Column("power, %", True),
        Column("machines, %", True),
    )
    first = found.points[0]
    rows = []
    for plan in found.points[1:]:
        changes = (
            plan.cost_usd_per_h / first.cost_usd_per_h,
            plan.power_w / first.power_w,
            plan.machines / first.machines,
        )
        rows.append((plan.design, split(plan), *(f"{100.0 * (change - 1.0):+.1f}" for change in changes)))
    return table("Against the cheapest", columns, rows)


def open_lines(found: Frontier) -> tuple[str, ...]:
    """What was not searched to the end, a line each."""
    proven = "the points above are proven; " if found.points else ""
    return (
        f"{proven}points that none of them beats may be missing among the clusters below:",
        *(str(box) for box in found.open_boxes),
    )


def _method(found: Frontier) -> Facts:
    """How the frontier was found."""
    boxes = "1 box" if found.boxes == 1 else f"{found.boxes} boxes"
    simulated = f"; {found.simulated:,} clusters simulated in {found.runs:,} runs" if found.simulated else ""
    rows = (
        ("passes when", found.rule),
        ("searched", f"{boxes} of power and machines, the cheapest cluster of each{simulated}"),
        ("proven", "every point, and that there are no others" if found.complete else "every point of the frontier"),
        ("latency", found.method),
        ("seed", str(found.seed)),
    )
    return method_facts("How this was computed", rows, found.versions)


def pareto_charts(found: Frontier) -> tuple[Chart, ...]:
    """Power against cost, a series for each design; what a point is, in its note."""
    plans = [(plan, "") for plan in found.points] + [(plan, ", not proven") for plan in found.candidates]
    series = []
    for design in dict.fromkeys(plan.design for plan, _ in plans):
        mine = [(plan, more) for plan, more in plans if plan.design == design]
        series.append(
            Series(
                design,
                tuple(plan.cost_usd_per_h for plan, _ in mine),
                tuple(plan.power_w / 1e3 for plan, _ in mine),
                notes=tuple(f"{split(plan)}, {plan.machines} machines{more}" for plan, more in mine),
            )
        )
    title = f"Beaten by none in cost, power and machines: {subtitle(found).removesuffix('.')}"
    return (LineChart(title, Axis("cost ($/h)"), Axis("power (kW)"), tuple(series)),)

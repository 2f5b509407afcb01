"""A comparison as a report: the best design first, each with its split, then all against the baseline."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from provisioner.options import PlanOptions
from provisioner.options.command import typed as arguments
from provisioner.report.chart import Axis, BarChart, Bars, Chart, Rule
from provisioner.report.document import Block, Code, Column, Document, Facts, Notes, Table, table
from provisioner.report.numbers import dollars, kilowatts, significant, whole
from provisioner.report.views.view import method_facts, shown
from provisioner.specs.units import format_factor, format_rate

if TYPE_CHECKING:
    from provisioner.results.plan import Plan
    from provisioner.studies.compare import Comparison, Row

_SUPERLATIVE: Final = {"cost": "cheapest", "power": "least power", "machines": "fewest machines"}
_UNIT: Final = {"throughput": "requests/s", "cost": "$/h", "power": "kW", "machines": "machines"}
_LIMITED: Final = ("TTFT", "TBT", "E2E")
# Fields of the question that are arguments of the comparison, not options of its plans.
_OWN: Final = ("same", "budget", "baseline", "chunked")


def compare_document(found: Comparison, *, inputs: bool = False) -> Document:
    """The report of a comparison. ``inputs`` adds every option."""
    blocks: list[Block] = []
    with_plan = [row for row in found.rows if row.plan is not None]
    if with_plan:
        blocks += [designs_table(found, with_plan), ratios_table(found, with_plan)]
    refused = [f"{row.label}: {row.reason}" for row in found.rows if row.plan is None]
    if refused:
        blocks.append(Notes("Designs without a plan", tuple(refused)))
    if found.budget is not None and any(row.failed_rps is not None for row in with_plan):
        blocks.append(Notes("How sharp the largest rates are", _sharpness(with_plan)))
    if found.warnings:
        blocks.append(Notes("Warnings", tuple(found.warnings), warning=True))
    blocks += [Notes("Sources", tuple(found.sources)), _method(found)]
    if inputs:
        rows = [(name, shown(value)) for name, value in found.question.items()]
        blocks.append(Table("Inputs", (Column("option"), Column("value", words=True)), tuple(rows)))
        blocks.append(Code("To repeat this comparison", compare_command(found.question)))
    return Document(headline(found), subtitle(found), tuple(blocks))


def compare_command(question: Mapping[str, Any]) -> str:
    """The ``provision compare`` command of a question, with its defaults written out."""
    typed = ["provision", "compare", "--same", str(question["same"])]
    for name in ("budget", "baseline"):
        if question.get(name) is not None:
            typed += [f"--{name}", str(question[name])]
    typed += ["--chunked"] if question.get("chunked") else []
    options = {name: value for name, value in question.items() if name not in _OWN}
    if question["same"] != "throughput":
        options.pop("objective", None)
    return shlex.join([*typed, *arguments(options, PlanOptions)])


def headline(found: Comparison) -> str:
    """The best design, with its split and how much better than the baseline it is."""
    best = found.rows[0]
    if best.plan is None:
        return "No design has a plan"
    ratios = found.ratios(best)
    name = found.objective
    ratio = ratios[name]
    against = ""
    if ratio is not None and best.label != found.baseline:
        against = f", {format_factor(ratio)} {'of ' if name != 'throughput' else ''}{found.baseline}"
    pools = " + ".join(f"{pool.machines} {pool.machine} ({pool.role})" for pool in best.plan.pools)
    return f"{best.label}: {_amount(best.plan, name)}{against}, with {pools}"


def _amount(plan: Plan, name: str) -> str:
    if name == "throughput":
        return format_rate(plan.rate_rps)
    return f"{_number(plan, name)} {_UNIT[name]}"


def _number(plan: Plan, name: str) -> str:
    if name == "throughput":
        return significant(plan.rate_rps)
    if name == "cost":
        return dollars(plan.cost_usd_per_h, sign=False)
    return kilowatts(plan.power_w) if name == "power" else whole(plan.machines)


def subtitle(found: Comparison) -> str:
    """What was held the same, and what each design is best in, in a sentence."""
    of = f"{found.workload} on {found.model}, SLO {found.slo}"
    if found.budget is not None:
        return f"The largest throughput of each design within {found.budget}: {of}."
    return f"The {_SUPERLATIVE[found.objective]} of each design at {format_rate(found.rate_rps or 0.0)}: {of}."


def designs_table(found: Comparison, rows: Sequence[Row]) -> Table:
    """One row per design that has a plan: its split, throughput and totals, and what binds."""
    columns = (
        Column("design"),
        Column("machines", words=True),
        Column("requests/s", True),
        Column("$/h", True),
        Column("kW", True),
        Column("total", True),
        Column("one machine fewer", words=True),
    )
    cells = []
    for row in rows:
        assert row.plan is not None
        numbers = [_number(row.plan, name) for name in ("throughput", "cost", "power", "machines")]
        cells.append((row.label, row.split, *numbers, _binds(row.plan)))
    title = "Each design at its best" + ("" if found.budget is None else f", within {found.budget}")
    return table(title, columns, cells, [0])


def _binds(plan: Plan) -> str:
    limits = [name for name in plan.binding if name.split(" ")[0] in _LIMITED]
    return f"misses {', '.join(limits)}" if limits else "overloaded" if plan.binding else "still enough"


def ratios_table(found: Comparison, rows: Sequence[Row]) -> Table:
    """One row per design: everything over the baseline's."""
    columns = (
        Column("design"),
        Column("throughput, x", True),
        Column("cost, x", True),
        Column("power, x", True),
        Column("machines, x", True),
        Column("per $, x", True),
        Column("per W, x", True),
    )
    cells = []
    for row in rows:
        ratios = [value or 0.0 for value in found.ratios(row).values()]
        if any(value == 0.0 for value in ratios):
            cells.append((row.label, *[""] * 6))
            continue
        throughput, cost, power, _ = ratios
        cells.append((row.label, *(f"{value:.2f}" for value in (*ratios, throughput / cost, throughput / power))))
    strong = [k for k, row in enumerate(rows) if row.label == found.baseline]
    has_base = any(row.label == found.baseline for row in rows)
    return table(f"Against {found.baseline}" + ("" if has_base else ", which has no plan"), columns, cells, strong)


def _sharpness(rows: Sequence[Row]) -> tuple[str, ...]:
    """Between which rates the verdicts change, a line for each design that was simulated."""
    lines = []
    for row in rows:
        if row.plan is None or row.failed_rps is None:
            continue
        flips = "" if row.passes_again_rps is None else f"; verdicts flip up to {row.passes_again_rps:.4g}"
        lines.append(f"{row.label}: {row.plan.rate_rps:.4g} requests/s pass, {row.failed_rps:.4g} do not{flips}")
    return tuple(lines)


def _method(found: Comparison) -> Facts:
    """How the plans were found."""
    how = "largest rates to 1 %, from below; at each the cheapest cluster that passes" if found.budget else ""
    rows = (
        ("latency", found.method),
        ("rates", how),
        ("seed", str(found.seed)),
    )
    return method_facts("How this was computed", rows, found.versions)


def compare_charts(found: Comparison) -> tuple[Chart, ...]:
    """Every design against the baseline; without one, the designs' own figures."""
    labels = tuple(row.label for row in found.rows)
    notes = tuple(row.split if row.plan is not None else row.reason for row in found.rows)
    title = subtitle(found).removesuffix(".")
    ratios = [found.ratios(row) for row in found.rows]
    charts: list[Chart] = []
    if any(value is not None for each in ratios for value in each.values()):
        bars = tuple(Bars(name, tuple(each[name] for each in ratios), notes) for name in ratios[0])
        axis = Axis(f"relative to {found.baseline} (x)", from_zero=True)
        charts.append(BarChart(title, labels, axis, bars, rules=(Rule(1.0, found.baseline),)))
    name = found.objective
    totals = [row.totals() for row in found.rows]
    scale = 1e-3 if name == "power" else 1.0
    values = tuple(None if each is None else scale * each[name] for each in totals)
    unit = Axis(f"{name} ({_UNIT[name]})" if name != "machines" else "machines", from_zero=True)
    charts.append(BarChart(f"{name.capitalize()} of each. {title}", labels, unit, (Bars(name, values, notes),)))
    return tuple(charts)

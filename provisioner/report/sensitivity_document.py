"""How an answer moves, as a report: the tornado, the switch points, and the map of where splitting pays."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from provisioner.options import PlanOptions
from provisioner.options.command import typed as arguments
from provisioner.report.chart import Axis, BarChart, Bars, Chart, HeatMap, LineChart, Mark, Rule, Series
from provisioner.report.document import Block, Code, Column, Document, Facts, Notes, Table, table
from provisioner.report.numbers import dollars, kilowatts, significant, whole
from provisioner.report.views.view import shown
from provisioner.specs.units import format_cost, format_power, format_rate

if TYPE_CHECKING:
    from provisioner.studies.outcome import Outcome
    from provisioner.studies.sensitivity import Cell, Search, Sensitivity, Swing, Switch

_VALUE: Final[Mapping[str, str]] = {
    "cost": "cost ($/h)",
    "power": "power (kW)",
    "machines": "machines",
    "throughput": "throughput (requests/s)",
}
_SHORT: Final[Mapping[str, str]] = {"cost": "$/h", "power": "kW", "machines": "machines", "throughput": "requests/s"}
_WATCHED: Final[Mapping[str, str]] = {
    "design": "the best design",
    "split": "the machines of its pools",
    "machines": "the number of machines",
    "splitting": "whether to split",
}


def sensitivity_document(found: Sensitivity, *, inputs: bool = False) -> Document:
    """The report of a sensitivity. ``inputs`` adds every option."""
    blocks: list[Block] = [_answer(found)]
    if found.swings:
        blocks.append(tornado_table(found))
    for search in found.searches:
        blocks += _search_blocks(found, search)
    if found.cells:
        blocks.append(map_table(found))
        if found.fast:
            blocks.append(Notes("", ("the formulas know mixed batching only: chunked prefill is left out",)))
    notes = [*noise_notes(found), *found.warnings]
    if notes:
        blocks.append(Notes("Warnings", tuple(notes), warning=True))
    blocks.append(Notes("Sources", tuple(found.sources)))
    how = "by the queueing formulas, not simulated" if found.fast else "of its own, proven by simulation"
    known = ", ".join(f"{name} {version}" for name, version in found.versions.items())
    blocks.append(Facts("How this was found", (("method", f"every value is a plan {how}"), ("versions", known))))
    if inputs:
        rows = tuple((name, shown(value)) for name, value in found.question.items())
        blocks.append(Table("Inputs", (Column("option"), Column("value", words=True)), rows))
        blocks.append(Code("To repeat this", command(found)))
    return Document(_headline(found), f"How the plan moves: {found.title}.", tuple(blocks))


def _answer(found: Sensitivity) -> Facts:
    """What was found, in brief."""
    rows = [("plan as it is", _base(found))]
    if found.swings:
        moved = [swing.name for swing in found.swings if _moves(swing, found)]
        rows.append(("moved most by", ", ".join(moved[:3]) or "none of the inputs"))
    for search in found.searches:
        places = ", ".join(_where(found, search.name, switch) for switch in search.switches)
        rows.append((f"switches with {search.name}", places or "nowhere in the range"))
    if found.cells:
        known = [saving for cell in found.cells if (saving := cell.saving(found.objective)) is not None]
        rows.append(("splitting pays", f"in {sum(saving > 5e-4 for saving in known)} of {len(found.cells)} cells"))
    return Facts("", tuple(rows))


def _moves(swing: Swing, found: Sensitivity) -> bool:
    base = found.base.of(found.objective)
    return base is not None and swing.width(found.objective, base) > 1e-9


def _headline(found: Sensitivity) -> str:
    if found.searches and any(search.switches for search in found.searches):
        search = next(search for search in found.searches if search.switches)
        return f"{search.name}: {_WATCHED[search.watch]} switches at {_where(found, search.name, search.switches[0])}"
    if found.swings:
        first = found.swings[0]
        return f"{_base(found)}; {first.name} moves it most"
    if found.cells:
        known = [saving for cell in found.cells if (saving := cell.saving(found.objective)) is not None]
        better = sum(saving > 0 for saving in known)
        return f"Splitting pays in {better} of {len(found.cells)} cells"
    return _base(found)


def _base(found: Sensitivity) -> str:
    if not found.base.feasible:
        return "no plan as it is"
    return f"{found.base.design} {found.base.sizes}, {_full(found.base, found.objective)}"


def _full(outcome: Outcome, objective: str) -> str:
    value = outcome.of(objective)
    if value is None:
        return "no plan"
    if objective == "cost":
        return format_cost(value)
    if objective == "power":
        return format_power(value)
    return format_rate(value) if objective == "throughput" else f"{whole(value)} machines"


def _number(outcome: Outcome, objective: str) -> str:
    """The objective's value in a table, without its unit."""
    value = outcome.of(objective)
    if value is None:
        return "no plan"
    if objective == "cost":
        return dollars(value, sign=False)
    if objective == "power":
        return kilowatts(value)
    return significant(value) if objective == "throughput" else whole(value)


def tornado_table(found: Sensitivity) -> Table:
    """Each input at both ends: the objective and the split there, the widest swing first."""
    unit = _SHORT[found.objective]
    low, high = f"/ {1.0 + found.spread:g}", f"x {1.0 + found.spread:g}"
    columns = [
        Column("input"),
        Column("now", number=True),
        Column(f"{unit} {low}", number=True),
        Column("plan"),
        Column(f"{unit} {high}", number=True),
        Column("plan"),
        Column("swing, %", number=True),
    ]
    base = found.base.of(found.objective)
    rows = [
        (
            swing.name,
            _now(found, swing.name),
            _number(swing.low, found.objective),
            _plan(swing.low),
            _number(swing.high, found.objective),
            _plan(swing.high),
            _swing(swing, found.objective, base),
        )
        for swing in found.swings
    ]
    return table(f"How far each input moves the answer from {_base(found)}", columns, rows)


def _swing(swing: Swing, objective: str, base: float | None) -> str:
    if base is None:
        return ""
    width = swing.width(objective, base)
    return f"{100.0 * width:.1f}" if width < float("inf") else "no plan"


def _plan(outcome: Outcome) -> str:
    """A plan as short as tables need it: ``HA 28+1``."""
    return f"{outcome.design.removeprefix('Splitwise-')} {outcome.sizes.replace(' ', '')}" if outcome.feasible else ""


def _now(found: Sensitivity, name: str) -> str:
    value, unit = found.values.get(name, (0.0, ""))
    return f"{significant(value)} {unit}".strip() if name in found.values else ""


def noise_notes(found: Sensitivity) -> list[str]:
    """Inputs of which less and more move the answer the same way: verdicts near a limit, not the input."""
    base = found.base.of(found.objective)
    if base is None:
        return []
    notes = []
    for swing in found.swings:
        ends = [swing.low.of(found.objective), swing.high.of(found.objective)]
        if all(value is not None and value > base * (1.0 + 1e-9) for value in ends) or all(
            value is not None and value < base * (1.0 - 1e-9) for value in ends
        ):
            notes.append(
                f"{swing.name}: less and more of it move the answer the same way: the base is so near a limit that "
                "verdicts flip with any change; more request sets (--seeds) or longer ones (--duration) tell"
            )
    return notes


def _search_blocks(found: Sensitivity, search: Search) -> list[Block]:
    ends = f"{search.low:g} to {search.high:g} times"
    watched = _WATCHED[search.watch]
    if not search.switches:
        same = search.probes[0].watched(search.watch)
        text = f"{search.name}, {ends}: no switch of {watched} found; it is {same} at all {len(search.probes)} factors"
        return [Notes(f"Switch points of {search.name}", (text,))]
    columns = [
        Column("between factors"),
        Column("at", words=True),
        Column("below"),
        Column(_SHORT[found.objective], number=True),
        Column("above"),
        Column(_SHORT[found.objective], number=True),
    ]
    rows = [
        (
            f"{switch.below:.4g} and {switch.above:.4g}",
            _where(found, search.name, switch),
            _plan(switch.before) or "no plan",
            _number(switch.before, found.objective),
            _plan(switch.after) or "no plan",
            _number(switch.after, found.objective),
        )
        for switch in search.switches
    ]
    title = f"Where {watched} switches with {search.name}, {ends} what it is, to {100 * search.tolerance:g} %"
    note = (
        f"{search.name}: looked at {len(search.probes)} factors from {search.low:g} to {search.high:g}, then by "
        "bisection where neighbours differ; a switch there and back between two that agree is not seen"
    )
    return [table(title, columns, rows), Notes("", (note,))]


def _where(found: Sensitivity, name: str, switch: Switch) -> str:
    """Where a switch is: in the input's own unit, and as a ratio of prices."""
    if name not in found.values:
        each = [
            f"{significant(switch.at * value)} {unit} a {of.partition(':')[2]}"
            for of, (value, unit) in found.values.items()
            if of.startswith(f"{name}:") and name == "link-bandwidth"
        ]
        return f"{switch.at:.3g} times" + (f" ({', '.join(each)})" if each else "")
    value, unit = found.values[name]
    text = f"{significant(switch.at * value)} {unit}".strip()
    kind, _, machine = name.partition(":")
    if kind in ("price", "power") and machine:
        others = [
            f"{switch.at * value / other:.3g} of {of.partition(':')[2]}'s"
            for of, (other, _) in found.values.items()
            if of.startswith(f"{kind}:") and of != name
        ]
        return f"{text} ({', '.join(others)})" if others else text
    return text


def map_table(found: Sensitivity) -> Table:
    """Rates down, prompt : output ratios across: the better kind of design, and by how much."""
    ratios = sorted({cell.ratio for cell in found.cells})
    columns = [Column("requests/s", number=True), *(Column(f"{ratio:g} : 1") for ratio in ratios)]
    rows = []
    for rate in sorted({cell.rate_rps for cell in found.cells}):
        by_ratio = {cell.ratio: cell for cell in found.cells if cell.rate_rps == rate}
        rows.append((significant(rate), *(_cell(by_ratio[ratio], found.objective) for ratio in ratios)))
    title = f"Should I split? {found.objective} of the best split design against the best colocated one, by "
    return Table(title + "mean prompt : output tokens", tuple(columns), tuple(rows))


def _cell(cell: Cell, objective: str) -> str:
    saving = cell.saving(objective)
    if saving is None:
        if not cell.split.feasible and not cell.mixed.feasible and not cell.chunked.feasible:
            return "no plan"
        return "only split" if cell.split.feasible else "only colocated"
    if abs(saving) < 5e-4:
        return "equal"
    best = cell.split.design.removeprefix("Splitwise-") if saving > 0 else _colocated(cell, objective)
    return f"{best} {-100.0 * abs(saving if saving > 0 else saving / (1.0 - saving)):.1f} %"


def _colocated(cell: Cell, objective: str) -> str:
    known = [
        (value, name)
        for name, each in (("mixed", cell.mixed), ("chunked", cell.chunked))
        if (value := each.of(objective)) is not None
    ]
    return min(known, key=lambda each: each[0])[1]


def sensitivity_charts(found: Sensitivity) -> tuple[Chart, ...]:
    """The pictures: the tornado, a curve for each search, the map."""
    charts: list[Chart] = []
    if found.swings and found.base.feasible:
        charts.append(_tornado_chart(found))
    charts += [_search_chart(found, search) for search in found.searches]
    if found.cells:
        charts.append(_map_chart(found))
    return tuple(charts)


def _scaled(value: float | None, objective: str) -> float | None:
    return value / 1e3 if value is not None and objective == "power" else value


def _tornado_chart(found: Sensitivity) -> BarChart:
    ends = ((f"/ {1.0 + found.spread:g}", "low"), (f"x {1.0 + found.spread:g}", "high"))
    bars = []
    for name, end in ends:
        outcomes = [getattr(swing, end) for swing in found.swings]
        bars.append(
            Bars(
                f"input {name}",
                tuple(_scaled(each.of(found.objective), found.objective) for each in outcomes),
                tuple(_plan(each) or each.reason for each in outcomes),
            )
        )
    base = _scaled(found.base.of(found.objective), found.objective)
    assert base is not None
    return BarChart(
        f"What moves the plan: {found.title}",
        tuple(swing.name for swing in found.swings),
        Axis(_VALUE[found.objective]),
        tuple(bars),
        base=base,
    )


def _search_chart(found: Sensitivity, search: Search) -> LineChart:
    """The objective over the factor: what the probes and the ends of the switches showed."""
    value, unit = found.values.get(search.name, (1.0, "times what it is"))
    points = {outcome.scale[search.name]: outcome for outcome in search.probes}
    for switch in search.switches:
        points |= {switch.below: switch.before, switch.above: switch.after}
    ordered = sorted(points.items())
    series = Series(
        found.objective,
        tuple(value * factor for factor, _ in ordered),
        tuple(_scaled(outcome.of(found.objective), found.objective) for _, outcome in ordered),
        notes=tuple(_plan(outcome) or outcome.reason for _, outcome in ordered),
    )
    rules = tuple(Rule(value * s.at, f"{_plan(s.before)} | {_plan(s.after)}", "x") for s in search.switches)
    return LineChart(
        f"Where {_WATCHED[search.watch]} switches with {search.name}: {found.title}",
        Axis(f"{search.name} ({unit})" if unit else search.name, logarithmic=search.high > 10.0 * search.low),
        Axis(_VALUE[found.objective]),
        (series,),
        rules,
    )


def _map_chart(found: Sensitivity) -> HeatMap:
    rates = sorted({cell.rate_rps for cell in found.cells})
    ratios = sorted({cell.ratio for cell in found.cells})
    by = {(cell.rate_rps, cell.ratio): cell for cell in found.cells}
    rows = [[by[rate, ratio] for ratio in ratios] for rate in rates]

    def per_cent(cell: Cell) -> float | None:
        saving = cell.saving(found.objective)
        return None if saving is None else -100.0 * saving

    marks = [
        Mark(i, j, "dot", "splitting pays")
        for i, row in enumerate(rows)
        for j, cell in enumerate(row)
        if (cell.saving(found.objective) or 0.0) > 5e-4
    ]
    return HeatMap(
        f"Should I split? {found.question['workload']} on {found.question['model']}, SLO {found.question['slo']}",
        Axis("mean prompt tokens : mean output tokens"),
        Axis("rate (requests/s)"),
        Axis(f"{found.objective} of the best split design against the best colocated one (%)"),
        tuple(ratios),
        tuple(rates),
        tuple(tuple(per_cent(cell) for cell in row) for row in rows),
        tuple(tuple(_note(cell, found.objective) for cell in row) for row in rows),
        middle=0.0,
        marks=tuple(marks),
    )


def _note(cell: Cell, objective: str) -> str:
    ways: Sequence[tuple[str, Any]] = (("split", cell.split), ("mixed", cell.mixed), ("chunked", cell.chunked))
    return "; ".join(f"{name}: {_plan(each) or 'no plan'}, {_full(each, objective)}" for name, each in ways)


def command(found: Sensitivity) -> str:
    """The command that asks the same again."""
    typed = ["provision", "sensitivity", *arguments(found.question, PlanOptions)]
    if found.swings:
        typed += ["--spread", f"{found.spread:g}"]
        typed += [part for swing in found.swings for part in ("--input", swing.name)]
    for search in found.searches:
        typed += ["--switch", f"{search.name}={search.low:g}:{search.high:g}"]
    if found.searches:
        first = found.searches[0]
        typed += ["--watch", first.watch, "--tolerance", f"{first.tolerance:g}"]
        typed += ["--probes", str(len(first.probes) - 2)]
    if found.cells:
        typed += ["--rates", ",".join(f"{rate:g}" for rate in sorted({cell.rate_rps for cell in found.cells}))]
        typed += ["--ratios", ",".join(f"{ratio:g}" for ratio in sorted({cell.ratio for cell in found.cells}))]
    return shlex.join(typed)

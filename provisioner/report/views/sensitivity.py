"""A sensitivity as a report: the tornado, the switch points, and the map of where splitting pays."""

import math
from collections.abc import Mapping
from typing import Final

from provisioner.options import SensitivityOptions
from provisioner.report.chart import Axis, BarChart, Bars, Chart, HeatMap, LineChart, Mark, Rule, Series
from provisioner.report.document import Block, Column, Document, KeyNumber, KeyNumbers, Notes, Table, listing
from provisioner.report.numbers import NUMBERS, per_cent, significant
from provisioner.report.tables import Row
from provisioner.report.views.view import View, degree_cells, degrees, report, scaled, total_cells
from provisioner.results.sensitivity import Cell, InputValue, Outcome, Search, Sensitivity, Swing, Switch
from provisioner.specs.criteria import CRITERIA, WATCHES, ObjectiveName
from provisioner.specs.units import format_monthly_cost

_MOVED: Final = 1e-9  # relative change of the objective from which on it counts
_PAYS: Final = 5e-4  # saving from which on splitting counts as better
_MOST_BARS: Final = 12


def document(sensitivity: Sensitivity, inputs: bool = False) -> Document:
    """The report of a sensitivity. ``inputs`` adds every option."""
    rates, ratios, cells = _map(sensitivity)
    saved = f"{sensitivity.objective} of the best split design against the best colocated one"
    left_out = "the formulas know mixed batching only: chunked prefill is left out"
    blocks = (
        _key_numbers(sensitivity),
        _tornado_table(sensitivity),
        *(block for search in sensitivity.searches for block in _search_blocks(sensitivity, search)),
        listing(
            f"Should I split? {saved}, by mean prompt : output tokens",
            rates,
            (Column("requests/s", True), significant),
            *((Column(f"{x:g} : 1"), lambda rate, x=x: _better(cells[rate, x], sensitivity.objective)) for x in ratios),
        ),
        Notes("", (left_out,) if sensitivity.cells and sensitivity.fast else ()),
    )
    how = "by the queueing formulas, not simulated" if sensitivity.fast else "of its own, proven by simulation"
    method = (("method", f"every value is a plan {how}"), ("seed", "" if sensitivity.fast else str(sensitivity.seed)))
    subtitle = f"How the plan moves: {_case(sensitivity)}."
    return report(sensitivity, _headline(sensitivity), subtitle, blocks, method, SensitivityOptions, inputs)


def _case(sensitivity: Sensitivity) -> str:
    served = f"{sensitivity.workload} on {sensitivity.model} at {sensitivity.rate_rps:.4g} requests/s"
    return f"{served}, SLO {sensitivity.slo}"


def _headline(sensitivity: Sensitivity) -> str:
    """The first switch, or else what moves the plan most, or else where splitting pays."""
    for search in sensitivity.searches:
        if search.switches:
            at = _where(sensitivity, search.name, search.switches[0])
            return f"{search.name}: {WATCHES[search.watch]} switches at {at}"
    if sensitivity.swings:
        return f"{_base(sensitivity)}; {sensitivity.swings[0].name} moves it most"
    if sensitivity.cells:
        better = sum((cell.saving or 0.0) > 0 for cell in sensitivity.cells)
        return f"Splitting pays in {better} of {len(sensitivity.cells)} cells"
    return _base(sensitivity)


def _key_numbers(sensitivity: Sensitivity) -> KeyNumbers:
    """The plan, the inputs that move it most, its switches, and where splitting pays."""
    base = sensitivity.base
    text, note = (str(base.cluster), _value(sensitivity, base)) if base.feasible else ("no plan", base.reason)
    of_month = "" if base.totals is None else f", {format_monthly_cost(base.totals.cost_usd_per_h)}"
    numbers = [KeyNumber("plan as it is", text, note + of_month)]
    if sensitivity.swings:
        first, *others = [swing.name for swing in _moving(sensitivity)[:3]] or ["none of the inputs"]
        numbers.append(KeyNumber("moved most by", first, f"then by {' and '.join(others)}" if others else ""))
    for search in sensitivity.searches:
        places = [_where(sensitivity, search.name, switch) for switch in search.switches] or ["nowhere in the range"]
        value, mark, note = places[0].partition(" (") if len(places) == 1 else (", ".join(places), "", "")
        numbers.append(KeyNumber(f"switches with {search.name}", value, f"{mark}{note}".strip()))
    if sensitivity.cells:
        better = sum((cell.saving or 0.0) > _PAYS for cell in sensitivity.cells)
        numbers.append(KeyNumber("splitting pays", f"in {better} of {len(sensitivity.cells)} cells"))
    return KeyNumbers(tuple(numbers))


def _moving(sensitivity: Sensitivity) -> list[Swing]:
    """The inputs that move the objective, the widest swing first."""
    objective, base = sensitivity.objective, sensitivity.base.of(sensitivity.objective)
    return [] if base is None else [each for each in sensitivity.swings if each.width(objective, base) > _MOVED]


def _base(sensitivity: Sensitivity) -> str:
    base = sensitivity.base
    return f"{base.cluster}, {_value(sensitivity, base)}" if base.feasible else "no plan as it is"


def _value(sensitivity: Sensitivity, outcome: Outcome, unit: bool = True) -> str:
    """The value of the objective with its unit, or without."""
    name = sensitivity.objective
    text = CRITERIA[name].amount if unit else NUMBERS[name]
    return "no plan" if (value := outcome.of(name)) is None else text(value)


def _plan(outcome: Outcome) -> str:
    """A plan as short as tables need it: ``HA 28+1``; "" without one."""
    return f"{outcome.design.removeprefix('Splitwise-')} {outcome.sizes.replace(' ', '')}".strip()


def _tornado_table(sensitivity: Sensitivity) -> Table:
    """Each input at both ends: the objective and the plan there, the widest swing first."""
    unit, factor = CRITERIA[sensitivity.objective].shown_unit, f"{1.0 + sensitivity.spread:g}"
    base = sensitivity.base.of(sensitivity.objective)

    def now(swing: Swing) -> str:
        known = sensitivity.values.get(swing.name)
        return "" if known is None else f"{significant(known.value)} {known.unit}".strip()

    def width(swing: Swing) -> str:
        share = math.nan if base is None else swing.width(sensitivity.objective, base)
        return "no plan" if math.isinf(share) else per_cent(share)

    return listing(
        f"How far each input moves the answer from {_base(sensitivity)}",
        sensitivity.swings,
        (Column("input"), lambda swing: swing.name),
        (Column("now", True), now),
        (Column(f"{unit} / {factor}", True), lambda swing: _value(sensitivity, swing.low, False)),
        (Column("plan"), lambda swing: _plan(swing.low)),
        degrees(lambda swing: swing.low.cluster),
        (Column(f"{unit} x {factor}", True), lambda swing: _value(sensitivity, swing.high, False)),
        (Column("plan"), lambda swing: _plan(swing.high)),
        degrees(lambda swing: swing.high.cluster),
        (Column("swing, %", True), width),
    )


def _tornado_chart(sensitivity: Sensitivity, base: float) -> BarChart:
    """The widest swings, without the inputs that move nothing if some do."""
    shown = (_moving(sensitivity) or sensitivity.swings)[:_MOST_BARS]
    bars = []
    for sign, ends in (("/", [swing.low for swing in shown]), ("x", [swing.high for swing in shown])):
        notes = tuple(_plan(end) or end.reason for end in ends)
        bars.append(Bars(f"input {sign} {1.0 + sensitivity.spread:g}", scaled(sensitivity.objective, ends), notes))
    left_out = len(sensitivity.swings) - len(shown)
    more = f" ({left_out} other inputs move it less)" if left_out else ""
    return BarChart(
        f"What moves the plan: {_case(sensitivity)}{more}",
        tuple(swing.name for swing in shown),
        Axis(CRITERIA[sensitivity.objective].axis),
        tuple(bars),
        base=CRITERIA[sensitivity.objective].shown_scale * base,
    )


def _search_blocks(sensitivity: Sensitivity, search: Search) -> list[Block]:
    ends, watched, count = f"{search.low:g} to {search.high:g} times", WATCHES[search.watch], len(search.probes)
    if not search.switches:
        same = search.probes[0].watched(search.watch)
        text = f"{search.name}, {ends}: no switch of {watched} found; it is {same} at all {count} factors"
        return [Notes(f"Switch points of {search.name}", (text,))]
    unit = CRITERIA[sensitivity.objective].shown_unit
    table = listing(
        f"Where {watched} switches with {search.name}, {ends} what it is, to {100 * search.tolerance:g} %",
        search.switches,
        (Column("between factors"), lambda switch: f"{switch.below:.4g} and {switch.above:.4g}"),
        (Column("at", words=True), lambda switch: _where(sensitivity, search.name, switch)),
        (Column("below"), lambda switch: _plan(switch.before) or "no plan"),
        degrees(lambda switch: switch.before.cluster),
        (Column(unit, True), lambda switch: _value(sensitivity, switch.before, False)),
        (Column("above"), lambda switch: _plan(switch.after) or "no plan"),
        degrees(lambda switch: switch.after.cluster),
        (Column(unit, True), lambda switch: _value(sensitivity, switch.after, False)),
    )
    note = (
        f"{search.name}: looked at {count} factors from {search.low:g} to {search.high:g}, then by bisection where "
        "neighbours differ; a switch there and back between two that agree is not seen"
    )
    return [table, Notes("", (note,))]


def _where(sensitivity: Sensitivity, name: str, switch: Switch) -> str:
    """The place of a switch in the input's own unit, and as a ratio of prices."""
    kind, _, machine = name.partition(":")
    known = sensitivity.values.get(name)
    if known is None:
        text = f"{switch.at:.3g} times"
        notes = [
            f"{significant(switch.at * link.value)} {link.unit} a {of.partition(':')[2]}"
            for of, link in sensitivity.values.items()
            if name == "link-bandwidth" and of.startswith(f"{name}:")
        ]
    else:
        value = switch.at * known.value
        text = f"{significant(value)} {known.unit}".strip()
        notes = [
            f"{value / other.value:.3g} of {of.partition(':')[2]}'s"
            for of, other in sensitivity.values.items()
            if machine and kind in ("price", "power") and of.startswith(f"{kind}:") and of != name
        ]
    return f"{text} ({', '.join(notes)})" if notes else text


def _search_chart(sensitivity: Sensitivity, search: Search) -> LineChart:
    """The objective over the factor: what the probes and the ends of the switches showed."""
    now = sensitivity.values.get(search.name, InputValue(1.0, "times what it is"))
    outcomes = (*search.probes, *(end for switch in search.switches for end in (switch.before, switch.after)))
    points = {outcome.scale[search.name]: outcome for outcome in outcomes}
    factors = sorted(points)
    series = Series(
        sensitivity.objective,
        tuple(now.value * factor for factor in factors),
        scaled(sensitivity.objective, (points[factor] for factor in factors)),
        notes=tuple(_plan(points[factor]) or points[factor].reason for factor in factors),
    )
    rules = tuple(Rule(now.value * s.at, f"{_plan(s.before)} | {_plan(s.after)}", "x") for s in search.switches)
    return LineChart(
        f"Where {WATCHES[search.watch]} switches with {search.name}: {_case(sensitivity)}",
        Axis(f"{search.name} ({now.unit})" if now.unit else search.name, logarithmic=search.high > 10.0 * search.low),
        Axis(CRITERIA[sensitivity.objective].axis),
        (series,),
        rules,
    )


def _map(sensitivity: Sensitivity) -> tuple[list[float], list[float], dict[tuple[float, float], Cell]]:
    """The rates and the ratios of the map in rising order, and its cells by both."""
    cells = {(cell.rate_rps, cell.ratio): cell for cell in sensitivity.cells}
    return sorted({rate for rate, _ in cells}), sorted({ratio for _, ratio in cells}), cells


def _better(cell: Cell, objective: ObjectiveName) -> str:
    """The better kind of design of a cell, with how much less it needs."""
    if cell.saving is None:
        if not any(each.feasible for _, each in _ways(cell)):
            return "no plan"
        return "only split" if cell.split.feasible else "only colocated"
    if abs(cell.saving) < _PAYS:
        return "equal"
    if cell.saving > 0:
        return f"{cell.split.design.removeprefix('Splitwise-')} {-100.0 * cell.saving:.1f} %"
    colocated = [(value, name) for name, each in _ways(cell)[1:] if (value := each.of(objective)) is not None]
    best = min(colocated, key=lambda pair: pair[0])[1]
    return f"{best} {100.0 * cell.saving / (1.0 - cell.saving):.1f} %"


def _ways(cell: Cell) -> tuple[tuple[str, Outcome], ...]:
    """The best plans of a cell, by the way in which they serve."""
    return ("split", cell.split), *cell.colocated.items()


def _map_chart(sensitivity: Sensitivity) -> HeatMap:
    rates, ratios, cells = _map(sensitivity)
    rows = [[cells[rate, ratio] for ratio in ratios] for rate in rates]
    better = [(i, j) for i, row in enumerate(rows) for j, cell in enumerate(row) if (cell.saving or 0.0) > _PAYS]

    def note(cell: Cell) -> str:
        return "; ".join(f"{n}: {_plan(each) or 'no plan'}, {_value(sensitivity, each)}" for n, each in _ways(cell))

    return HeatMap(
        f"Should I split? {sensitivity.workload} on {sensitivity.model}, SLO {sensitivity.slo}",
        Axis("mean prompt tokens : mean output tokens"),
        Axis("rate (requests/s)"),
        Axis(f"{sensitivity.objective} of the best split design against the best colocated one (%)"),
        tuple(ratios),
        tuple(rates),
        tuple(tuple(None if cell.saving is None else -100.0 * cell.saving for cell in row) for row in rows),
        tuple(tuple(note(cell) for cell in row) for row in rows),
        middle=0.0,
        marks=tuple(Mark(i, j, "dot", "splitting pays") for i, j in better),
    )


def charts(sensitivity: Sensitivity) -> Mapping[str, Chart]:
    """The tornado, a curve for each search, the map."""
    base = sensitivity.base.of(sensitivity.objective)
    return {
        **({"tornado": _tornado_chart(sensitivity, base)} if sensitivity.swings and base is not None else {}),
        **{f"switches: {search.name}": _search_chart(sensitivity, search) for search in sensitivity.searches},
        **({"map": _map_chart(sensitivity)} if sensitivity.cells else {}),
    }


def plan_rows(sensitivity: Sensitivity) -> list[Row]:
    """One row per plan: the part of the result, the input with its factor or the cell of the map, and the plan."""
    moved = [("tornado", swing.name, end) for swing in sensitivity.swings for end in (swing.low, swing.high)]
    for search in sensitivity.searches:
        moved += [("switch", search.name, end) for each in search.switches for end in (each.before, each.after)]
    rows: list[Row] = [{"part": "base", **_cells(sensitivity.base)}]
    rows += [{"part": part, "input": name, "factor": end.scale[name], **_cells(end)} for part, name, end in moved]
    for cell in sensitivity.cells:
        given = {"map_rate_rps": cell.rate_rps, "prompt_output_ratio": cell.ratio}
        rows += [{"part": "map", **given, "served_by": name, **_cells(each)} for name, each in _ways(cell)]
    return rows


def _cells(outcome: Outcome) -> Row:
    return {
        "feasible": outcome.feasible,
        "design": outcome.design,
        "pools": "" if outcome.cluster is None else outcome.cluster.listed,
        **degree_cells(outcome.cluster),
        **total_cells(outcome.totals),
        "rate_rps": outcome.rate_rps,
        "reason": outcome.reason,
    }


def map_rows(sensitivity: Sensitivity) -> list[Row]:
    """One row per cell of the map: the best design of each way to serve, and the saving of splitting."""
    return [
        {
            "rate_rps": cell.rate_rps,
            "prompt_output_ratio": cell.ratio,
            **{f"{name}_{sensitivity.objective}": each.of(sensitivity.objective) for name, each in _ways(cell)},
            "saving": cell.saving,
        }
        for cell in sensitivity.cells
    ]


VIEW: Final = View(Sensitivity, document, charts, {"plans": plan_rows, "map": map_rows})

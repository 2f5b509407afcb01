"""A sweep of pool sizes as a report and as pictures: the optimum first, then the frontier, what binds, and a map."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from provisioner.report.chart import Axis, Chart, HeatMap, LineChart, Mark, Rule, Series
from provisioner.report.command_line import simulate_command, simulate_question
from provisioner.report.document import Block, Code, Column, Document, Facts, Notes, Table, table
from provisioner.report.numbers import dollars, kilowatts, milliseconds, per_cent, significant, whole
from provisioner.report.plan_document import shown
from provisioner.specs.metrics import METRICS
from provisioner.specs.units import format_cost, format_power

if TYPE_CHECKING:
    from provisioner.specs.slo import LatencyLimit

Cell = Mapping[str, Any]

STATE: Final = {
    "pass": "passes",
    "undecided": "undecided",
    "fail": "misses a limit",
    "unstable": "unstable",
    "stuck": "never served",
    "infeasible": "cannot serve",
}
COUNTED: Final = {
    "pass": "passing",
    "undecided": "undecided",
    "fail": "missing a limit",
    "unstable": "unstable",
    "stuck": "leaving requests unserved",
    "infeasible": "that cannot serve these requests",
}
_BEST: Final = {"cost": "cheapest", "power": "least power", "machines": "fewest machines"}
_PROGRAM: Final = ("provisioner", "python")
_PERCENTILE: Final = re.compile(r"(ttft|tbt|e2e)_p([\d.]+)_s")

# Rows of the frontier that a terminal shows, and the width and height of a map as text.
_SHOWN_FRONTIER: Final = 20
_MAP_COLUMNS: Final = 90
_MAP_ROWS: Final = 60
_WIDE: Final = 44  # up to so many columns stand apart

# Signs of a map.
_OPTIMUM, _FRONTIER, _PASSES = "*", "o", "+"
_OTHER: Final = {"undecided": "?", "unstable": "~", "stuck": "#", "infeasible": "x"}


def sweep_document(found: Any, *, inputs: bool = False) -> Document:
    """The report of a ``Sweep``. ``inputs`` adds every option and the whole frontier."""
    blocks: list[Block] = [answer_facts(found)]
    if found.optimum is not None:
        blocks.append(latency_table("Latency at the optimum", found.cells[found.optimum], found.slo.limits))
    if found.frontier:
        blocks.append(frontier_table(found, None if inputs else _SHOWN_FRONTIER))
    if found.slo.limits:
        blocks.append(bindings_table(found))
    drawn = text_map(found)
    if drawn:
        blocks.append(drawn)
    blocks += evidence_blocks(found, method_facts(found))
    if inputs:
        blocks += inputs_blocks(found.question, sweep_command(found.question), "sweep")
    return Document(headline(found), subtitle(found), tuple(blocks))


def evidence_blocks(found: Any, method: Facts) -> list[Block]:
    """Warnings, sources, and how it was computed."""
    blocks: list[Block] = [Notes("Warnings", tuple(found.warnings), warning=True)] if found.warnings else []
    return [*blocks, Notes("Sources", tuple(found.sources)), method]


def inputs_blocks(question: Mapping[str, Any], command: str, what: str) -> list[Block]:
    """Every option of a sweep, and the command that does it again."""
    asked = {**simulate_question(question["options"]), **{k: v for k, v in question.items() if k != "options"}}
    rows = [(name, shown(value)) for name, value in asked.items()]
    columns = (Column("option"), Column("value", words=True))
    return [Table("Inputs", columns, tuple(rows)), Code(f"To repeat this {what}", command)]


def headline(found: Any) -> str:
    """The optimum, or that there is none."""
    if found.optimum is None:
        return f"{found.design}: no cluster of the {len(found.cells):,} swept passes"
    sizes = found.sizes_of(found.cells[found.optimum])
    pools = " + ".join(f"{n} {machine} ({role})" for n, (role, machine) in zip(sizes, found.pools, strict=True))
    return f"{found.design}: {pools}"


def subtitle(found: Any) -> str:
    """What was swept, in a sentence."""
    spans = " x ".join(f"{span(sizes)} {role}" for (role, _), sizes in zip(found.pools, found.sizes, strict=True))
    judged = f"SLO {found.slo.name}" if found.slo.limits else "no latency limits"
    return f"Swept: {spans} machines, {found.workload} on {found.model}, {found.load}, {judged}."


def span(values: Sequence[float]) -> str:
    """Values in words: one, a run with its step, or all of them.

    >>> span((1, 2, 3, 4)), span((30.0, 40.0, 50.0)), span((7,)), span((1, 2, 4))
    ('1 to 4', '30 to 50 by 10', '7', '1, 2, 4')
    """
    steps = {float(f"{after - before:.9g}") for before, after in pairwise(values)}
    if len(steps) == 1 and len(values) > 2:
        step = steps.pop()
        return f"{plain(values[0])} to {plain(values[-1])}" + ("" if step == 1 else f" by {step:g}")
    listed = [plain(value) for value in values]
    return ", ".join(listed if len(listed) <= 12 else [*listed[:5], "...", listed[-1]])


def plain(value: float) -> str:
    """A value of a range: a whole number with all its digits, another with six.

    >>> plain(1048576), plain(30.0), plain(1 / 3)
    ('1048576', '30', '0.333333')
    """
    return str(value) if isinstance(value, int) else f"{value:g}"


def answer_facts(found: Any) -> Facts:
    """The optimum's totals and what binds it, and how many clusters pass."""
    facts: list[tuple[str, str]] = []
    if found.optimum is not None:
        best = found.cells[found.optimum]
        facts += [
            ("cost", format_cost(best["cost_usd_per_h"])),
            ("power", format_power(best["power_w"])),
            ("machines", whole(best["machines"])),
        ]
        if best["binding"]:
            facts.append(("least slack", f"{per_cent(1.0 - best['worst_ratio'])} % ({limit_label(best['binding'])})"))
    else:
        facts.append(("nearest", _nearest(found)))
    counts = [f"{count:,} {COUNTED[state]}" for state, count in found.states.items()]
    facts.append(("clusters", f"{len(found.cells):,} simulated whole: {', '.join(counts)}"))
    if found.frontier:
        what = "cluster passes" if len(found.frontier) == 1 else "clusters pass"
        facts.append(("frontier", f"{len(found.frontier):,} {what} where no smaller one swept does"))
    return Facts("", tuple(facts))


def _nearest(found: Any) -> str:
    """The cluster that comes nearest to passing, with why it does not."""
    simulated = [cell for cell in found.cells if cell["state"] != "infeasible"]
    stable = [cell for cell in simulated if cell["stable"]] or simulated
    best = min(stable, key=lambda cell: math.inf if math.isnan(cell["worst_ratio"]) else cell["worst_ratio"])
    return f"{' + '.join(map(str, found.sizes_of(best)))}: {best['why']}"


def limit_label(name: str) -> str:
    """A limit as people write it.

    >>> limit_label("ttft_p99")
    'TTFT P99'
    """
    return name.replace("_", " ").upper()


def percentile_names(cell: Cell) -> list[str]:
    """The percentiles that a record has, such as ``ttft_p99``."""
    found = [match for name in cell if (match := _PERCENTILE.fullmatch(name))]
    return [f"{match[1]}_p{match[2]}" for match in found]


def limits_by_name(limits: Iterable[LatencyLimit]) -> dict[str, LatencyLimit]:
    """Limits by the names of columns."""
    return {limit.name: limit for limit in limits}


def latency_table(title: str, cell: Cell, limits: Iterable[LatencyLimit]) -> Table:
    """One row per percentile of a cluster, beside its limit; the one that binds stands out."""
    columns = (
        Column("latency"),
        Column("ms", True),
        Column("slowdown, x", True),
        Column("limit", True),
        Column("slack, %", True),
    )
    by_name = limits_by_name(limits)
    rows, strong = [], []
    for k, name in enumerate(percentile_names(cell)):
        limit = by_name.get(name)
        value = math.nan if limit is None else cell[f"{name}_{'s' if limit.kind == 'seconds' else 'slowdown'}"]
        slack = "" if limit is None else number(1.0 - value / limit.value, per_cent)
        bound = "" if limit is None else limit.format(limit.value)
        times = number(cell[f"{name}_s"], milliseconds), number(cell[f"{name}_slowdown"])
        rows.append((limit_label(name), *times, bound, slack))
        if name == cell["binding"]:
            strong.append(k)
    return table(title, columns, rows, strong)


def number(value: float | None, text: Callable[[float], str] = significant) -> str:
    """A number of a record; empty where there is none, "never" where requests are not served."""
    if value is None or math.isnan(value) or value == -math.inf:
        return ""
    return "never" if value == math.inf else text(value)


def frontier_table(found: Any, most: int | None) -> Table:
    """One row per cluster that passes where no smaller one does; the optimum stands out.

    With ``most``, that many rows around the optimum.
    """
    roles = [role for role, _ in found.pools]
    columns = (
        *(Column(role, True) for role in roles),
        Column("machines", True),
        Column("$/h", True),
        Column("kW", True),
        Column("slack, %", True),
        Column("binds"),
        *(Column(f"{role} busy, %", True) for role in roles),
    )
    listed, left_out = list(found.frontier), 0
    if most is not None and len(listed) > most:
        at = listed.index(found.optimum) if found.optimum in listed else 0
        begin = min(max(at - most // 2, 0), len(listed) - most)
        left_out = len(listed) - most
        listed = listed[begin : begin + most]
    rows = []
    for k in listed:
        cell = found.cells[k]
        rows.append(
            (
                *(whole(size) for size in found.sizes_of(cell)),
                whole(cell["machines"]),
                dollars(cell["cost_usd_per_h"], sign=False),
                kilowatts(cell["power_w"]),
                number(1.0 - cell["worst_ratio"], per_cent),
                limit_label(cell["binding"]),
                *(per_cent(cell[f"{role}_utilization"]) for role in roles),
            )
        )
    more = f" ({left_out:,} more in the files of --out)" if left_out else ""
    strong = [k for k, position in enumerate(listed) if position == found.optimum]
    return table(f"Frontier: they pass, and no smaller one swept does{more}", columns, rows, strong)


def bindings_table(found: Any) -> Table:
    """One row per limit: in how many clusters it is the one with the largest value for its limit."""
    states = [state for state in found.states if state != "infeasible"]
    limits = limits_by_name(found.slo.limits)
    columns = (Column("limit"), Column("", True), *(Column(STATE[state], True) for state in states))
    rows = [
        (
            limit_label(name),
            limits[name].format(limits[name].value),
            *(whole(counts[state]) if state in counts else "" for state in states),
        )
        for name, counts in found.bindings.items()
    ]
    return Table("Clusters in which each limit binds (has the largest value for its limit)", columns, tuple(rows))


def text_map(found: Any) -> Code | None:
    """Every cluster as one character, where there are two pools and room for them."""
    if len(found.sizes) != 2 or min(map(len, found.sizes)) < 2:
        return None
    rows, columns = found.sizes
    if len(columns) > _MAP_COLUMNS or len(rows) > _MAP_ROWS:
        return None
    apart = " " if len(columns) <= _WIDE else ""
    margin = max(len(str(rows[-1])), len(str(columns[-1])))
    lines = []
    for k in reversed(range(len(rows))):
        signs = (_sign(found, k * len(columns) + j) for j in range(len(columns)))
        lines.append(f"{rows[k]:>{margin}} |{apart}{apart.join(signs)}")
    lines.append(f"{'':{margin}} +{'-' * (len(columns) * (1 + len(apart)) + len(apart))}")
    digits = len(str(columns[-1]))
    for place in range(digits):  # numbers of columns are read downwards
        lines.append(f"{'':{margin}}  {apart}{apart.join(f'{n:>{digits}}'[place] for n in columns)}".rstrip())
    (up, _), (right, _) = found.pools
    lines += ["", *_legend(found)]
    return Code(f"Map: {up} machines upwards, {right} machines to the right", "\n".join(lines))


def _sign(found: Any, k: int) -> str:
    cell = found.cells[k]
    if k == found.optimum:
        return _OPTIMUM
    if cell["state"] == "pass":
        return _FRONTIER if k in found.frontier else _PASSES
    if cell["state"] == "fail":
        metric = METRICS.get(str(cell["binding"]).partition("_")[0])
        return "-" if metric is None else metric.sign
    return _OTHER[cell["state"]]


def _legend(found: Any) -> list[str]:
    """What the signs of a map that are used mean."""
    signs = {_sign(found, k) for k in range(len(found.cells))}
    meanings = {
        _OPTIMUM: "optimum",
        _FRONTIER: "frontier",
        _PASSES: "passes",
        **{metric.sign: f"misses {metric.label} most" for metric in METRICS.values()},
        **{sign: STATE[state] for state, sign in _OTHER.items()},
    }
    used = [f"{sign} {text}" for sign, text in meanings.items() if sign in signs]
    return ["   ".join(used[k : k + 4]) for k in range(0, len(used), 4)]


def method_facts(found: Any) -> Facts:
    """How it was simulated."""
    facts = [
        ("passes", passing_rule(found.sets)),
        ("optimum", f"{_BEST[found.objective]}; then by cost, power, machines, and the largest slack"),
        ("policy", f"{found.policy} (docs/reference/simulation.md)"),
        *program_facts(found),
    ]
    return Facts("How this was computed", tuple(facts))


def passing_rule(sets: int, over: str = "") -> str:
    """When a cluster passes on so many request sets, in words; ``over`` names the sets where their number does not."""
    if sets == 1:
        return "stable, and every percentile within its limit"
    return (
        "stable, and of every percentile the one-sided 95 % upper bound of the mean over "
        f"{over or f'{sets} request sets'} is within its limit"
    )


def program_facts(found: Any) -> list[tuple[str, str]]:
    """Assumptions, seed and versions."""
    program = [f"{name} {found.versions[name]}" for name in _PROGRAM if name in found.versions]
    libraries = [f"{name} {version}" for name, version in found.versions.items() if name not in _PROGRAM]
    return [
        ("assumptions", found.assumptions),
        ("prices", found.prices),
        ("seed", str(found.seed)),
        ("program", ", ".join(program)),
        ("libraries", ", ".join(libraries)),
    ]


def sweep_command(question: Mapping[str, Any]) -> str:
    """The ``provision sweep`` command of a sweep's question, with its defaults written out."""
    sizes = {f"{role}_machines": None for role in ("prompt", "token", "mixed")}
    typed = _simulated(question, sizes)
    for role in ("prompt", "token", "mixed"):
        if question.get(role):
            typed += [f"--{role}", typed_range(question[role])]
    typed += ["--prices", str(question["prices"]), "--objective", str(question["objective"])]
    return shlex.join(["provision", "sweep", *typed])


def _simulated(question: Mapping[str, Any], replaced: Mapping[str, Any]) -> list[str]:
    return shlex.split(simulate_command({**question["options"], **replaced}))[2:]


def typed_range(values: Sequence[float]) -> str:
    """Values as a range is typed.

    >>> typed_range((1, 2, 3)), typed_range((30.0, 40.0, 50.0)), typed_range((5,)), typed_range((1, 2, 4))
    ('1:3:1', '30:50:10', '5', '1,2,4')
    """
    steps = {float(f"{after - before:.9g}") for before, after in pairwise(values)}
    if len(values) > 2 and len(steps) == 1:
        return f"{values[0]:.12g}:{values[-1]:.12g}:{steps.pop():.12g}"
    return ",".join(f"{value:.12g}" for value in values)


# --- pictures ---------------------------------------------------------------------------------------------


def sweep_charts(found: Any) -> tuple[Chart, ...]:
    """How far every cluster of a ``Sweep`` is within or beyond its limits: over all limits, then for each metric.

    A map over two pools' sizes, curves where one alone varies. Without limits, the pools' shares of time at work.
    """
    varied = [k for k, sizes in enumerate(found.sizes) if len(sizes) > 1]
    if len(varied) == 2:
        return _maps(found)
    return (_curve(found, varied[0] if varied else len(found.sizes) - 1),)


def _maps(found: Any) -> tuple[Chart, ...]:
    limits = limits_by_name(found.slo.limits)
    if not limits:
        role = found.pools[0][0]
        what = f"share of {role} machines' time at work"
        return (_map(found, what, lambda cell: cell.get(f"{role}_utilization"), None),)
    maps: list[Chart] = [_map(found, "largest percentile over its limit", lambda cell: cell.get("worst_ratio"), 1.0)]
    metrics = list(dict.fromkeys(limit.metric for limit in limits.values()))
    if len(metrics) > 1:
        for metric in metrics:
            of_metric = {name: limit for name, limit in limits.items() if limit.metric == metric}
            what = f"largest {METRICS[metric].label} percentile over its limit"
            maps.append(_map(found, what, lambda cell, of=of_metric: _ratio(cell, of), 1.0, metric))  # type: ignore[misc]
    return tuple(maps)


def _ratio(cell: Cell, limits: Mapping[str, LatencyLimit]) -> float | None:
    """The largest of some percentiles over their limits, None where there is none."""
    ratios = [
        cell[f"{name}_{'s' if limit.kind == 'seconds' else 'slowdown'}"] / limit.value
        for name, limit in limits.items()
        if f"{name}_s" in cell
    ]
    known = [ratio for ratio in ratios if not math.isnan(ratio)]
    return max(max(known), 0.0) if known else None


def _map(
    found: Any, what: str, value: Callable[[Cell], float | None], middle: float | None, metric: str = ""
) -> HeatMap:
    """A map of one number of every cluster; its notes have the percentiles of one metric, or of all."""
    rows, columns = found.sizes
    values, notes = [], []
    for k in range(len(rows)):
        cells = found.cells[k * len(columns) : (k + 1) * len(columns)]
        values.append(tuple(_positive(value(cell), middle) for cell in cells))
        notes.append(tuple(cell_note(found, cell, metric) for cell in cells))
    at = {k: divmod(k, len(columns)) for k in range(len(found.cells))}
    marks = [Mark(*at[k], "dot", "frontier: no smaller one passes") for k in found.frontier if k != found.optimum]
    if found.optimum is not None:
        marks.append(Mark(*at[found.optimum], "star", _named(found, found.cells[found.optimum], "optimum")))
    (up, up_machine), (right, right_machine) = found.pools
    return HeatMap(
        title=f"{found.design}, {found.workload} on {found.model}: {what}",
        x=Axis(f"{right} machines ({right_machine})"),
        y=Axis(f"{up} machines ({up_machine})"),
        value=Axis(what, logarithmic=middle is not None),
        columns=tuple(columns),
        rows=tuple(rows),
        values=tuple(values),
        notes=tuple(notes),
        middle=middle,
        marks=tuple(marks),
        outlined=frozenset(at[k] for k, cell in enumerate(found.cells) if cell["state"] == "pass"),
        outline="passes" if middle is None else "passes: stable, and every limit met",
    )


def _positive(value: float | None, middle: float | None) -> float | None:
    """A value that can be drawn; on a logarithmic axis one of 0 cannot."""
    if value is None or not math.isfinite(value) or (middle is not None and value <= 0.0):
        return None
    return value


def _named(found: Any, cell: Cell, what: str) -> str:
    return f"{what}: {' + '.join(map(str, found.sizes_of(cell)))}, {format_cost(cell['cost_usd_per_h'])}"


def cell_note(found: Any, cell: Cell, metric: str = "") -> str:
    """A cluster in lines: its sizes and totals, its state, every percentile, or those of a metric."""
    first = " + ".join(map(str, found.sizes_of(cell)))
    totals = f"{format_cost(cell['cost_usd_per_h'])}, {format_power(cell['power_w'])}"
    return "\n".join([f"{first}: {totals}", *point_lines(cell, found.slo.limits, metric)])


def point_lines(cell: Cell, limits: Iterable[LatencyLimit], metric: str = "") -> list[str]:
    """The state of a point and why, then every percentile, or those of a metric, beside its limit."""
    state = STATE[cell["state"]]
    lines = [f"{state}: {cell['why']}" if cell["why"] and not metric else state]
    by_name = limits_by_name(limits)
    for name in percentile_names(cell):
        if not name.startswith(metric):
            continue
        limit = by_name.get(name)
        value = f"{number(cell[f'{name}_s'], milliseconds)} ms, {number(cell[f'{name}_slowdown'])}x"
        lines.append(
            f"{limit_label(name)} {value}" + ("" if limit is None else f" (limit {limit.format(limit.value)})")
        )
    return lines


def _curve(found: Any, varied: int) -> LineChart:
    """The largest percentile of each metric over its limit against the machines of one pool."""
    role, machine = found.pools[varied]
    x = tuple(float(size) for size in found.sizes[varied])
    fixed = [
        f"{sizes[0]} {r}" for k, ((r, _), sizes) in enumerate(zip(found.pools, found.sizes, strict=True)) if k != varied
    ]
    title = ", ".join([found.design, *fixed, f"{found.workload} on {found.model}"])
    rules = []
    if found.optimum is not None:
        best = found.sizes_of(found.cells[found.optimum])[varied]
        rules.append(Rule(float(best), f"optimum: {best}", "x"))
    limits = limits_by_name(found.slo.limits)
    axis = Axis(f"{role} machines ({machine})")
    notes = tuple(cell_note(found, cell) for cell in found.cells)
    if not limits:
        shares = tuple(cell.get(f"{role}_utilization") for cell in found.cells)
        busy = Axis("share of time at work", from_zero=True)
        return LineChart(f"{title}: time at work", axis, busy, (Series(role, x, shares, notes=notes),), tuple(rules))
    series = []
    for metric in dict.fromkeys(limit.metric for limit in limits.values()):
        of_metric = {name: limit for name, limit in limits.items() if limit.metric == metric}
        y = tuple(_positive(_ratio(cell, of_metric), 1.0) for cell in found.cells)
        series.append(Series(METRICS[metric].label, x, y, notes=notes))
    return LineChart(
        title=f"{title}: largest percentile over its limit",
        x=axis,
        y=Axis("largest percentile over its limit", logarithmic=True),
        series=tuple(series),
        rules=(Rule(1.0, "limit"), *rules),
    )

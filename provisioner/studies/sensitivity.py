"""How the answer moves with each input: a tornado, the points where it switches, and where splitting pays.

Inputs are multiplied by factors (``options.FACTORS``, ``MACHINE_FACTORS``), and every value is a plan of its own.
Switch points are found by bisection, not read off a grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from provisioner.errors import InfeasibleError, InputError, UnknownNameError
from provisioner.loading.setting import load_setting
from provisioner.options import FACTORS, MACHINE_FACTORS, PlanOptions
from provisioner.planning.setting import Setting
from provisioner.specs.traces import Trace
from provisioner.specs.units import parse_fraction, parse_positive
from provisioner.studies.outcome import WATCHES, Change, Outcome, Question, Watch, outcome, outcome_of, outcomes
from provisioner.studies.result import StudyResult
from provisioner.studies.work import Workers, workers
from provisioner.verify.answer import best_plan

if TYPE_CHECKING:
    import pandas as pd

    from provisioner.report.chart import Chart
    from provisioner.report.document import Document

SPREAD: Final = 0.2
TOLERANCE: Final = 0.01
PROBES: Final = 5
"""Factors looked at between the ends before bisection: between two that agree, no switch is looked for."""
_MOST_PROBES: Final = 1000


@dataclass(frozen=True, slots=True)
class Swing:
    """One input of the tornado: the answer where it is ``low`` and ``high`` times what it is."""

    name: str
    low: Outcome
    high: Outcome

    def width(self, objective: str, base: float) -> float:
        """How far the objective moves in all, relative to the base; infinite where one end has no plan."""
        values = [self.low.of(objective), self.high.of(objective)]
        known = [value for value in values if value is not None]
        return math.inf if len(known) < 2 else (max(*known, base) - min(*known, base)) / base


@dataclass(frozen=True, slots=True)
class Switch:
    """A switch between two factors on an input that are as near as the tolerance asks."""

    name: str
    below: float
    above: float
    before: Outcome
    after: Outcome

    @property
    def at(self) -> float:
        """The factor in the middle."""
        return math.sqrt(self.below * self.above)


@dataclass(frozen=True, slots=True)
class Search:
    """Where switches of an input were looked for: its ends, the factors looked at, and what was found."""

    name: str
    low: float
    high: float
    watch: Watch
    tolerance: float
    switches: tuple[Switch, ...]
    probes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the map: the best design that splits against the best colocated ones."""

    rate_rps: float
    ratio: float
    split: Outcome
    mixed: Outcome
    chunked: Outcome

    def saving(self, objective: str) -> float | None:
        """How much less the best split design needs than the best colocated one, as a share of the latter.

        None where either has no plan, exactly 0 where they need the same but for rounding.
        """
        colocated = [value for each in (self.mixed, self.chunked) if (value := each.of(objective)) is not None]
        split = self.split.of(objective)
        if split is None or not colocated:
            return None
        least = min(colocated)
        return 0.0 if math.isclose(split, least, rel_tol=1e-9) else 1.0 - split / least


@dataclass(frozen=True, slots=True)
class Sensitivity(StudyResult):
    """How the answer to a question moves: the tornado, the switch points, and the map of where splitting pays.

    ``values`` has the values of inputs in their own units where there is one (a rate, a price), by name.
    """

    base: Outcome
    objective: str
    title: str
    spread: float
    swings: tuple[Swing, ...] = ()
    searches: tuple[Search, ...] = ()
    cells: tuple[Cell, ...] = ()
    values: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    fast: bool = False
    sources: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    question: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def to_frame(self) -> pd.DataFrame:
        """One row per plan: what was changed, to what, and the answer there."""
        import pandas as pd

        return pd.DataFrame(list(self._rows()))

    def _rows(self) -> Iterable[dict[str, Any]]:
        yield {"part": "base", **self.base.row()}
        for swing in self.swings:
            for end in (swing.low, swing.high):
                yield {"part": "tornado", "input": swing.name, "factor": end.scale[swing.name], **end.row()}
        for search in self.searches:
            for switch in search.switches:
                for factor, end in ((switch.below, switch.before), (switch.above, switch.after)):
                    yield {"part": "switch", "input": search.name, "factor": factor, **end.row()}
        for cell in self.cells:
            for policy, best in (("split", cell.split), ("mixed", cell.mixed), ("chunked", cell.chunked)):
                given = {"map_rate_rps": cell.rate_rps, "prompt_output_ratio": cell.ratio, "served_by": policy}
                yield {"part": "map", **given, **best.row()}

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values: what ``--json`` prints."""
        found = asdict(self)
        found["cells"] = [
            {**plain, "saving": cell.saving(self.objective)}
            for plain, cell in zip(found["cells"], self.cells, strict=True)
        ]
        return found

    def document(self) -> Document:
        """The report."""
        from provisioner.report.sensitivity_document import sensitivity_document

        return sensitivity_document(self, inputs=True)

    def charts(self) -> tuple[Chart, ...]:
        """Its pictures: the tornado, the answer over each input that was searched, and the map."""
        from provisioner.report.sensitivity_document import sensitivity_charts

        return sensitivity_charts(self)


def sensitivity(
    options: PlanOptions,
    *,
    inputs: Sequence[str] | None = None,
    spread: float = SPREAD,
    switches: Mapping[str, tuple[float, float]] | None = None,
    watch: str = "design",
    tolerance: float = TOLERANCE,
    probes: int = PROBES,
    rates_rps: Sequence[float] = (),
    ratios: Sequence[float] = (),
    dask: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Sensitivity:
    """How the answer to a question moves with its inputs.

    ``inputs`` (None: all that the question has, or none where ``switches`` or a map are asked for) make the tornado,
    each at 1 / (1 + spread) and 1 + spread times what it is. ``switches`` are searched between two factors for where
    ``watch`` changes, to a relative ``tolerance``, from ``probes`` factors between the ends. ``rates_rps`` by
    ``ratios`` (mean prompt over mean output tokens, prompts as they are) make the map.

    ``InputError`` for what cannot be understood. A factor at which there is no plan is part of the answer.
    """
    setting = load_setting(options)
    _check(options, setting, switches or {}, watch, tolerance, probes, rates_rps, ratios)
    spread = parse_positive(spread, "--spread")
    if inputs is None:
        inputs = () if switches or rates_rps else known_inputs(setting)
    for name in inputs:
        _check_input(name, options, setting)
    question = Question(options)
    progress("the plan as it is")
    try:
        base = outcome_of(best_plan(setting, progress, question.verdicts), setting, {})
    except InfeasibleError as error:
        base = Outcome({}, False, reason=str(error))
    with workers(1 if dask is None else None, dask) as pool:  # a plan uses the threads of this machine itself
        swings = _tornado(question, inputs, spread, pool, progress)
        searches = [
            _searched(question, name, bounds, watch, tolerance, probes, progress)  # type: ignore[arg-type]
            for name, bounds in (switches or {}).items()
        ]
        cells = _map(question, setting, rates_rps, ratios, pool, progress)
    known = base.of(options.objective)
    return Sensitivity(
        base=base,
        objective=options.objective,
        title=_title(setting),
        spread=spread,
        swings=tuple(sorted(swings, key=lambda each: -each.width(options.objective, known)) if known else swings),
        searches=tuple(searches),
        cells=tuple(cells),
        values=_values(setting),
        fast=options.fast,
        sources=setting.sources,
        warnings=setting.warnings,
        question=asdict(options),
        versions=setting.versions,
    )


def known_inputs(setting: Setting) -> tuple[str, ...]:
    """The inputs that can move the answer to a question: prices of every machine type, lengths, links, limits."""
    objective, caps = setting.objective, setting.caps
    if isinstance(setting.source, Trace):
        names = [name for name in FACTORS if name != "cv"]
    elif objective == "throughput":
        names = [name for name in FACTORS if name != "rate"]
    else:
        names = list(FACTORS)
    if not setting.slo.limits:
        names.remove("slo")
    names += ["prompt-time", "decode-time"]
    if any(design.splits for design in setting.designs):
        names.append("link-bandwidth")
    used = {slot.machine.name for design in setting.designs for slot in design.slots}
    for name, matters in (
        ("price", objective == "cost" or caps.cost_usd_per_h is not None),
        ("power", objective == "power" or caps.power_w is not None),
    ):
        names += [f"{name}:{machine}" for machine in setting.machines if matters and machine in used]
    return tuple(names)


def _check_input(name: str, options: PlanOptions, setting: Setting) -> None:
    kind, _, machine = name.partition(":")
    if kind not in (*FACTORS, *MACHINE_FACTORS):
        raise UnknownNameError("input", kind, (*FACTORS, *MACHINE_FACTORS))
    load_setting(replace(options, scale={name: 1.0}))  # refuses what means nothing for this question
    if machine and machine not in setting.machines:
        raise InputError(f"{name}: {machine} is not among the machines considered ({', '.join(setting.replicas)})")


def _check(
    options: PlanOptions,
    setting: Setting,
    switches: Mapping[str, tuple[float, float]],
    watch: str,
    tolerance: float,
    probes: int,
    rates_rps: Sequence[float],
    ratios: Sequence[float],
) -> None:
    if watch not in WATCHES:
        raise UnknownNameError("thing to watch", watch, tuple(WATCHES))
    if not 0.0 < parse_fraction(tolerance, "--tolerance") <= 0.5:
        raise InputError(f"--tolerance: must be above 0 and at most 0.5, got {tolerance:g}")
    if not 0 <= probes <= _MOST_PROBES:
        raise InputError(f"--probes: must be from 0 to {_MOST_PROBES}, got {probes}")
    for name, (low, high) in switches.items():
        _check_input(name, options, setting)
        low, high = (parse_positive(each, f"--switch {name}") for each in (low, high))
        if not high > low:
            raise InputError(f"--switch {name}: must go from a smaller factor to a larger, got {low:g}:{high:g}")
    if bool(rates_rps) != bool(ratios):
        raise InputError("--rates and --ratios: make the map together; give both")
    for what, values in (("--rates", rates_rps), ("--ratios", ratios)):
        for value in values:
            parse_positive(value, what)
    if rates_rps and (isinstance(setting.source, Trace) or setting.objective == "throughput"):
        raise InputError("--rates: the map needs a workload at a rate, and an objective other than throughput")
    if rates_rps and setting.judging.policy is not None:
        raise InputError("--policy: the map compares the policies itself; leave it out")


def _title(setting: Setting) -> str:
    return f"{setting.workload} on {setting.model} at {setting.rate_rps:.4g} requests/s, SLO {setting.slo.name}"


def _values(setting: Setting) -> dict[str, tuple[float, str]]:
    """Inputs that have a value and a unit of their own, as they are now."""
    values: dict[str, tuple[float, str]] = {
        "rate": (setting.rate_rps, "requests/s"),
        "cv": (setting.traffic.cv, ""),
        "prompt-tokens": (_mean(setting, "prompt_tokens"), "tokens"),
        "output-tokens": (_mean(setting, "output_tokens"), "tokens"),
    }
    for name in setting.machines:
        perf = next(each for each in setting.replicas.values() if each.machine.name == name)
        values[f"price:{name}"] = (setting.prices.cost_usd_per_h[name], "$/h")
        values[f"power:{name}"] = (setting.prices.power_w[name], "W")
        values[f"link-bandwidth:{name}"] = (8e-9 * perf.link_bytes_per_s, "Gb/s")
    links = {values[f"link-bandwidth:{name}"][0] for name in setting.machines}
    if len(links) == 1:
        values["link-bandwidth"] = (links.pop(), "Gb/s")
    return values


def _mean(setting: Setting, tokens: str) -> float:
    classes = setting.traffic.classes
    return float(getattr(classes, tokens) @ classes.weight)


def _tornado(
    question: Question, inputs: Sequence[str], spread: float, pool: Workers, progress: Callable[[str], None]
) -> list[Swing]:
    factors = (1.0 / (1.0 + spread), 1.0 + spread)
    changes = [Change({name: factor}) for name in inputs for factor in factors]
    found = outcomes(question, changes, "plans of the tornado", pool, progress)
    return [Swing(name, found[2 * k], found[2 * k + 1]) for k, name in enumerate(inputs)]


def _searched(
    question: Question,
    name: str,
    bounds: tuple[float, float],
    watch: Watch,
    tolerance: float,
    probes: int,
    progress: Callable[[str], None],
) -> Search:
    """All switches of one input between two factors that the probes tell apart."""
    low, high = bounds

    def at(factor: float) -> Outcome:
        progress(f"{name} x {factor:.4g}: is {WATCHES[watch]} another?")
        return outcome(question, Change({name: factor}))

    factors = [low * (high / low) ** (k / (probes + 1)) for k in range(probes + 2)]
    looked = [(factor, at(factor)) for factor in factors]
    switches: list[Switch] = []
    open_intervals = [(*a, *b) for a, b in pairwise(looked)][::-1]
    while open_intervals:
        below, before, above, after = open_intervals.pop()
        if before.watched(watch) == after.watched(watch):
            continue
        if above / below <= 1.0 + tolerance:
            switches.append(Switch(name, below, above, before, after))
            continue
        middle = math.sqrt(below * above)
        between = at(middle)
        open_intervals += [(middle, between, above, after), (below, before, middle, between)]
    return Search(name, low, high, watch, tolerance, tuple(switches), tuple(found for _, found in looked))


def _map(
    question: Question,
    setting: Setting,
    rates_rps: Sequence[float],
    ratios: Sequence[float],
    pool: Workers,
    progress: Callable[[str], None],
) -> list[Cell]:
    if not rates_rps:
        return []
    split = tuple(design.name for design in setting.designs if design.splits)
    whole = tuple(design.name for design in setting.designs if not design.splits)
    if not split or not whole:
        raise InputError("--rates: the map compares designs that split with colocated ones; consider both kinds")
    now = _mean(setting, "prompt_tokens") / _mean(setting, "output_tokens")
    cells = [(rate, ratio) for rate in rates_rps for ratio in ratios]
    ways: list[dict[str, Any]] = [{"designs": split}, {"designs": whole}]
    if not setting.searching.fast:
        ways.append({"designs": whole, "policy": "chunked"})
    changes = [
        Change({"output-tokens": now / ratio}, {**way, "rate_rps": rate}) for rate, ratio in cells for way in ways
    ]
    found = outcomes(question, changes, "plans of the map", pool, progress)
    by_cell = [found[len(ways) * k : len(ways) * (k + 1)] for k in range(len(cells))]
    unknown = [Outcome({}, False, reason="the formulas know mixed batching only")] * (3 - len(ways))
    return [Cell(*cell, *three, *unknown) for cell, three in zip(cells, by_cell, strict=True)]

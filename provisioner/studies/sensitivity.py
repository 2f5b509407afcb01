"""Sensitivity of the answer to its inputs: a tornado, the points where it switches, and where splitting pays.

Inputs are multiplied by factors (``options.FACTORS``, ``MACHINE_FACTORS``), and every value is a plan of its own.
Switch points are found by bisection, not read off a grid.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from time import monotonic

from provisioner.deadline import check_time
from provisioner.errors import InfeasibleError, InputError, Interrupted, UnknownNameError
from provisioner.loading.setting import load_setting
from provisioner.options import FACTORS, MACHINE_FACTORS, PlanOptions, SensitivityOptions, spelled
from provisioner.options.command import command_of
from provisioner.options.defaults import policies
from provisioner.planning.setting import Setting
from provisioner.progress import worded
from provisioner.results.plan import Plan
from provisioner.results.sensitivity import Cell, InputValue, Outcome, Search, Sensitivity, Swing, Switch
from provisioner.specs.criteria import WATCHES, ObjectiveName
from provisioner.specs.money import in_currency
from provisioner.specs.traces import Trace
from provisioner.studies.work import Workers, time_left, workers
from provisioner.verify.answer import best_plan
from provisioner.verify.judge import Verdicts

_MOVED = 1e-9  # relative change of the objective from which on it counts


def sensitivity(options: SensitivityOptions, *, progress: Callable[[str], None] = lambda _: None) -> Sensitivity:
    """Find how the answer to a question moves with its inputs: the tornado, the switches and the map of the options.

    Without ``inputs`` the tornado has all that the question has, or none with ``switches`` or a map. A factor at which
    there is no plan is part of the answer.
    """
    asked = options.part(PlanOptions)
    setting = load_setting(asked, progress)
    inputs = options.inputs
    if inputs is None:
        inputs = () if options.switches or options.rates_rps else _known_inputs(setting)
    _check(options, asked, setting, inputs)
    verdicts = Verdicts()
    progress("the plan as it is")
    try:
        base = _in_brief(best_plan(setting, progress, verdicts), {})
    except InfeasibleError as error:
        base = Outcome(scale={}, reason=str(error))
    with workers(1 if options.dask is None else None, options.dask) as pool:  # a plan uses the threads here itself
        study = _Study(options, asked, setting, verdicts, pool, progress)
        swings = study.tornado(inputs)
        searches = [study.search(name) for name in options.switches]
        cells = study.map()
    check_time()  # plans that it cut short are not compared
    known = base.of(asked.objective)
    if known is not None:
        swings.sort(key=lambda each: -each.width(asked.objective, known))
    repeated = {name: value for name, value in asdict(options).items() if name not in (*options.LEFT_OUT, "dask")}
    return Sensitivity(
        base=base,
        objective=asked.objective,
        spread=options.spread,
        swings=tuple(swings),
        searches=tuple(searches),
        cells=tuple(cells),
        values=_values(setting),
        fast=options.fast,
        rate_rps=setting.rate_rps,
        warnings=(*noise_notes(swings, asked.objective, known), *setting.warnings),
        question=repeated,
        command=command_of("sensitivity", repeated, SensitivityOptions),
        **setting.rests_on,
    )


def noise_notes(swings: Sequence[Swing], objective: ObjectiveName, base: float | None) -> list[str]:
    """Warnings of inputs of which less and more move the answer the same way: verdicts near a limit, not the input."""
    if base is None:
        return []
    tell = (
        "less and more of it move the answer the same way: the base is so near a limit that verdicts flip with any "
        f"change; more request sets ({spelled('sets')}) or longer ones ({spelled('duration_s')}) tell"
    )
    notes = []
    for swing in swings:
        values = [swing.low.of(objective), swing.high.of(objective)]
        moves = [0.0 if value is None else value / base - 1.0 for value in values]
        if min(moves) > _MOVED or max(moves) < -_MOVED:
            notes.append(f"{swing.name}: {tell}")
    return notes


def _known_inputs(setting: Setting) -> tuple[str, ...]:
    """The inputs that can move the answer to a question: prices of every machine type, lengths, links, limits."""
    objective, caps = setting.objective, setting.caps
    dropped = "cv" if isinstance(setting.source, Trace) else "rate" if objective == "throughput" else ""
    names = [name for name in FACTORS if name != dropped and (name != "slo" or setting.slo.limits)]
    names += ["prompt-time", "decode-time"]
    if any(design.splits for design in setting.designs):
        names.append("link-bandwidth")
    used = {slot.machine.name for design in setting.designs for slot in design.slots}
    if objective == "cost" or caps.cost_usd_per_h is not None:
        names += [f"price:{machine}" for machine in setting.machines if machine in used]
    if objective == "power" or caps.power_w is not None:
        names += [f"power:{machine}" for machine in setting.machines if machine in used]
    return tuple(names)


def _check(options: SensitivityOptions, asked: PlanOptions, setting: Setting, inputs: Sequence[str]) -> None:
    """Refuse inputs that mean nothing for the question, and a map of a question without an open rate."""
    for name in (*options.switches, *inputs):
        kind, _, machine = name.partition(":")
        if kind not in (*FACTORS, *MACHINE_FACTORS):
            raise UnknownNameError("input", kind, (*FACTORS, *MACHINE_FACTORS))
        load_setting(replace(asked, scale={name: 1.0}))
        if machine and machine not in setting.machines:
            considered = ", ".join(setting.machines)
            raise InputError(f"{name}: {machine} is not among the machines considered ({considered})")
    if options.rates_rps and (options.trace is not None or options.objective == "throughput"):
        needs = "the map needs a workload at a rate, and an objective other than throughput"
        raise InputError(f"{spelled('rates_rps')}: {needs}")


def _values(setting: Setting) -> dict[str, InputValue]:
    """Inputs that have a value and a unit of their own, as they are now."""
    values = {"rate": InputValue(setting.rate_rps, "requests/s"), "cv": InputValue(setting.traffic.cv, "")}
    for tokens in ("prompt", "output"):
        values[f"{tokens}-tokens"] = InputValue(_mean(setting, f"{tokens}_tokens"), "tokens")
    links = {perf.machine.name: InputValue(8e-9 * perf.link_bytes_per_s, "Gb/s") for perf in setting.replicas.values()}
    unit = in_currency("$/h", setting.prices.currency)
    for name, link in links.items():
        values[f"price:{name}"] = InputValue(setting.prices.cost_usd_per_h[name], unit)
        values[f"power:{name}"] = InputValue(setting.prices.power_w[name], "W")
        values[f"link-bandwidth:{name}"] = link
    if len(set(links.values())) == 1:
        values["link-bandwidth"] = link
    return values


def _mean(setting: Setting, tokens: str) -> float:
    classes = setting.traffic.classes
    return float(getattr(classes, tokens) @ classes.weight)


_Change = tuple[PlanOptions, Mapping[str, float]]
"""A question, and factors on its inputs on top of those that it has itself."""


def _outcome(verdicts: Verdicts, change: _Change) -> Outcome:
    """The answer to a changed question."""
    options, factors = change
    scale = {**options.scale, **{name: options.scale.get(name, 1.0) * factor for name, factor in factors.items()}}
    setting = load_setting(replace(options, scale=scale))
    try:
        return _in_brief(best_plan(setting, verdicts=verdicts), factors)
    except (InfeasibleError, InputError) as error:  # a rate may leave too few requests for a percentile to be judged
        return Outcome(scale=factors, reason=str(error))


def _in_brief(plan: Plan, factors: Mapping[str, float]) -> Outcome:
    return Outcome(scale=factors, cluster=plan.cluster, totals=plan.totals, rate_rps=plan.rate_rps)


@dataclass(frozen=True, slots=True)
class _Study:
    """The question as it is, with the verdicts known, and the place where changed ones are answered."""

    options: SensitivityOptions
    asked: PlanOptions
    setting: Setting
    verdicts: Verdicts
    pool: Workers
    progress: Callable[[str], None]

    def tornado(self, inputs: Sequence[str]) -> list[Swing]:
        """The plans with less and with more of each input."""
        more = 1.0 + self.options.spread
        changes = [(self.asked, {name: factor}) for name in inputs for factor in (1.0 / more, more)]
        ends = self._outcomes(changes, "plans of the tornado")
        return [Swing(*each) for each in zip(inputs, ends[::2], ends[1::2], strict=True)]

    def search(self, name: str) -> Search:
        """All switches of one input between two factors that the probes tell apart."""
        (low, high), watch, count = self.options.switches[name], self.options.watch, self.options.probes

        def at(factor: float) -> Outcome:
            self.progress(f"{name} x {factor:.4g}: does {WATCHES[watch]} change?")
            return _outcome(self.verdicts, (self.asked, {name: factor}))

        def between(below: float, before: Outcome, above: float, after: Outcome) -> Iterator[Switch]:
            if before.watched(watch) == after.watched(watch):
                return
            if above / below <= 1.0 + self.options.tolerance:
                yield Switch(below, above, before, after)
                return
            middle = math.sqrt(below * above)
            outcome = at(middle)
            yield from between(below, before, middle, outcome)
            yield from between(middle, outcome, above, after)

        factors = [low * (high / low) ** (k / (count + 1)) for k in range(count + 2)]
        probes = [(factor, at(factor)) for factor in factors]
        switches = tuple(switch for one, other in pairwise(probes) for switch in between(*one, *other))
        outcomes = tuple(outcome for _, outcome in probes)
        return Search(name, low, high, watch, self.options.tolerance, switches, outcomes)

    def map(self) -> list[Cell]:
        """The best split and the best colocated plans at every rate and ratio, rate by rate."""
        options, designs = self.options, self.setting.designs
        if not options.rates_rps:
            return []
        split, whole = (tuple(d.name for d in designs if d.splits == splits) for splits in (True, False))
        if not split or not whole:
            need = "the map compares designs that split with colocated ones; consider both kinds"
            raise InputError(f"{spelled('rates_rps')}: {need}")
        now = _mean(self.setting, "prompt_tokens") / _mean(self.setting, "output_tokens")
        points = [(rate, ratio) for rate in options.rates_rps for ratio in options.ratios]
        of_split, beside = policies(self.setting.judging.policy)
        colocated = ["mixed"] if options.fast else list(dict.fromkeys((beside, "chunked")))
        kinds = [(split, of_split), *((whole, policy) for policy in colocated)]
        ways = [replace(self.asked, designs=of, policy=None if options.fast else policy) for of, policy in kinds]
        changes = [
            (replace(way, rate_rps=rate), {"output-tokens": now / ratio}) for rate, ratio in points for way in ways
        ]
        plans = self._outcomes(changes, "plans of the map")
        each = [plans[k : k + len(ways)] for k in range(0, len(plans), len(ways))]
        return [
            Cell.of(*point, first, dict(zip(colocated, others, strict=True)), self.asked.objective)
            for point, (first, *others) in zip(points, each, strict=True)
        ]

    def _outcomes(self, changes: Sequence[_Change], what: str) -> list[Outcome]:
        """The outcomes of all changes, in their order."""
        done: dict[int, Outcome] = {}
        began = monotonic()

        def tell() -> None:
            self.progress(worded(time_left(len(done), len(changes), began), f"{what}: "))

        try:
            for index, outcome in self.pool.map(_outcome, self.verdicts, changes, tell):
                done[index] = outcome
                tell()
        except KeyboardInterrupt:
            raise Interrupted(f"{len(done)} of {len(changes)} {what} done") from None
        return [done[index] for index in range(len(changes))]

"""Designs side by side: the largest throughput of each within one budget, or the best of each at one throughput."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from time import monotonic
from typing import Final

from provisioner.deadline import OUT_OF_TIME, TimeIsUp, ending, limited, time_left_s
from provisioner.errors import InfeasibleError, InputError, Interrupted, UnknownNameError
from provisioner.loading.factors import load_factors, with_own_rate
from provisioner.loading.setting import load_setting
from provisioner.options import CompareOptions, PlanOptions, spelled
from provisioner.options.command import command_of
from provisioner.options.defaults import DEFAULT_POLICY, policies
from provisioner.options.kinds import POWER, text_of
from provisioner.planning.answer import rank
from provisioner.planning.check import confirmed
from provisioner.planning.designs import Design
from provisioner.planning.setting import Judging, Setting
from provisioner.progress import worded
from provisioner.results.comparison import Budget, ComparedDesign, Comparison
from provisioner.simulation.run import compile_simulator
from provisioner.specs import catalog
from provisioner.specs.criteria import CRITERIA, CriterionName, ObjectiveName
from provisioner.specs.money import USD
from provisioner.specs.units import parse_positive, parse_whole, quoted
from provisioner.studies.attribution import attributed
from provisioner.studies.work import time_left, workers
from provisioner.verify.answer import best_plan
from provisioner.verify.judge import Verdicts
from provisioner.verify.throughput import largest_throughput

_AROUND_COST: Final = re.compile(r"^(\$|[a-z]{3}\b)\s*|\s*(\$|[a-z]{3})?/h$|,", re.IGNORECASE)
_CHUNKED: Final = "-chunked"  # ends the name of a row with chunked prefill, as it is typed
_OF_A_MACHINE: Final = re.compile(r"(\S+)\s+([A-Za-z][\w.-]*)")
_AMOUNTS: Final[Mapping[CriterionName, tuple[str, str, Callable[[str], float]]]] = {
    "power": ("a power", "400kW", lambda text: POWER.parse(text.replace(",", ""), "")),
    "cost": ("a cost in $/h", "'1500 $/h'", lambda text: parse_positive(_AROUND_COST.sub("", text), "")),
    "machines": ("a number of machines", "40", lambda text: parse_whole(text, "", "machines")),
}
"""Amounts of a budget by criterion: the kind, an example, and the function that reads one."""


def budget_of(given: str | float, criterion: CriterionName, options: PlanOptions) -> Budget:
    """A budget from its text: an amount with or without its unit, or a number of machines of a type.

    Prices and power are those of the options' price list, with their factors.
    """
    what, text = spelled("budget"), " ".join(text_of(given).split())
    known = catalog.with_own(options.specs)
    listed = known.price_list(options.prices)
    named = _OF_A_MACHINE.fullmatch(text)
    if named is None or named[2].lower() in ("w", "kw", "mw"):
        kind, example, amount = _AMOUNTS[criterion]
        try:
            budget = Budget(criterion, amount(text), text)
        except InputError:
            such = f"such as {example} or '40 dgx-h100', got {quoted(text)}"
            raise InputError(f"{what}: must be {kind} with {spelled('same')} {criterion}, {such}") from None
        stated = {of.upper().replace("$", USD) for both in _AROUND_COST.findall(text) for of in both if of}
        if criterion == "cost" and (other := stated - {listed.currency}):
            why = f"the price list {listed.name} is in {listed.currency}, and nothing is converted"
            raise InputError(f"{what}: must be in {listed.currency}, got {other.pop()}: {why}")
        return budget
    count = parse_whole(named[1], f"{what} {text}", "machines")
    machine = known.machine(named[2]).name
    if criterion == "machines":
        return Budget(criterion, count, text, machine)
    prices = load_factors(options.scale, known).prices({machine: known.price(listed, machine)}, listed.currency)
    return Budget(criterion, count * prices.of(criterion, machine), text, machine)


def compare(options: CompareOptions, *, progress: Callable[[str], None] = lambda _: None) -> Comparison:
    """Every design at its best under the same power, cost or machines, or at the same throughput.

    A design is the best over all its degrees of tensor parallelism but for those that are named with degrees. With the
    same throughput, each is the best by the options' objective at their rate. A design that has no plan says why.
    """
    for name, why in _contradictions(options):
        raise InputError(f"{spelled(name)}: {why}")
    asked = options.part(PlanOptions)
    budget = None
    if options.same != "throughput" and options.budget is not None:
        budget = budget_of(options.budget, options.same, options)
        within = {f"max_{CRITERIA[options.same].field}": budget.value}
        asked = replace(asked, objective="throughput", **within)  # type: ignore[arg-type]
    setting = load_setting(asked, progress)
    if budget is not None and budget.criterion != "machines":
        amount, name = min((setting.prices.of(budget.criterion, name), name) for name in setting.machines)
        if budget.value < amount:
            least = CRITERIA[budget.criterion].amount(amount)
            raise InputError(f"{spelled('budget')}: {budget} is less than one machine takes, {least} at least ({name})")
    if budget is None:
        options = with_own_rate(options, setting.rate_rps)
        asked = options.part(PlanOptions)
        setting = replace(setting, question=asdict(asked))
    if options.chunked and all(design.splits for design in setting.designs):
        why = "is for colocated designs, such as baseline-h100; none is compared here"
        raise InputError(f"{spelled('chunked')}: {why}")
    chunked = load_setting(replace(asked, policy="chunked"), progress).judging if options.chunked else None
    wanted = _wanted(setting, options, chunked)
    named = _named(options.baseline, wanted)
    found = _found(asked, setting, wanted, options.dask, progress)
    designs = sorted(found, key=lambda design: _rank(design, asked.objective))
    question = {name: value for name, value in asdict(options).items() if name not in (*options.LEFT_OUT, "dask")}
    repeated = {name: value for name, value in question.items() if name != "objective" or budget is None}
    colocated_first = sorted(found, key=lambda design: not design.colocated)
    first = next((design.label for design in colocated_first if design.plan is not None), "")
    return Comparison(
        same=options.same,
        budget=budget,
        rate_rps=None if budget is not None else setting.rate_rps,
        objective=asked.objective,
        baseline=next((each.label for each in designs if each.label in named), first),
        designs=tuple(designs),
        budgets_chosen=bool((chunked or setting.judging).batch_tokens),
        warnings=(*setting.warnings, *attributed(_warnings(designs), setting.warnings)),
        question=question,
        command=command_of("compare", repeated, CompareOptions),
        method=next((design.plan.method for design in designs if design.plan), "nothing was found to pass"),
        **setting.rests_on,
    )


def _contradictions(options: CompareOptions) -> Iterator[tuple[str, str]]:
    """Options that others contradict, each with the reason."""
    same, cap = f"{spelled('same')} {options.same}", f"max_{CRITERIA[options.same].field}"
    policy = options.policy or DEFAULT_POLICY[options.assumptions]  # type: ignore[index]
    if options.chunked and policies(policy)[1] == "chunked":  # type: ignore[arg-type]
        yield "chunked", f"adds what {spelled('policy')} {policy} has already; leave one of them out"
    if options.same == "throughput":
        if options.budget is not None:
            yield "budget", f"{same} has a {spelled('rate_rps')} in its place; leave one of them out"
        if options.objective == "throughput":
            yield "objective", f"must be cost, power or machines with {same}"
        return
    if options.budget is None:
        yield "budget", f"is needed with {same}, such as {_AMOUNTS[options.same][1]} or '40 dgx-h100'"
    if options.rate_rps is not None:
        yield "rate_rps", f"is what {same} finds; leave it out, or take {spelled('same')} throughput"
    if options.trace is not None:
        yield "trace", f"has its own rate, which {same} looks for; give its file to {spelled('workload')}"
    if options.objective not in ("cost", "throughput"):
        yield "objective", f"is throughput with {same}; leave it out"
    if getattr(options, cap) is not None:
        yield cap, f"is what {spelled('budget')} gives with {same}; leave one of them out"


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A row to be compared: a family of designs, or one with its degrees, and the rule that judges it."""

    name: str
    designs: tuple[Design, ...]
    judging: Judging
    label: str

    @property
    def colocated(self) -> bool:
        """Whether its designs do not split the phases."""
        return not self.designs[0].splits


def _wanted(setting: Setting, options: CompareOptions, chunked: Judging | None) -> list[_Wanted]:
    """A row for each family over its degrees; one for each design that is named with them, also as the baseline.

    Colocated ones have another under the rule ``chunked``, unless it is None.
    """
    with_degrees = {name.lower() for name in options.designs}
    rows: dict[str, tuple[Design, ...]] = {}
    for design in setting.designs:
        name = design.name if design.key in with_degrees else design.family
        rows[name] = (*rows.get(name, ()), design)
    baseline = (options.baseline or "").lower().removesuffix(_CHUNKED)
    rows |= {design.name: (design,) for design in setting.designs if design.key == baseline and design.shows_degrees}
    wanted = [_Wanted(name, designs, setting.judging, name) for name, designs in rows.items()]
    if chunked is None:
        return wanted
    more = [replace(each, judging=chunked, label=f"{each.name}, chunked") for each in wanted if each.colocated]
    return wanted + more


def _found(
    options: PlanOptions, setting: Setting, wanted: Sequence[_Wanted], dask: str | None, progress: Callable[[str], None]
) -> list[ComparedDesign]:
    """Every design at its best: one after another (each is found on threads), or side by side on a Dask cluster."""
    found: dict[int, ComparedDesign] = {}
    began = monotonic()

    def tell(label: str = "", text: str = "") -> None:
        of_one = f"; {label}: {text}" if label else ""
        progress(worded(time_left(len(found), len(wanted), began), "comparing: ", of_one))

    try:
        if dask is not None:
            with workers(dask=dask) as pool:
                found.update(pool.map(_loaded, options, wanted, waiting=tell))
        else:
            verdicts = Verdicts()
            if not setting.searching.fast:
                compile_simulator(progress)  # in the time of all
            for k, each in enumerate(wanted):
                with ending(monotonic() + time_left_s() / (len(wanted) - k)):
                    found[k] = _at_best(setting, each, verdicts, partial(tell, each.label))
    except KeyboardInterrupt:
        raise Interrupted(f"{len(found)} of {len(wanted)} designs compared") from None
    return [found[k] for k in range(len(wanted))]


def _loaded(options: PlanOptions, wanted: _Wanted) -> ComparedDesign:
    """A design at its best, in a process where nothing has been loaded yet."""
    with limited(options.time_limit_s) as progress:
        return _at_best(load_setting(options, progress), wanted, Verdicts(), progress)


def _at_best(setting: Setting, wanted: _Wanted, verdicts: Verdicts, progress: Callable[[str], None]) -> ComparedDesign:
    alone = setting.only(wanted.name, wanted.designs, wanted.judging)
    policy = policies(wanted.judging.policy)[wanted.colocated]
    design = ComparedDesign(wanted.label, wanted.name, policy, wanted.colocated)
    try:
        if alone.objective != "throughput" or alone.searching.fast:
            plan = best_plan(alone, progress, verdicts)
            return replace(design, design=plan.design, plan=plan, proven=not plan.evidence or plan.evidence.optimal)
        largest = largest_throughput(alone, progress, verdicts)
    except TimeIsUp:
        return replace(design, reason=OUT_OF_TIME, proven=False)
    except InfeasibleError as error:
        nearest = f"; nearest: {error.relaxations[0]}" if error.relaxations and not alone.caps.any else ""
        miss = error.miss_ratio if math.isfinite(error.miss_ratio) else None
        return replace(design, reason=f"{error}{nearest}", miss_ratio=miss, proven=time_left_s() > 0.0)
    served = alone.headroom_factor
    return replace(
        design,
        design=largest.plan.design,
        plan=confirmed(largest.plan, alone),
        proven=largest.failed_rps is not None,
        failed_rps=None if largest.failed_rps is None else largest.failed_rps / served,
        passes_again_rps=max(largest.passes_again_rps) / served if largest.passes_again_rps else None,
    )


def _rank(design: ComparedDesign, objective: ObjectiveName) -> tuple[bool, tuple[float, ...]]:
    """The best first, and those without a plan last."""
    return design.plan is None, () if design.plan is None else rank(design.plan, objective)


def _named(baseline: str | None, wanted: Sequence[_Wanted]) -> list[str]:
    """The labels that the name of a baseline stands for: one, or a design at all its degrees; none without a name."""
    if baseline is None:
        return []
    keys = [each.label.lower().replace(", ", "-") for each in wanted]  # as they are typed: baseline-h100-chunked
    families = [
        key.replace(of.name.lower(), of.designs[0].family.lower()) for key, of in zip(keys, wanted, strict=True)
    ]
    for names in (keys, families):
        named = [each.label for each, name in zip(wanted, names, strict=True) if name == baseline.lower()]
        if named:
            return named
    raise UnknownNameError("baseline", baseline, keys)


def _warnings(designs: Sequence[ComparedDesign]) -> Iterator[tuple[str, str]]:
    """Warnings of single plans; how sharp a largest rate is only where no rate was found at which nothing passes."""
    for design in designs:
        for text in () if design.plan is None else design.plan.warnings:
            if design.failed_rps is None or not text.startswith("throughput: "):
                yield design.label, text

"""The frontier of cost, power and machines over all designs at a rate: every cluster that nothing beats in all three.

The points are found one at a time, each the cheapest cluster that passes within a box: at most so much power and so
many machines. A point divides its box into the one with less power and the one with fewer machines; a box without a
cluster is done. When no box is open, the frontier is whole (the epsilon-constraint method).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from provisioner.errors import InfeasibleError, InputError, Interrupted
from provisioner.loading.setting import load_setting
from provisioner.options import PlanOptions
from provisioner.planning.check import confirmed
from provisioner.planning.explain import infeasible
from provisioner.planning.formulation import Caps
from provisioner.planning.proof import Candidate, Judged
from provisioner.planning.search import Best
from provisioner.planning.setting import Setting
from provisioner.results.plan import Plan
from provisioner.specs.catalog import with_own
from provisioner.specs.units import format_power
from provisioner.studies.result import StudyResult
from provisioner.verify.answer import best_plan
from provisioner.verify.prove import Proven, formulas_guess, proof_of
from provisioner.verify.regions import Scope
from provisioner.verify.verdicts import Verdicts

if TYPE_CHECKING:
    import pandas as pd

    from provisioner.report.chart import Chart
    from provisioner.report.document import Document

# A box ends below a total by this relative distance: more than the rounding of caps, less than any machine.
_BELOW: Final = 1e-8


class Totals(Protocol):
    """Cost in $/h, power in W and machines."""

    @property
    def cost_usd_per_h(self) -> float:
        """Cost in $/h."""
        ...

    @property
    def power_w(self) -> float:
        """Power in W."""
        ...

    @property
    def machines(self) -> int:
        """Machines."""
        ...


@dataclass(frozen=True, slots=True)
class Box:
    """Clusters within a power, in W, and a number of machines; infinite for no bound."""

    power_w: float = math.inf
    machines: float = math.inf

    def holds(self, point: Totals) -> bool:
        """Whether a point is in the box."""
        return point.power_w <= self.power_w * (1.0 + _BELOW / 10.0) and point.machines <= self.machines

    def inside(self, other: Box) -> bool:
        """Whether this box is part of another."""
        return self.power_w <= other.power_w and self.machines <= other.machines

    def divided(self, point: Totals) -> tuple[Box, Box]:
        """What a point leaves of its box: less power than it, or fewer machines."""
        less_power = Box(point.power_w * (1.0 - _BELOW), self.machines)
        return less_power, Box(self.power_w, point.machines - 1)

    def __str__(self) -> str:
        power = "" if math.isinf(self.power_w) else f"less than {format_power(self.power_w)}"
        machines = "" if math.isinf(self.machines) else f"at most {self.machines:,.0f} machines"
        return " and ".join(text for text in (power, machines) if text) or "everything"


P = TypeVar("P", bound=Totals)


@dataclass(frozen=True, slots=True)
class Answered(Generic[P]):
    """What is known of a box: the first of its clusters in the order cost, power, machines; None where it has none.

    ``proven``: nothing in the box comes before it (or that there is nothing in it).
    """

    point: P | None
    proven: bool


def enumerated(
    first_in: Callable[[Box], Answered[P]], enough: Callable[[], bool] = lambda: False
) -> tuple[list[P], list[Box]]:
    """Every nondominated point, from the first point of any box in the order cost, power, machines; and open boxes.

    A box that is part of another one that is answered needs no answer of its own where the other's first point is in it
    too, or where the other has none. Boxes are open where ``enough`` ended the search or the answer was not proven.
    """
    todo = [Box()]
    answers: list[tuple[Box, P | None]] = []
    points: list[P] = []
    left_open: list[Box] = []
    while todo:
        box = todo.pop(0)
        if any(box.inside(other) for other in todo):
            continue
        known = [point for other, point in answers if box.inside(other) and (point is None or box.holds(point))]
        if known:
            point = known[0]
        else:
            if enough():
                left_open.append(box)
                continue
            answer = first_in(box)
            if not answer.proven:
                left_open.append(box)
                continue
            point = answer.point
            answers.append((box, point))
            if point is not None and not any(_same(point, other) for other in points):
                points.append(point)
        if point is not None:
            todo += [each for each in box.divided(point) if each.power_w > 0.0 and each.machines > 0.0]
    return points, [box for box in left_open if not any(box.inside(o) and box != o for o in left_open)]


def _same(one: Totals, other: Totals) -> bool:
    return (
        math.isclose(one.cost_usd_per_h, other.cost_usd_per_h, rel_tol=_BELOW)
        and math.isclose(one.power_w, other.power_w, rel_tol=_BELOW)
        and one.machines == other.machines
    )


def dominates(one: Totals, other: Totals) -> bool:
    """Whether one has no more of anything than the other, and less of something."""
    mine, theirs = (
        (each.cost_usd_per_h * (1.0 - sign * _BELOW), each.power_w * (1.0 - sign * _BELOW), float(each.machines))
        for each, sign in ((one, 0.1), (other, -0.1))
    )
    return all(a <= b for a, b in zip(mine, theirs, strict=True)) and not _same(one, other)


@dataclass(frozen=True, slots=True)
class Frontier(StudyResult):
    """The clusters that nothing beats in cost, power and machines at once, each a plan; the cheapest first.

    ``open_boxes`` is where more of them may be: what a time limit left undone. ``complete`` where there are none. Then
    no other cluster that passes has less of one criterion than a point without more of another. ``candidates`` are
    clusters that pass in open boxes, which something may beat. ``simulated`` counts the clusters and ``runs`` the
    simulations of one request set, over all boxes.
    """

    points: tuple[Plan, ...]
    open_boxes: tuple[Box, ...]
    candidates: tuple[Plan, ...]
    boxes: int
    simulated: int
    runs: int
    rate_rps: float
    planned_rate_rps: float
    model: str
    workload: str
    slo: str
    designs: tuple[str, ...]
    sources: tuple[str, ...]
    warnings: tuple[str, ...]
    question: Mapping[str, Any]
    method: str
    rule: str
    seed: int
    versions: Mapping[str, str]

    @property
    def complete(self) -> bool:
        """Whether every box was searched to its end."""
        return not self.open_boxes

    def best_in(self, plan: Plan) -> tuple[str, ...]:
        """The criteria in which no point of the frontier has less than this one."""
        mine = (plan.cost_usd_per_h, plan.power_w, plan.machines)
        least = (
            min(each.cost_usd_per_h for each in self.points),
            min(each.power_w for each in self.points),
            min(each.machines for each in self.points),
        )
        names = ("cost", "power", "machines")
        return tuple(n for n, a, b in zip(names, mine, least, strict=True) if a <= b * (1.0 + _BELOW))

    def records(self) -> list[dict[str, Any]]:
        """One flat record per point, then per candidate; ``proven`` says which."""
        return [
            {
                "design": plan.design,
                "split": " + ".join(f"{pool.machines} {pool.role} {pool.machine}" for pool in plan.pools),
                "cost_usd_per_h": plan.cost_usd_per_h,
                "power_w": plan.power_w,
                "machines": plan.machines,
                "rate_rps": plan.rate_rps,
                "worst_slack": plan.worst_slack,
                "binding": ", ".join(plan.binding),
                "proven": k < len(self.points),
            }
            for k, plan in enumerate((*self.points, *self.candidates))
        ]

    def to_frame(self) -> pd.DataFrame:
        """One row per point, as a pandas DataFrame; those of open boxes last, with ``proven`` false."""
        import pandas as pd

        return pd.DataFrame(self.records())

    def to_dict(self) -> dict[str, Any]:
        """The frontier as plain values: what ``--json`` prints; the plan of each point whole."""
        from provisioner.report.as_json import plain_value
        from provisioner.report.pareto_document import pareto_command

        plans = (*self.points, *self.candidates)
        points = [{**record, "plan": plan.to_dict()} for record, plan in zip(self.records(), plans, strict=True)]
        plain: dict[str, Any] = plain_value(
            {
                "points": points,
                "complete": self.complete,
                "open_boxes": [{"power_w": box.power_w, "machines": box.machines} for box in self.open_boxes],
                "boxes": self.boxes,
                "simulated": self.simulated,
                "runs": self.runs,
                "rate_rps": self.rate_rps,
                "planned_rate_rps": self.planned_rate_rps,
                "designs": self.designs,
                "model": self.model,
                "workload": self.workload,
                "slo": self.slo,
                "rule": self.rule,
                "warnings": self.warnings,
                "sources": self.sources,
                "question": self.question,
                "command": pareto_command(self.question),
                "method": self.method,
                "seed": self.seed,
                "versions": self.versions,
            }
        )
        return plain

    def document(self) -> Document:
        """The report with every input."""
        from provisioner.report.pareto_document import pareto_document

        return pareto_document(self, inputs=True)

    def charts(self) -> tuple[Chart, ...]:
        """The picture: power against cost, a series for each design."""
        from provisioner.report.pareto_document import pareto_charts

        return pareto_charts(self)


@dataclass(frozen=True, slots=True)
class _Best:
    """The best cluster of a box, with the proof that it came from."""

    judged: Judged
    proof: Proven

    @property
    def candidate(self) -> Candidate:
        return self.judged.candidate

    @property
    def cost_usd_per_h(self) -> float:
        return self.judged.totals["cost"]

    @property
    def power_w(self) -> float:
        return self.judged.totals["power"]

    @property
    def machines(self) -> int:
        return int(self.judged.totals["machines"])


@dataclass(frozen=True, slots=True)
class _Guess:
    """The best choice of the formulas in a box."""

    best: Best
    box: Box

    @property
    def cost_usd_per_h(self) -> float:
        return self.best.totals["cost"]

    @property
    def power_w(self) -> float:
        return self.best.totals["power"]

    @property
    def machines(self) -> int:
        return int(self.best.totals["machines"])


def pareto(options: PlanOptions, *, progress: Callable[[str], None] = lambda _: None) -> Frontier:
    """Every nondominated combination of cost, power and machines that holds the rate within the limits.

    The options' caps hold for all points, and their time limit for the whole search. ``InfeasibleError`` where no
    cluster passes.
    """
    if options.objective == "throughput":
        raise InputError("--objective: a frontier is of cost, power and machines at a rate; leave it out")
    if options.objective != "cost":
        raise InputError(f"--objective {options.objective}: is one of the three of a frontier; leave it out")
    if options.write_lp is not None:
        raise InputError("--write-lp: a frontier solves many programs; write that of provision plan")
    setting = load_setting(options)
    if options.rate_rps is None and options.trace is None:
        options = replace(options, rate_rps=_unscaled_rate(options, setting))
        setting = replace(setting, question={**setting.question, "rate_rps": options.rate_rps})
    return _by_formulas(setting, progress) if options.fast else _simulated(setting, progress)


def _unscaled_rate(options: PlanOptions, setting: Setting) -> float:
    from provisioner.loading.factors import load_factors

    return setting.rate_rps / load_factors(options.scale, with_own(options.specs)).of("rate")


def _by_formulas(setting: Setting, progress: Callable[[str], None]) -> Frontier:
    """The frontier of what the queueing formulas accept."""
    search, _ = formulas_guess(setting, progress)
    asked: list[Box] = []

    def first_in(box: Box) -> Answered[_Guess]:
        asked.append(box)
        progress(f"frontier: box {len(asked)}, {box}")
        best = search.best(tuple(search.candidates), "cost", _caps(setting.caps, box))
        return Answered(None if best is None else _Guess(best, box), True)

    found, _ = enumerated(first_in)
    if not found:
        raise infeasible(setting, search, "cost")
    plans = []
    for each in found:
        plans.append(best_plan(setting.within(_caps(setting.caps, each.box)), progress))
    return _frontier(setting, plans, (), (), len(asked), 0, 0, "the queueing formulas accept it")


def _simulated(setting: Setting, progress: Callable[[str], None]) -> Frontier:
    """The frontier of what the simulator accepts; every cluster is simulated once."""
    limit_s = setting.searching.time_limit_s
    ends_at = math.inf if limit_s is None else monotonic() + limit_s
    verdicts = Verdicts()
    guesses = formulas_guess(setting, progress)
    proofs: list[Proven] = []
    unproven: list[_Best] = []
    found: list[_Best] = []

    def first_in(box: Box) -> Answered[_Best]:
        number = len(proofs) + 1

        def tell(text: str) -> None:
            progress(f"frontier: {len(found)} points, box {number} ({box}): {text}")

        left_s = None if math.isinf(ends_at) else max(ends_at - monotonic(), 1e-3)
        caps = _caps(setting.caps, box)
        scope = Scope(caps=caps, time_limit_s=left_s)
        proof = proof_of(setting.within(caps), tell, verdicts, scope, guesses)
        proofs.append(proof)
        best = None if proof.proof.best is None else _Best(proof.proof.best, proof)
        if not (proof.proof.optimal and proof.proof.ties_judged):
            unproven.extend([best] if best is not None else [])
            return Answered(None, False)
        if best is not None and not any(_same(best, each) for each in found):
            found.append(best)
        return Answered(best, True)

    try:
        points, left_open = enumerated(first_in, lambda: monotonic() >= ends_at)
    except KeyboardInterrupt:
        raise Interrupted(f"{len(found)} points of the frontier found in {len(proofs)} boxes") from None
    if not points and not unproven:
        raise _nothing(proofs, left_open, progress)
    unproven = [each for each in unproven if not any(dominates(p, each) or _same(p, each) for p in points)]
    unproven = [each for each in unproven if not any(dominates(other, each) for other in unproven)]
    plans = [_plan_of(each) for each in points]
    candidates = [_plan_of(each) for each in _distinct(unproven)]
    clusters = {judged.candidate for proof in proofs for judged in proof.proof.simulated}
    runs = sum(proof.judge.simulated_runs for proof in proofs)
    rule = proofs[0].sets.rule(setting.judging.confidence)
    return _frontier(setting, plans, left_open, candidates, len(proofs), len(clusters), runs, rule)


def _distinct(found: Iterable[_Best]) -> list[_Best]:
    kept: list[_Best] = []
    for each in found:
        if not any(_same(each, other) for other in kept):
            kept.append(each)
    return kept


def _plan_of(best: _Best) -> Plan:
    """The plan of a point, recomputed from the specs."""
    plan = best.proof.plan()
    assert plan is not None
    return confirmed(plan, best.proof.setting)


def _nothing(proofs: Sequence[Proven], left_open: Sequence[Box], progress: Callable[[str], None]) -> InfeasibleError:
    """The error where no cluster was found to pass."""
    if left_open:
        return InfeasibleError(
            "the time limit was reached before any cluster was found to pass",
            binding="--time-limit",
            relaxations=("a longer --time-limit, or --fast for the formulas' frontier",),
        )
    return proofs[0].why_none(progress)


def _caps(caps: Caps, box: Box) -> Caps:
    """The question's caps and a box's together."""
    power = min(box.power_w, math.inf if caps.power_w is None else caps.power_w)
    machines = min(box.machines, math.inf if caps.machines is None else caps.machines)
    return replace(
        caps, power_w=None if math.isinf(power) else power, machines=None if math.isinf(machines) else int(machines)
    )


def _frontier(
    setting: Setting,
    points: Sequence[Plan],
    left_open: Sequence[Box],
    candidates: Sequence[Plan],
    boxes: int,
    simulated: int,
    runs: int,
    rule: str,
) -> Frontier:
    ordered = sorted(points, key=lambda plan: (plan.cost_usd_per_h, plan.power_w, plan.machines))
    about: dict[str, list[str]] = {}
    for plan in ordered:
        for text in plan.warnings:
            if text not in setting.warnings:
                about.setdefault(text, []).append(f"{plan.design} {' + '.join(str(p.machines) for p in plan.pools)}")
    return Frontier(
        points=tuple(ordered),
        open_boxes=tuple(left_open),
        candidates=tuple(candidates),
        boxes=boxes,
        simulated=simulated,
        runs=runs,
        rate_rps=setting.rate_rps,
        planned_rate_rps=setting.traffic.peak_rps,
        model=setting.model,
        workload=setting.workload,
        slo=setting.slo.name,
        designs=tuple(design.name for design in setting.designs),
        sources=setting.sources,
        warnings=(*setting.warnings, *(f"{'; '.join(where)}: {text}" for text, where in about.items())),
        question=setting.question,
        method=(*points, *candidates)[0].method,
        rule=rule,
        seed=setting.judging.seed,
        versions=setting.versions,
    )

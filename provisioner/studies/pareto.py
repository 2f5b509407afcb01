"""The frontier of cost, power and machines over all designs at a rate: every cluster that none beats in all three.

The points are found one at a time, each the cheapest cluster that passes within a box: a limit on power and one on
machines. A point divides its box into the one with less power and the one with fewer machines; a box without a cluster
is done. When no box is open, the frontier is whole (the epsilon-constraint method).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from provisioner.deadline import TimeIsUp, time_left_s
from provisioner.errors import Interrupted
from provisioner.loading.factors import with_own_rate
from provisioner.loading.setting import load_setting
from provisioner.options import ParetoOptions, PlanOptions
from provisioner.options.command import command_of
from provisioner.planning.answer import plan_of_best
from provisioner.planning.check import confirmed
from provisioner.planning.explain import infeasible
from provisioner.planning.setting import Setting
from provisioner.results.cluster import Totals
from provisioner.results.frontier import BELOW, Box, Frontier
from provisioner.results.plan import Plan
from provisioner.simulation.run import compile_simulator
from provisioner.specs.criteria import OF_CLUSTERS, Tiebreak
from provisioner.studies.attribution import attributed
from provisioner.verify.answer import formulas_guess, proof_of
from provisioner.verify.evidence import Proven
from provisioner.verify.judge import Verdicts


@dataclass(frozen=True, slots=True)
class Answer:
    """The totals of the first cluster of a box in the order cost, power, machines; None if the box has none.

    ``proven``: nothing in the box comes before it, or the box has nothing.
    """

    totals: Totals | None
    proven: bool = True


def enumerated(
    first_in: Callable[[Box], Answer], enough: Callable[[], bool] = lambda: False
) -> tuple[list[Totals], list[Box]]:
    """Every nondominated point, from the first point of any box in the order cost, power, machines; and open boxes.

    A box inside another one that is answered needs no answer of its own if the other's first point is in it too, or if
    the other has none. Boxes are open where ``enough`` ended the search or the answer was not proven.
    """
    todo = [Box()]
    answers: list[tuple[Box, Totals | None]] = []
    points: list[Totals] = []
    left_open: list[Box] = []
    while todo:
        box = todo.pop(0)
        if any(box.inside(other) for other in todo):
            continue
        known = [point for other, point in answers if box.inside(other) and (point is None or box.holds(point))]
        if not known:
            answer = Answer(None, False) if enough() else first_in(box)
            if not answer.proven:
                left_open.append(box)
                continue
            known = [answer.totals]
            answers.append((box, answer.totals))
            if answer.totals is not None and not any(_same(answer.totals, other) for other in points):
                points.append(answer.totals)
        if known[0] is not None:
            todo += [part for part in box.divided(known[0]) if part.power_w > 0.0 and part.machines > 0.0]
    return points, [box for box in left_open if not any(box.inside(o) and box != o for o in left_open)]


def _same(one: Totals, other: Totals) -> bool:
    return all(math.isclose(one.of(name), other.of(name), rel_tol=BELOW) for name in OF_CLUSTERS)


def dominates(one: Totals, other: Totals) -> bool:
    """Whether one has no more of anything than the other, and less of something."""
    less, more = 1.0 - 0.1 * BELOW, 1.0 + 0.1 * BELOW
    return all(one.of(name) * less <= other.of(name) * more for name in OF_CLUSTERS) and not _same(one, other)


def pareto(options: ParetoOptions, *, progress: Callable[[str], None] = lambda _: None) -> Frontier:
    """Every nondominated combination of cost, power and machines that holds the rate within the limits.

    The options' caps hold for all points, and their time limit for the whole search. ``InfeasibleError`` where no
    cluster passes.
    """
    asked = options.part(PlanOptions)
    setting = load_setting(asked, progress)
    # All three criteria are the objective, so the simplest of clusters alike in them is a point.
    ties: tuple[Tiebreak, ...] = (*OF_CLUSTERS, "complexity")
    setting = replace(setting, question=asdict(with_own_rate(asked, setting.rate_rps)), ties=ties)
    return _by_formulas(setting, progress) if options.fast else _simulated(setting, progress)


def _by_formulas(setting: Setting, progress: Callable[[str], None]) -> Frontier:
    """The frontier of the clusters that the queueing formulas accept."""
    search, _ = formulas_guess(setting, progress)
    found: dict[Totals, Plan] = {}
    searched: list[Box] = []

    def first_in(box: Box) -> Answer:
        searched.append(box)
        progress(f"frontier: box {len(searched)}, {box}")
        inside = _within(setting, box)
        in_box = search.within(inside.caps)
        try:
            best = in_box.best(tuple(search.candidates), "cost")
            if best is None:
                return Answer(None)
            totals = _totals(best.totals)
            if totals not in found:
                found[totals] = confirmed(plan_of_best(inside, in_box, best), inside)
        except TimeIsUp:
            return Answer(None, False)
        return Answer(totals)

    points, left_open = enumerated(first_in, _time_is_up)
    if not points:
        if left_open:
            raise TimeIsUp
        raise infeasible(setting, search)
    frontier = _frontier(
        setting, [found[each] for each in points], (), len(searched), "the queueing formulas accept it"
    )
    return replace(frontier, open_boxes=tuple(left_open))


def _time_is_up() -> bool:
    return time_left_s() == 0.0


def _simulated(setting: Setting, progress: Callable[[str], None]) -> Frontier:
    """The frontier of the clusters that the simulator accepts; each is simulated once."""
    verdicts = Verdicts()
    guesses = formulas_guess(setting, progress)
    compile_simulator(progress)
    proofs: list[Proven] = []
    found: dict[Totals, Plan] = {}
    unproven: dict[Totals, Proven] = {}

    def first_in(box: Box) -> Answer:
        def tell(text: str) -> None:
            progress(f"frontier: {len(found)} points, box {len(proofs) + 1} ({box}): {text}")

        try:
            of_box = proof_of(_within(setting, box), tell, verdicts, guesses=guesses)
        except TimeIsUp:
            return Answer(None, False)
        proofs.append(of_box)
        best = of_box.proof.best
        complete = of_box.proof.optimal and of_box.proof.ties_judged
        if best is None:
            return Answer(None, complete)
        totals = _totals(best.totals)
        if complete and totals not in found:
            found[totals] = _plan_of(of_box)  # at once, so that the end of a time limit leaves the last one to make
        elif not complete:
            unproven.setdefault(totals, of_box)
        return Answer(totals, complete)

    try:
        points, left_open = enumerated(first_in, _time_is_up)
    except KeyboardInterrupt:
        raise Interrupted(f"{len(found)} points of the frontier found in {len(proofs)} boxes") from None
    if not points and not unproven:
        if not left_open:
            raise proofs[0].why_none(progress)
        raise TimeIsUp
    candidates: list[Totals] = []
    for totals in unproven:
        beaten = any(dominates(other, totals) for other in (*points, *unproven))
        if not beaten and not any(_same(other, totals) for other in (*points, *candidates)):
            candidates.append(totals)
    plans, others = [found[each] for each in points], [_plan_of(unproven[each]) for each in candidates]
    return replace(
        _frontier(setting, plans, others, len(proofs), proofs[0].case.sets.rule(setting.judging.confidence)),
        open_boxes=tuple(left_open),
        simulated=len({judged.candidate for each in proofs for judged in each.proof.simulated}),
        runs=sum(each.case.judge.simulated_runs for each in proofs),
    )


def _totals(totals: Mapping[Tiebreak, float]) -> Totals:
    return Totals(totals["cost"], totals["power"], int(totals["machines"]))


def _plan_of(proof: Proven) -> Plan:
    return confirmed(proof.plan(), proof.case.setting)


def _within(setting: Setting, box: Box) -> Setting:
    """The question with the limits of a box beside its caps."""
    caps = setting.caps
    power_w = min(box.power_w, math.inf if caps.power_w is None else caps.power_w)
    machines = min(box.machines, math.inf if caps.machines is None else caps.machines)
    power = None if math.isinf(power_w) else power_w
    return setting.within(replace(caps, power_w=power, machines=None if math.isinf(machines) else int(machines)))


def _frontier(setting: Setting, plans: Sequence[Plan], candidates: Sequence[Plan], boxes: int, rule: str) -> Frontier:
    """The result without any simulation, its points in the order cost, power, machines."""
    points = sorted(plans, key=lambda plan: (plan.cost_usd_per_h, plan.power_w, plan.machines))
    warnings = attributed(((str(plan.cluster), text) for plan in points for text in plan.warnings), setting.warnings)
    left_out = ("objective", "against", "write_lp")
    question = {name: value for name, value in setting.question.items() if name not in left_out}
    return Frontier(
        points=tuple(points),
        open_boxes=(),
        candidates=tuple(candidates),
        boxes=boxes,
        simulated=0,
        runs=0,
        rate_rps=setting.rate_rps,
        planned_rate_rps=setting.traffic.peak_rps,
        designs=tuple(design.name for design in setting.designs),
        rule=rule,
        warnings=(*setting.warnings, *warnings),
        question=question,
        command=command_of("pareto", question, ParetoOptions),
        method=(*points, *candidates)[0].method,
        **setting.rests_on,
    )

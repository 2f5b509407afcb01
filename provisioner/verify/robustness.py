"""The distance of a proven plan from failure: slower prompts or decode, more load, one machine fewer.

Bisections over simulations of the one cluster, on the request sets that it was proven on.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from typing import Final, Literal, TypeVar

from provisioner.errors import InputError
from provisioner.perf.assumptions import ReplicaPerf, scaled
from provisioner.perf.summary import stated_error
from provisioner.planning.proof import Candidate
from provisioner.progress import Progress
from provisioner.results.plan import Plan
from provisioner.results.robustness import MOST_FACTOR, Loss, Robustness
from provisioner.verify.evidence import Proven, broken
from provisioner.verify.judge import SimulationJudge, losses
from provisioner.verify.request_sets import RequestSets

TOLERANCE: Final = 0.01
LOSS_TOLERANCE: Final = 0.05

Found = TypeVar("Found")


def with_robustness(plan: Plan, proven: Proven, progress: Progress = lambda _: None) -> Plan:
    """A proven plan with how far it is from failing. Raises ``TimeIsUp`` at the time limit."""
    if proven.proof.best is None:
        return plan
    return replace(plan, robustness=robustness(proven, proven.proof.best.candidate, progress))


def robustness(proven: Proven, candidate: Candidate, progress: Progress = lambda _: None) -> Robustness:
    """The factors up to which a cluster that passes holds, and what the loss of one machine of each pool does.

    Raises ``TimeIsUp`` at the time limit.
    """
    case = proven.case
    judge, sets = case.judge, case.sets
    candidate = judge.decided(candidate)
    progress("how far the plan is from failing: slower times, more load, a lost machine")

    def holds_slower(prompt: bool, decode: bool, factor: float) -> bool:
        def slower(perf: ReplicaPerf) -> ReplicaPerf:
            return scaled(perf, prompt_time=factor if prompt else 1.0, decode_time=factor if decode else 1.0)

        replicas = {key: slower(perf) for key, perf in judge.replicas.items()}
        return _anew(judge, replicas=replicas).judge(candidate).passes

    def holds_rate(of: Candidate, factor: float) -> bool:
        others = RequestSets(case.setting, factor * sets.rate_rps)
        screens = others.screening_s is not None
        anew = _anew(judge, request_sets=others, doublings=others.doublings, screens=screens)
        return (anew.by_itself(of) if of.lost else anew.judge(of)).passes

    def lost(way: tuple[int, ...]) -> Loss:
        position = next(k for k, n in enumerate(way) if n)
        left, slot = judge.without(candidate, way), candidate.design.slots[position]
        served = not left.lost or judge.stood_in(left)
        verdict = judge.by_itself(left) if left.lost and served else judge.alone(left)
        held = None if rate is None else 1.0
        if held and not verdict.passes:
            try:
                held = _largest(partial(holds_rate, left), 0.0, 1.0, LOSS_TOLERANCE) if served else 0.0
            except InputError:  # a lower rate has too few requests for the limits
                held = None
        return Loss(slot.role, slot.machine.name, () if verdict.passes else broken(verdict), held)

    rate = None if case.setting.job is not None else partial(holds_rate, candidate)
    ways = [partial(holds_slower, True, False), partial(holds_slower, False, True), partial(holds_slower, True, True)]
    searches = [partial(_largest, holds, 1.0, MOST_FACTOR, TOLERANCE) for holds in (*ways, *([rate] if rate else []))]
    factors = side_by_side(judge.threads, searches)
    of_losses = side_by_side(judge.threads, [partial(lost, way) for way in losses(candidate.sizes, 1)])
    return Robustness(
        prompt_time_factor=factors[0],
        decode_time_factor=factors[1],
        both_times_factor=factors[2],
        rate_factor=factors[3] if rate else None,
        prompt_error=_stated(judge, candidate, "prompt"),
        decode_error=_stated(judge, candidate, "decode"),
        losses=tuple(of_losses),
    )


def _stated(judge: SimulationJudge, candidate: Candidate, phase: Literal["prompt", "decode"]) -> float | None:
    """The largest stated error of a phase in the pools that run it; None if that of one is not known."""
    other = "token" if phase == "prompt" else "prompt"
    pools = [judge.replicas[slot.replica] for slot in candidate.design.slots if slot.role != other]
    errors = [stated_error(perf.curve, perf.model.dtype, perf.engine, perf.machine.kernels) for perf in pools]
    known = [(error.prompt if phase == "prompt" else error.decode)[1] for error in errors if error is not None]
    return max(known) if len(known) == len(errors) else None


def _anew(judge: SimulationJudge, **changes: object) -> SimulationJudge:
    """A judge by the same rule who knows no verdict yet."""
    return replace(judge, known={}, alike={}, passing={}, **changes)  # type: ignore[arg-type]


def _largest(holds: Callable[[float], bool], low: float, high: float, tolerance: float) -> float:
    """The largest factor that holds below one that does not, to a tolerance; ``low`` holds, or 0 for none."""
    if holds(high):
        return high
    steps = round((high - low) / tolerance)
    least, most = 0, steps  # in steps of the tolerance, so that the factors are round
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (middle, most) if holds(low + middle * tolerance) else (least, middle)
    return low + least * tolerance


def side_by_side(threads: int, work: Iterable[Callable[[], Found]]) -> list[Found]:
    """The results of independent work on threads, in its order."""
    with ThreadPoolExecutor(threads) as executor:
        return [each.result() for each in [executor.submit(copy_context().run, one) for one in work]]

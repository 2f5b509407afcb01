"""From a loaded question to its plan: by the formulas or proven by simulation, and recomputed before it is returned."""

from collections.abc import Callable
from dataclasses import replace
from time import monotonic
from typing import Final

from provisioner.deadline import OUT_OF_TIME, TimeIsUp, ending, time_left_s
from provisioner.errors import InfeasibleError, InputError
from provisioner.options import spelled
from provisioner.options.defaults import ENGINE_POLICIES
from provisioner.planning.answer import answer, comparable, with_sharing_designs
from provisioner.planning.check import confirmed
from provisioner.planning.designs import Design
from provisioner.planning.explain import infeasible
from provisioner.planning.proof_program import write_lp
from provisioner.planning.search import Search
from provisioner.planning.setting import Setting
from provisioner.progress import Progress
from provisioner.results.plan import Plan, Promise
from provisioner.simulation.run import compile_simulator
from provisioner.verify.evidence import Proven
from provisioner.verify.failures import with_failures
from provisioner.verify.judge import Verdicts
from provisioner.verify.regions import Case, Scope
from provisioner.verify.robustness import with_robustness
from provisioner.verify.splitting import with_splitting
from provisioner.verify.throughput import largest_throughput

# Designs in which two types share a role that are simulated, the best by the formulas: there are dozens.
_SHARING: Final = 4
_WRITING_S: Final = 0.2  # for the program of a proof that a time limit ended
_BESIDE: Final = {
    "what splitting brings": with_splitting,
    "how far the plan is from failing": with_robustness,
    "what the loss of a machine during the run does": with_failures,
}


def proof_of(
    setting: Setting,
    progress: Progress = lambda _: None,
    verdicts: Verdicts | None = None,
    scope: Scope | None = None,
    guesses: tuple[Search, tuple[Design, ...]] | None = None,
) -> Proven:
    """The proof of the best plan of a question, whose objective is not throughput, within a scope.

    ``guesses`` are those of another question at the same rate with the same machines, designs and stock.
    ``InfeasibleError`` where the formulas know that no number of machines is enough, ``TimeIsUp`` if a time limit is
    reached before a cluster is simulated.
    """
    search, designs = guesses or formulas_guess(setting, progress)
    if setting.judging.policy not in ENGINE_POLICIES:  # of which the formulas alone are not certain
        _refuse_impossible(setting, search)
    case = Case(setting, search, designs, *(verdicts or Verdicts()).judge(setting, setting.traffic.peak_rps))
    _refuse_impossible(setting, search)  # once more, without the designs that the case has ruled out
    compile_simulator(progress)
    return Proven(case, case.prove(progress, scope or Scope()))


def formulas_guess(setting: Setting, progress: Progress) -> tuple[Search, tuple[Design, ...]]:
    """The formulas' search, and the designs to prove over: with those that share a role where stock is short."""
    search = setting.search(progress=progress)
    sharing = with_sharing_designs(setting, search, progress)
    best = [found for design in sharing if (found := search.best((design,), setting.criterion)) is not None]
    best.sort(key=lambda found: comparable(found.totals.values()))
    return search, (*setting.designs, *(found.design for found in best[:_SHARING]))


def _refuse_impossible(setting: Setting, search: Search) -> None:
    """Raise what is certain without simulation: no design meets the limits even without any queue."""
    if all(not option.feasible and (option.reason or option.unattainable) for option in search.candidates.values()):
        raise infeasible(setting, search)


def best_plan(
    setting: Setting,
    progress: Progress = lambda _: None,
    verdicts: Verdicts | None = None,
    beside: bool = False,
) -> Plan:
    """The plan that answers a question; ``InfeasibleError``, with the nearest miss, where there is none.

    It is recomputed from the specs before it is returned; what does not agree is among its warnings. ``verdicts`` has
    those of simulations for other questions, and keeps those of this one. ``beside`` adds what splitting brings, how
    far the plan is from failing and a failure during the run, unless time is up, or throughput is made largest: such a
    plan is at its limits.
    """
    if setting.searching.fast:
        return confirmed(answer(setting, progress), setting)
    if setting.objective == "throughput":
        return confirmed(largest_throughput(setting, progress, verdicts).plan, setting)
    proven = proof_of(setting, progress, verdicts)
    notes = () if setting.searching.write_lp is None else _written(proven, setting.searching.write_lp)
    plan = proven.plan(progress)
    plan = replace(plan, warnings=(*plan.warnings, *notes))
    return confirmed(_with_more(plan, proven, progress) if beside else plan, setting)


def _with_more(plan: Plan, proven: Proven, progress: Progress) -> Plan:
    """A proven plan with what stands beside the answer, and a warning on what a time limit has left out."""
    late = []
    for what, added in _BESIDE.items():
        try:
            plan = added(plan, proven, progress)
        except TimeIsUp:
            late.append(what)
    note = f"the time limit was reached: left out {'is' if len(late) == 1 else 'are'} {', '.join(late)}"
    return replace(plan, warnings=(*plan.warnings, note)) if late else plan


def _written(proven: Proven, path: str) -> tuple[str, ...]:
    """Write the program of a proof. After a time limit only a small one; else the warning that it is not written."""
    try:
        with ending(monotonic() + max(time_left_s(), _WRITING_S), anew=True):
            if (program := proven.proof.program).positions:
                write_lp(program, path)
    except TimeIsUp:
        return (f"{spelled('write_lp')} {path}: is not written: stating the program does not fit in the time limit",)
    return ()


def promise_of(slo: str, load: Callable[[], Setting], progress: Progress = lambda _: None) -> Promise:
    """The plan of another question, which ``load`` loads, to stand beside an answer: its SLO, cluster and cost."""
    try:
        progress(f"the plan within SLO {slo}, to compare")
        found = best_plan(load(), progress)
        if found.evidence is not None and not found.evidence.optimal:
            raise TimeIsUp
    except InfeasibleError as error:
        why = f"no plan is within it{f', for {error.binding}' if error.binding else ''}"
        return Promise(slo=slo, reason=why)
    except TimeIsUp:
        return Promise(slo=slo, reason=f"not planned: {OUT_OF_TIME}")
    except InputError as error:
        return Promise(slo=slo, reason=f"cannot be planned: {error}")
    same = {name: getattr(found, name) for name in ("design", "pools", "rate_rps", "cost_usd_per_h", "power_w")}
    return Promise(slo=slo, **same)

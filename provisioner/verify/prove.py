"""The proof of one question: regions of sizes, the search for what passes, and the plan or why there is none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from provisioner.errors import InfeasibleError, Interrupted
from provisioner.planning.answer import with_sharing_designs
from provisioner.planning.designs import Design
from provisioner.planning.explain import infeasible
from provisioner.planning.formulation import Caps, Criterion
from provisioner.planning.proof import Problem, Proof, prove
from provisioner.planning.search import Search
from provisioner.planning.setting import Setting
from provisioner.results.plan import Plan
from provisioner.simulation.run import compile_simulator
from provisioner.verify.evidence import nothing_passes, plan_with_evidence
from provisioner.verify.judge import SimulationJudge
from provisioner.verify.regions import Scope, region_of, rule_out_gaps
from provisioner.verify.request_sets import RequestSets
from provisioner.verify.verdicts import Verdicts

# Designs in which two types share a role that are simulated, the best by the formulas: there are dozens.
_SHARING: Final = 4


@dataclass(frozen=True, slots=True)
class Proven:
    """A proof with what it was made from: gives the plan, or the reason why there is none."""

    setting: Setting
    search: Search
    designs: tuple[Design, ...]
    sets: RequestSets
    judge: SimulationJudge
    proof: Proof

    def plan(self) -> Plan | None:
        """The best plan with its evidence, whole runs of it included; None where none passes."""
        best, rate_rps = self.proof.best, self.setting.rate_rps
        if best is None:
            return None
        return plan_with_evidence(self.setting, self.search, self.judge, self.sets, self.proof, best, rate_rps)

    def why_none(self, progress: Callable[[str], None] = lambda _: None) -> InfeasibleError:
        """The error where nothing passes: the nearest miss, and what would do."""
        free = None
        if self.setting.caps.any:
            progress("nothing within the limits passes; looking for what would")
            objective, scope = self.proof.program.order[0], Scope(caps=Caps())
            free = proof_within(self.setting, self.search, self.designs, self.judge, objective, progress, scope).best
        return nothing_passes(self.setting, self.proof, free)


def proof_of(
    setting: Setting,
    progress: Callable[[str], None] = lambda _: None,
    verdicts: Verdicts | None = None,
    scope: Scope | None = None,
    guesses: tuple[Search, tuple[Design, ...]] | None = None,
) -> Proven:
    """The proof of the best plan of a question, whose objective is not throughput, within a scope.

    ``guesses`` are those of another question at the same rate with the same machines, designs and stock.
    ``InfeasibleError`` where the formulas know that no number of machines is enough.
    """
    search, designs = guesses or formulas_guess(setting, progress)
    _refuse_impossible(setting, search)
    sets, judge = (verdicts or Verdicts()).judge(setting, setting.traffic.peak_rps)
    rule_out_gaps(setting, search, designs, judge)
    _refuse_impossible(setting, search)
    compile_simulator(progress)
    proof = proof_within(setting, search, designs, judge, setting.criterion, progress, scope or Scope())
    return Proven(setting, search, designs, sets, judge, proof)


def formulas_guess(setting: Setting, progress: Callable[[str], None]) -> tuple[Search, tuple[Design, ...]]:
    """The formulas' search, and the designs to prove over: with those that share a role where stock is short."""
    search = setting.search()
    objective = setting.criterion
    sharing = with_sharing_designs(setting, search, objective, progress)
    best = [found for design in sharing if (found := search.best((design,), objective)) is not None]
    best.sort(key=lambda found: tuple(found.totals.values()))
    return search, (*setting.designs, *(found.design for found in best[:_SHARING]))


def _refuse_impossible(setting: Setting, search: Search) -> None:
    """Raise what is certain without simulation: no design meets the limits even without any queue."""
    if all(not option.feasible and (option.reason or option.unattainable) for option in search.candidates.values()):
        raise infeasible(setting, search, "cost")


def proof_within(
    setting: Setting,
    search: Search,
    designs: Sequence[Design],
    judge: SimulationJudge,
    objective: Criterion,
    progress: Callable[[str], None],
    scope: Scope,
) -> Proof:
    """The proof over some designs within a scope."""
    rule_out_gaps(setting, search, designs, judge)
    caps = setting.caps if scope.caps is None else scope.caps
    guesses = {design: search.best((design,), objective, caps) for design in designs}
    problem = Problem(
        regions=tuple(region_of(setting, search, design, guesses, judge, caps, scope) for design in designs),
        prices=setting.prices,
        caps=caps,
        objective=objective,
        exhaustive=setting.searching.exhaustive,
        time_limit_s=setting.searching.time_limit_s if scope.time_limit_s is None else scope.time_limit_s,
        solver=setting.searching.solver,
        any_plan=scope.any_plan,
        excluded=scope.excluded,
    )
    try:
        return prove(problem, judge, progress)
    except KeyboardInterrupt:
        raise Interrupted(f"{judge.simulated_runs} runs simulated, the proof is not complete") from None

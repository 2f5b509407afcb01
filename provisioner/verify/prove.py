"""The proof of one question: the formulas' guesses, and the search for what passes."""

from __future__ import annotations

from typing import Final

from provisioner.planning.answer import with_sharing_designs
from provisioner.planning.designs import Design
from provisioner.planning.explain import infeasible
from provisioner.planning.search import Search
from provisioner.planning.setting import Setting
from provisioner.progress import Progress
from provisioner.simulation.run import compile_simulator
from provisioner.verify.evidence import Proven
from provisioner.verify.regions import Case, Scope
from provisioner.verify.verdicts import Verdicts

# Designs in which two types share a role that are simulated, the best by the formulas: there are dozens.
_SHARING: Final = 4


def proof_of(
    setting: Setting,
    progress: Progress = lambda _: None,
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
    case = Case(setting, search, designs, *(verdicts or Verdicts()).judge(setting, setting.traffic.peak_rps))
    case.rule_out_gaps()
    _refuse_impossible(setting, search)
    compile_simulator(progress)
    return Proven(case, case.prove(progress, scope or Scope()))


def formulas_guess(setting: Setting, progress: Progress) -> tuple[Search, tuple[Design, ...]]:
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

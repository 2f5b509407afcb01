"""The largest rate at which some cluster passes, and the clusters that pass at each rate."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from provisioner.deadline import TimeIsUp, check_time, ending
from provisioner.errors import InputError
from provisioner.options import spelled
from provisioner.options.defaults import MOST_SETS
from provisioner.planning.answer import largest_by_formulas, refuse_throughput
from provisioner.planning.designs import Design
from provisioner.planning.explain import infeasible
from provisioner.planning.lattice import Sizes
from provisioner.planning.proof import Candidate, Verdict
from provisioner.planning.search import SMALLEST_RATE_RPS, largest_rate
from provisioner.planning.setting import Setting
from provisioner.progress import Progress
from provisioner.results.plan import Plan
from provisioner.results.simulation import Simulation
from provisioner.simulation.requests import LONGEST_S
from provisioner.simulation.run import compile_simulator
from provisioner.specs.traces import Trace
from provisioner.verify.evidence import Proven, whole_runs
from provisioner.verify.judge import SimulationJudge, Verdicts
from provisioner.verify.regions import Case, Scope
from provisioner.verify.request_sets import RequestSets, least_rate_rps

_RATE_TOLERANCE: Final = 0.01
# The formulas' guess at a largest rate is found to this tolerance, and simulations step from it by this factor first.
_GUESS_TOLERANCE: Final = 0.02
_FIRST_STEP: Final = 1.05
_LEAST_REQUESTS: Final = 20.0  # rates at which a request set has fewer requests than this are not looked at
BEYOND: Final = (1.01, 1.02, 1.04)  # multiples of the first failure that are looked at: near saturation verdicts flip


@dataclass(frozen=True, slots=True)
class Throughput:
    """The largest rate at which some cluster passes, as a plan of the cheapest such cluster.

    At ``failed_rps`` none passes, the first failure to 1 %; None if a time limit came first. At ``passes_again_rps``,
    rates somewhat above it, some do all the same.
    """

    plan: Plan
    failed_rps: float | None
    passes_again_rps: tuple[float, ...]


class Rates:
    """The clusters that pass at each rate, for a question whose rate is open. It keeps clear failures of lower rates.

    ``tried`` has the clusters judged by themselves, ``passed`` all that pass.
    """

    def __init__(self, setting: Setting, progress: Progress = lambda _: None, verdicts: Verdicts | None = None) -> None:
        if setting.job is not None:
            raise InputError(
                f"{spelled('backlog_requests')}: has its own rate; ask for the capacity of a cluster with "
                f"{spelled('slo')} batch alone"
            )
        self.setting = setting
        self.verdicts = verdicts or Verdicts()
        self.tried: list[tuple[float, Candidate, Verdict]] = []
        self.passed: list[tuple[float, Candidate]] = []
        self.progress = progress
        self._clear: list[tuple[float, Candidate]] = []

    def verdict(self, candidate: Candidate, rate_rps: float) -> Verdict:
        """The verdict on one cluster at a rate."""
        check_time()
        self.progress(f"does {candidate} hold {rate_rps:.4g} requests/s?")
        found = self.judge(rate_rps)[1].judge(candidate)
        self.tried.append((rate_rps, candidate, found))
        if found.passes:
            self.passed.append((rate_rps, candidate))
        if found.clear:
            self._clear.append((rate_rps, candidate))
        return found

    def judge(self, rate_rps: float) -> tuple[RequestSets, SimulationJudge]:
        """The request sets at a rate, and the judge on them."""
        return self.verdicts.judge(self.setting.at(rate_rps), rate_rps)

    def simulation(self, candidate: Candidate, rate_rps: float) -> Simulation:
        """Whole runs of a cluster at a rate, on as many request sets as it takes to decide about every limit."""
        sets, judge = self.judge(rate_rps)
        count = judge.sets
        while True:
            found = whole_runs(judge, sets, candidate, count)
            outcomes = {each.met for each in found.latency}
            if "undecided" not in outcomes or "fail" in outcomes or count in (1, MOST_SETS):
                return found
            count = min(count + judge.sets, MOST_SETS)

    def largest(self, candidate: Candidate, start_rps: float) -> tuple[float, float]:
        """The largest rate of one cluster below its first failure, and that failure, to 1 %; from a start nearby."""
        return largest_rate(
            lambda rate_rps: self.verdict(candidate, rate_rps).passes,
            max(start_rps, self.smallest_rps),
            _RATE_TOLERANCE,
            _FIRST_STEP,
            self.smallest_rps,
        )

    @property
    def smallest_rps(self) -> float:
        """The smallest rate looked at: below, a request set has too few requests to say anything."""
        least_rps = least_rate_rps(self.setting.slo, self.setting.traffic.cv)
        grows = least_rps * LONGEST_S >= _LEAST_REQUESTS  # each set, until it has as many requests
        return max(SMALLEST_RATE_RPS, least_rps, 0.0 if grows else _LEAST_REQUESTS / self.setting.judging.duration_s)

    def some(self, rate_rps: float, starts: Mapping[Design, Sizes]) -> Candidate | None:
        """A cluster within the caps that passes at a rate; None where it is proven that there is none.

        What fails clearly at a lower rate is taken to fail at this one, as smaller clusters are.
        """
        check_time()
        self.progress(f"is {rate_rps:.4g} requests/s possible?")
        excluded = tuple(candidate for rate, candidate in self._clear if rate <= rate_rps)
        proof = self.proven(rate_rps, Scope(starts=starts, excluded=excluded, any_plan=True)).proof
        if proof.best is not None:
            self.passed.append((rate_rps, proof.best.candidate))
            return proof.best.candidate
        if not proof.optimal:
            raise TimeIsUp
        self._clear += [(rate_rps, each) for each in proof.cuts]
        return None

    def proven(self, rate_rps: float, scope: Scope, designs: tuple[Design, ...] | None = None) -> Proven:
        """The proof of the cheapest cluster of some designs at a rate within a scope."""
        there = replace(self.setting.at(rate_rps), designs=designs or self.setting.designs)
        case = Case(there, there.search(), there.designs, *self.judge(rate_rps))
        return Proven(case, case.prove(self.progress, scope))


def largest_throughput(
    setting: Setting, progress: Progress = lambda _: None, verdicts: Verdicts | None = None
) -> Throughput:
    """The largest rate at which some cluster within the caps passes, to 1 %, and the cheapest such cluster at it.

    From the formulas' best cluster at its largest rate to any that passes at 1 % more, until proven that none does.
    """
    if isinstance(setting.source, Trace):
        raise InputError(
            f"{spelled('objective')} throughput: a {spelled('trace')} has its own rate; give its file to "
            f"{spelled('workload')}"
        )
    refuse_throughput(setting)
    compile_simulator(progress)
    rates = Rates(setting, progress, verdicts)
    failed: float | None = None
    flips: list[float] = []
    complete = False
    candidate, rate = None, 0.0
    try:
        candidate, rate = _some_rate(rates)
        while candidate is not None:
            beyond = rate * (1.0 + _RATE_TOLERANCE)
            better = rates.some(beyond, {candidate.design: candidate.sizes})
            if better is None:
                failed = beyond
                flips += [at for factor in BEYOND if rates.some(at := factor * failed, {}) is not None]
                break
            candidate, (rate, _) = better, rates.largest(better, beyond)
        complete = True
    except TimeIsUp:
        if failed is None and not rates.passed:
            raise
        if failed is None:
            rate, candidate = max(rates.passed, key=lambda each: each[0])
    if candidate is None:
        raise infeasible(setting, setting.search(setting.traffic_at(SMALLEST_RATE_RPS)))
    starts = {candidate.design: candidate.sizes}
    try:
        progress(f"the cheapest cluster at {rate:.4g} requests/s")
        plan = rates.proven(rate, Scope(starts=starts)).plan()
    except TimeIsUp:  # the one that passed
        with ending(math.inf, anew=True):
            known = Scope(starts=starts, any_plan=True, batch=1)
            plan = rates.proven(rate, known, (candidate.design,)).plan()
    further = f"nor does any tried up to {(failed or 0.0) * BEYOND[-1]:.4g}"
    if flips:
        further = f"verdicts flip up to {max(flips):.4g}"
    if not complete:
        further = (
            f"the time limit was reached before {'rates beyond were tried' if failed else 'one at which none does'}"
        )
    failure = f", {failed:.4g} do not, the first failure to 1 %" if failed else ""
    note = f"throughput: {rate:.4g} requests/s pass{failure}; {further}"
    evidence = plan.evidence and replace(plan.evidence, optimal=failed is not None)
    return Throughput(replace(plan, evidence=evidence, warnings=(*plan.warnings, note)), failed, tuple(flips))


def _some_rate(rates: Rates) -> tuple[Candidate | None, float]:
    """A cluster that passes at some rate, by the formulas the best, and its largest rate; (None, 0) without any."""
    setting = rates.setting
    rate, guesses = setting.traffic.peak_rps, []
    for design in setting.designs:
        rates.progress(f"a first guess by the formulas: {design.name}")
        guesses.append(largest_by_formulas(setting, (design,), rate, tolerance=_GUESS_TOLERANCE))
    known = sorted((guess for guess in guesses if guess is not None), key=lambda guess: -guess[0])
    if known:
        rate, best = known[0]
        candidate = Candidate(best.design, best.sizes)
        low, _ = rates.largest(candidate, rate)
        if low > 0.0:
            return candidate, low
    starts = {best.design: best.sizes for _, best in known}
    while rate >= rates.smallest_rps:
        some = rates.some(rate, starts)
        if some is not None:
            return some, rates.largest(some, rate)[0]
        rate /= 2.0
    return None, 0.0

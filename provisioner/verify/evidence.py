"""The evidence of a proven plan: its latencies, neighbours and alternatives; or the reason why nothing passes."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from provisioner.deadline import TimeIsUp, ending
from provisioner.errors import InfeasibleError
from provisioner.options import spelled
from provisioner.planning.answer import LATE, comparable, figure, loss, plan_of, ranked
from provisioner.planning.candidates import DesignLatency
from provisioner.planning.designs import Design
from provisioner.planning.explain import raised, raised_cap, why_not
from provisioner.planning.formulation import CAP_OPTIONS, ROUNDING, Caps
from provisioner.planning.lattice import Sizes
from provisioner.planning.proof import Candidate, Judged, Proof, Verdict
from provisioner.planning.search import Best
from provisioner.planning.setting import Setting
from provisioner.progress import Progress
from provisioner.results.plan import CAPACITY, ONLY_ONE, Alternative, Evidence, LatencyFigure, Neighbour, Plan, PlanPool
from provisioner.results.simulation import Interval, Simulation
from provisioner.simulation.assemble import Scenario, assemble
from provisioner.specs.engine import BY_HAND
from provisioner.specs.metrics import METRICS, PREDICTED
from provisioner.specs.slo import LatencyLimit
from provisioner.verify.judge import SimulationJudge, losses
from provisioner.verify.regions import Case, Scope
from provisioner.verify.request_sets import RequestSets

METHOD: Final = "proven by simulation (docs/reference/simulation.md); the queueing formulas made the first guess"


@dataclass(frozen=True, slots=True)
class Proven:
    """A proof with what it was made from: gives the plan, or the reason why there is none."""

    case: Case
    proof: Proof

    def plan(self, progress: Progress = lambda _: None) -> Plan:
        """The best plan with whole runs on the sets that decided it; ``InfeasibleError`` where none passes."""
        if self.proof.best is None:
            raise self.why_none(progress)
        return self._shown(self.proof.best)

    @ending(math.inf, anew=True)
    def _shown(self, best: Judged) -> Plan:
        setting, sets, judge = self.case.setting, self.case.sets, self.case.judge
        design, sizes = best.candidate.design, best.candidate.sizes
        simulation = whole_runs(judge, sets, best.candidate, best.verdict.sets or sets.count)
        traffic = setting.traffic.scaled(sets.rate_rps / setting.traffic.peak_rps)
        as_best = Best(design, sizes, dict(best.totals), DesignLatency(self.case.search.question, design))
        late = (
            f"the time limit was reached before the proof was complete: no plan has less {setting.criterion} than "
            f"{self.proof.lower_bound:g}, so this one is at most {self.proof.gap or 0.0:.1%} from the best"
        )
        others = [self._alternative(other, best) for other in setting.designs if other != design]
        base = plan_of(setting, traffic, as_best, ranked(others, self.case.setting.criterion))
        pools = tuple(
            replace(
                pool,
                utilization=found.utilization,
                mean_batch=found.mean_batch if pool.role != "prompt" else None,
                binding=self._binding(best.candidate, lost),
                batch_tokens=tokens if pool.role != "token" else None,
                engine_arguments=self._arguments(best.candidate, position, tokens),
            )
            for position, (pool, found, tokens, lost) in enumerate(
                zip(base.pools, simulation.pools, judge.tokens_of(best.candidate), losses(sizes, 1), strict=True)
            )
        )
        return replace(
            base,
            pools=pools,
            latency=_latency(setting, simulation, pools, base.latency),
            attainment=simulation.attainment,
            method=METHOD,
            batch=base.batch and replace(base.batch, done_s=best.verdict.worst_ratio * base.batch.within_s),
            gap=self.proof.gap or 0.0,
            evidence=self._evidence(best),
            warnings=(
                *setting.warnings,
                *simulation.warnings,
                *self._single(best.candidate),
                *([] if self.proof.ties_judged else [late]),
            ),
        )

    def _arguments(self, best: Candidate, position: int, tokens: int | None) -> str:
        """The arguments of the engine's command for a pool; empty under the paper's policies.

        A pool that only decodes has no token budget but one that was given by hand.
        """
        judge, slot = self.case.judge, best.design.slots[position]
        if tokens is None:
            return ""
        perf = judge.replicas[slot.replica]
        limited = judge.prompts_anywhere(best.design) or perf.engine.basis["batch_tokens"] == BY_HAND
        budget = {"batch_tokens": tokens} if slot.role != "token" or limited else {}
        return perf.engine.arguments(
            tensor_parallel=slot.tensor_parallel,
            **budget,
            batch_requests=judge.policy_of(best.design).batch_requests,
            share=float(perf.engine.memory.share),
            context_tokens=self.case.setting.context_tokens,
        )

    def _single(self, best: Candidate) -> list[str]:
        """Warnings on pools of one machine, for which no other of the pool can step in."""
        judge, warnings = self.case.judge, []
        for slot, n, lost in zip(best.design.slots, best.sizes, losses(best.sizes, 1), strict=True):
            if n == 1 and not judge.lends(best.design):
                others = judge.stood_in(replace(best, lost=lost))
                then = "token machines compute its prompts" if others else "nothing is served"
                warnings.append(f"{slot.role} pool: has one machine; while it is lost, {then}")
        return warnings

    def _binding(self, best: Candidate, lost: Sizes) -> tuple[str, ...]:
        """The limits, by name, that break if the machine of a pool is not there, or its capacity."""
        fewer = best.smaller(lost)
        if not all(fewer.sizes):
            return (ONLY_ONE,)
        verdicts = [each.verdict for each in self.proof.simulated if each.candidate == fewer]
        labels = tuple(limit.label for verdict in verdicts if verdict.stable for limit, _ in verdict.broken)
        return labels or (CAPACITY,)

    def _evidence(self, best: Judged) -> Evidence:
        proof, judge, took = self.proof, self.case.judge, best.verdict.sets
        return Evidence(
            rule=self.case.sets.rule(judge.confidence, best.verdict.longer)
            + (f"; this one took {took}" if took > judge.sets else "")
            + (f"; and so with any {judge.survive} machine{'s' * (judge.survive > 1)} lost" if judge.survive else ""),
            policy=judge.policy_of(best.candidate.design).name,
            optimal=proof.ties_judged,
            lower_bound=proof.lower_bound,
            gap=proof.gap or 0.0,
            runs=judge.simulated_runs,
            cut_margin=judge.cut_margin,
            exhaustive=self.case.setting.searching.exhaustive,
            neighbours=tuple(
                Neighbour(
                    **self.case.setting.priced(each.candidate.design, each.candidate.sizes, each.totals),
                    breaks=broken(each.verdict),
                    worst_ratio=each.verdict.worst_ratio,
                    at_least=each.verdict.early,
                )
                for each in proof.failing_neighbours
            ),
            violations=tuple(
                f"{passing.candidate} passes, {failing.candidate} fails" for passing, failing in proof.violations
            ),
            **proof.counts._asdict(),
        )

    def _alternative(self, design: Design, best: Judged) -> Alternative:
        """Another design: its best simulated plan, or the formulas' plan if that is worse, or the reason for none."""
        setting, search, proof = self.case.setting, self.case.search, self.proof
        judged = [each for each in proof.simulated if each.candidate.design == design]
        passed = [each for each in judged if each.verdict.passes]
        if passed:
            least = min(passed, key=lambda each: comparable(each.totals.values()))
            cluster = setting.priced(design, least.candidate.sizes, least.totals)
            return Alternative(**cluster, reason=loss(least.totals, best.totals), basis="simulated")
        if not self.proof.ties_judged:
            return Alternative(design=design.name, reason=LATE, basis="simulated")
        guess = search.best((design,), self.case.setting.criterion)
        if guess is not None and comparable(guess.totals.values()) > comparable(best.totals.values()):
            left_out = [f" without {each}" for each in setting.slo.limits if not METRICS[each.metric].by_formulas]
            reason = f"{loss(guess.totals, best.totals)} (formulas{''.join(left_out)})"
            return Alternative(**setting.priced(design, guess.sizes, guess.totals), reason=reason)
        option = search.candidates[design]
        unplanned = guess is None and (option.reason or option.unattainable or not judged)
        reasons = [why_not(search, design)] if unplanned else []
        count = next((each.candidates for each in proof.counts.by_design if each.design == design.name), 0)
        if count:
            reasons.append(f"none of its {count:,} clusters that would be as good passes")
        if judged:
            exact = [x for x in judged if not x.verdict.early and math.isfinite(x.verdict.worst_ratio)]
            near = min(exact or judged, key=lambda each: each.verdict.worst_ratio)
            sizes = " + ".join(map(str, near.candidate.sizes))
            reasons.append(f"nearest {sizes}: {', '.join(broken(near.verdict)[:1])}")
        return Alternative(design=design.name, reason="; ".join(reasons), basis="simulated")

    def why_none(self, progress: Progress = lambda _: None) -> InfeasibleError:
        """The error where nothing passes: the nearest miss, and the changes that would do."""
        caps, miss = self.case.setting.caps, self.proof.nearest_miss
        texts: list[str] = []
        binding = nearest = ""
        if caps.any:
            free = None
            with suppress(TimeIsUp):
                progress("nothing within the limits passes; looking for what would")
                free = self.case.prove(progress, Scope(caps=Caps())).best
            if free is not None:
                used = free.candidate.design.used(free.candidate.sizes)
                over = {name: cap for name, cap in caps.given.items() if free.totals[name] > cap * (1.0 + ROUNDING)}
                short = [name for name, available in caps.stock.items() if used[name] > available]
                exceeded = [f"{spelled(CAP_OPTIONS[name])} {cap:g}" for name, cap in over.items()]
                binding = next(iter([*exceeded, *(spelled("stock") for _ in short)]), "")
                needed = [raised_cap(name, free.totals[name]) for name in over]
                needed += [f"{spelled('stock')} {name}={used[name]}" for name in short]
                texts.append(f"{' '.join(needed)} ({free.candidate}, which passes)")
        if miss is not None:
            known = self._broken_by(miss, progress)
            if known:
                changes = " ".join(raised(limit, 1.01 * value) for limit, value in known)
                texts.append(f"{changes} ({miss.candidate})")
                binding = binding or known[0][0].label
            nearest = f"; the nearest miss is {miss.candidate}: {', '.join(broken(miss.verdict))}"
        how = "it is proven that none does" if self.proof.optimal else "the time limit was reached"
        return InfeasibleError(
            f"no plan passes simulation ({self.proof.counts.simulated} simulated; {how}){nearest}",
            binding=binding or "the limits together",
            relaxations=texts,
            miss_ratio=math.inf if miss is None else miss.verdict.worst_ratio,
        )

    def _broken_by(self, miss: Judged, progress: Progress) -> list[tuple[LatencyLimit, float]]:
        """The limits that a stable miss breaks, with its values, the worst first; its runs that were stopped, whole."""
        verdict, known = miss.verdict, list(miss.verdict.broken)
        if verdict.early and not verdict.losses:
            known = []
            with suppress(TimeIsUp):
                progress("nothing passes; by how much the nearest misses")
                whole = whole_runs(self.case.judge, self.case.sets, miss.candidate, self.case.judge.sets)
                if whole.stable:
                    known = [(x.limit, x.judged.mean) for x in whole.latency if x.limit and (x.over_limit or 0.0) > 1.0]
        elif verdict.early or not verdict.stable:
            return []
        known = [(limit, value) for limit, value in known if math.isfinite(value)]
        return sorted(known, key=lambda pair: -pair[1] / pair[0].value)


def whole_runs(judge: SimulationJudge, sets: RequestSets, candidate: Candidate, count: int) -> Simulation:
    """Whole runs of a candidate on the first ``count`` request sets that judged it."""
    setting, candidate = sets.setting, judge.decided(candidate)
    scenario = Scenario(
        design=candidate.design.name,
        cluster=judge.cluster(candidate),
        reference=setting.reference,
        request_set=sets.requests,
        sets=count,
        expected_requests=float(sets(0).requests.requests),
        percentiles=judge.percentiles,
        slo=setting.slo,
        workload=setting.workload,
        seed=setting.judging.seed,
        confidence=judge.confidence,
    )
    return assemble(scenario, judge.observations(candidate, count))


def _latency(
    setting: Setting, simulation: Simulation, pools: tuple[PlanPool, ...], predicted: Sequence[LatencyFigure]
) -> tuple[LatencyFigure, ...]:
    """The simulated percentiles beside their limits, with their intervals; predicted ones where formulas give them."""
    by_formulas = {(each.metric, each.percentile): each for each in predicted}
    simulated = {(each.metric, each.percentile): each for each in simulation.latency}

    def measured(metric: str, percentile: float) -> LatencyFigure:
        found, guess = simulated[metric, percentile], by_formulas.get((metric, percentile))
        return figure(
            metric,
            percentile,
            setting.slo,
            pools,
            seconds=found.seconds.mean,
            slowdown=found.slowdown.mean,
            seconds_range=_range(found.seconds),
            slowdown_range=_range(found.slowdown),
            predicted_seconds=None if guess is None else guess.seconds,
            predicted_slowdown=None if guess is None else guess.slowdown,
        )

    return tuple(measured(*each) for each in setting.slo.figures(PREDICTED))


def _range(interval: Interval) -> tuple[float, float] | None:
    return None if interval.low is None or interval.high is None else (interval.low, interval.high)


def broken(verdict: Verdict) -> tuple[str, ...]:
    """The limits that a verdict breaks, as texts."""
    least = "at least " if verdict.early else ""
    worst_first = sorted(verdict.broken, key=lambda pair: -round(pair[1] / pair[0].value, 9))
    names = [f"{each.label} {least}{each.format(value)} of {each.format(each.value)}" for each, value in worst_first]
    if verdict.late is not None:
        names.append(f"done after {verdict.late:.3g} times the time that there is")
    if not verdict.stable:
        names.append("too short to tell whether it is stable" if verdict.stable is None else "not stable")
    elif verdict.outcome == "undecided":
        names.append("undecided (a confidence bound is beyond its limit)")
    return tuple(f"{name}{verdict.losses}" for name in names)

"""The evidence of a proven plan: its latencies, neighbours and alternatives; or the reason why nothing passes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from provisioner.errors import InfeasibleError
from provisioner.options import spelled
from provisioner.planning.answer import alternative, plan_of, ranked, rests_on
from provisioner.planning.candidates import DesignLatency
from provisioner.planning.designs import Design
from provisioner.planning.explain import raised, why_not
from provisioner.planning.formulation import CAP_OPTIONS, ROUNDING, Criterion
from provisioner.planning.proof import Candidate, Judged, Proof, Verdict
from provisioner.planning.search import Best, Search
from provisioner.planning.setting import Setting
from provisioner.results.plan import (
    CAPACITY,
    ONLY_ONE,
    Alternative,
    DesignCounts,
    Evidence,
    LatencyFigure,
    Neighbour,
    Plan,
    PlanPool,
)
from provisioner.results.simulation import Interval, Simulation
from provisioner.simulation.assemble import Scenario, assemble, observe, percentiles_of
from provisioner.specs.metrics import METRICS, PREDICTED, REPORTED_PERCENTILES
from provisioner.verify.judge import SimulationJudge
from provisioner.verify.request_sets import RequestSets

METHOD: Final = "proven by simulation (docs/reference/simulation.md); the queueing formulas made the first guess"


def plan_with_evidence(
    setting: Setting,
    search: Search,
    judge: SimulationJudge,
    sets: RequestSets,
    proof: Proof,
    best: Judged,
    rate_rps: float,
) -> Plan:
    """The plan with its evidence: figures from whole runs of the chosen cluster on all its request sets."""
    candidate = best.candidate
    simulation = whole_runs(setting, judge, sets, candidate)
    traffic = setting.traffic.scaled(sets.rate_rps / setting.traffic.peak_rps)
    objective: Criterion = proof.program.order[0]
    as_best = Best(
        candidate.design, candidate.sizes, dict(best.totals), DesignLatency(search.question, candidate.design)
    )
    alternatives = [
        _alternative(setting, search, proof, design, objective)
        for design in setting.designs
        if design != candidate.design
    ]
    base = plan_of(setting, traffic, as_best, ranked(alternatives, objective), rate_rps)
    evidence = _evidence(setting, judge, sets, proof, candidate.design)
    bindings = [_binding(proof, candidate, position) for position in range(len(candidate.sizes))]
    pools = tuple(
        replace(
            pool,
            utilization=found.utilization,
            mean_batch=found.mean_batch if pool.role != "prompt" else None,
            binding=binding,
        )
        for pool, found, binding in zip(base.pools, simulation.pools, bindings, strict=True)
    )
    return replace(
        base,
        pools=pools,
        latency=_figures(setting, simulation, pools, base.latency),
        method=METHOD,
        batch=base.batch and replace(base.batch, done_s=best.verdict.worst_ratio * base.batch.within_s),
        gap=proof.gap or 0.0,
        evidence=evidence,
        warnings=(*setting.warnings, *simulation.warnings, *_proof_warnings(proof)),
    )


def whole_runs(
    setting: Setting, judge: SimulationJudge, sets: RequestSets, candidate: Candidate, count: int | None = None
) -> Simulation:
    """Whole runs of a candidate on the request sets that judged it, the first ``count`` of them."""
    scenario = Scenario(
        design=candidate.design.name,
        cluster=judge.cluster(candidate),
        reference=setting.reference,
        request_set=sets.requests,
        sets=sets.count if count is None else count,
        expected_requests=float(sets(0).requests.requests),
        percentiles=tuple(sorted({*REPORTED_PERCENTILES, *setting.slo.percentiles})),
        slo=setting.slo,
        workload=setting.workload,
        seed=setting.judging.seed,
    )
    observations = []
    for done in judge.runs(candidate, count):
        observations.append(observe(done, percentiles_of(done.latencies, scenario.percentiles), done.wall_s))
    return assemble(scenario, observations)


def _figures(
    setting: Setting, simulation: Simulation, pools: tuple[PlanPool, ...], predicted: Sequence[LatencyFigure]
) -> tuple[LatencyFigure, ...]:
    """The simulated percentiles beside their limits, with their intervals; predicted ones where formulas give them."""
    binding = {name for pool in pools for name in pool.binding}
    by_formulas = {(each.metric, each.percentile): each for each in predicted}
    simulated = {(each.metric, each.percentile): each for each in simulation.latency}
    figures = []
    for metric, percentile in setting.slo.figures(PREDICTED):
        found, guess = simulated[metric, percentile], by_formulas.get((metric, percentile))
        limit = setting.slo.limit_on(metric, percentile)
        figures.append(
            LatencyFigure(
                metric,
                percentile,
                seconds=found.seconds.mean,
                slowdown=found.slowdown.mean,
                limit=limit,
                binding=limit is not None and limit.label in binding,
                extrapolated=rests_on(metric, {phase for pool in pools for phase in pool.extrapolated}),
                seconds_range=_range(found.seconds),
                slowdown_range=_range(found.slowdown),
                predicted_seconds=None if guess is None else guess.seconds,
                predicted_slowdown=None if guess is None else guess.slowdown,
            )
        )
    return tuple(figures)


def _range(interval: Interval) -> tuple[float, float] | None:
    return None if interval.low is None or interval.high is None else (interval.low, interval.high)


def _broken(verdict: Verdict) -> tuple[str, ...]:
    """The limits that a verdict breaks, as texts."""
    names = [
        f"{each.limit.label} {'at least ' if verdict.early else ''}{each.limit.format(each.value)} of "
        f"{each.limit.format(each.limit.value)}"
        for each in sorted(verdict.ratios, key=lambda each: -each.ratio)
        if each.ratio > 1.0
    ]
    if verdict.late is not None:
        names.append(f"done after {verdict.late:.3g} times the time that there is")
    if not verdict.stable:
        names.append("not stable")
    if verdict.outcome == "undecided":
        names.append("undecided (a confidence bound is beyond its limit)")
    return tuple(names)


def _binding(proof: Proof, best: Candidate, position: int) -> tuple[str, ...]:
    """The limits, by name, that break if one pool loses a machine, or its capacity."""
    sizes = tuple(n - (i == position) for i, n in enumerate(best.sizes))
    if sizes[position] == 0:
        return (ONLY_ONE,)
    for judged in proof.simulated:
        if judged.candidate.design == best.design and judged.candidate.sizes == sizes:
            labels = [each.limit.label for each in judged.verdict.ratios if each.ratio > 1.0]
            return tuple(labels) if labels and judged.verdict.stable else (CAPACITY,)
    return (CAPACITY,)


def _neighbour(setting: Setting, judged: Judged) -> Neighbour:
    candidate, verdict = judged.candidate, judged.verdict
    return Neighbour(
        design=candidate.design.name,
        pools=setting.pools(candidate.design, candidate.sizes),
        cost_usd_per_h=judged.totals["cost"],
        power_w=judged.totals["power"],
        breaks=_broken(verdict),
        worst_ratio=verdict.worst_ratio,
        at_least=verdict.early,
    )


def _evidence(setting: Setting, judge: SimulationJudge, sets: RequestSets, proof: Proof, design: Design) -> Evidence:
    counts = proof.counts
    return Evidence(
        rule=sets.rule(judge.confidence),
        policy=judge.policy_of(design).name,
        optimal=proof.optimal and proof.ties_judged,
        lower_bound=proof.lower_bound,
        gap=proof.gap or 0.0,
        simulated=counts.simulated,
        runs=judge.simulated_runs,
        rejected_early=counts.rejected_early,
        near_misses=counts.near_misses,
        undecided=counts.undecided,
        cut=counts.cut,
        cut_margin=judge.cut_margin,
        exhaustive=proof.exhaustive,
        neighbours=tuple(_neighbour(setting, each) for each in proof.failing_neighbours),
        violations=tuple(f"{each.passes.candidate} passes, {each.fails.candidate} fails" for each in proof.violations),
        by_design=tuple(
            DesignCounts(each.design.name, each.candidates, each.simulated, each.cut) for each in counts.designs
        ),
    )


def _alternative(setting: Setting, search: Search, proof: Proof, design: Design, objective: Criterion) -> Alternative:
    """Another design: its best simulated plan, or the formulas' plan if that is worse, or the reason for none."""
    assert proof.best is not None
    best = proof.best.totals
    judged = [each for each in proof.simulated if each.candidate.design == design]
    passed = [each for each in judged if each.verdict.passes]
    if passed:
        least = min(passed, key=lambda each: tuple(each.totals.values()))
        loss = _loss(least.totals, best)
        return alternative(setting, design, least.candidate.sizes, least.totals, loss, basis="simulated")
    guess = search.best((design,), objective)
    if guess is not None and tuple(guess.totals.values()) > tuple(best.values()):
        left_out = [f" without {each}" for each in setting.slo.limits if not METRICS[each.metric].by_formulas]
        loss = f"{_loss(guess.totals, best)} (formulas{''.join(left_out)})"
        return alternative(setting, design, guess.sizes, guess.totals, loss)
    option = search.candidates[design]
    reasons = (
        [why_not(search, design)] if guess is None and (option.reason or option.unattainable or not judged) else []
    )
    known = next((each for each in proof.counts.designs if each.design == design), None)
    if known is not None and known.candidates:
        reasons.append(f"none of its {known.candidates:,} clusters that would be as good passes")
    near = _nearest(judged)
    if near:
        reasons.append(f"nearest {near}")
    return Alternative(design=design.name, reason="; ".join(reasons), basis="simulated")


def _loss(totals: Mapping[Criterion, float], best: Mapping[Criterion, float]) -> str:
    """The amount by which a design loses in the first criterion that differs."""
    for criterion in best:
        ratio = totals[criterion] / best[criterion]
        if abs(ratio - 1.0) > 1e-9:
            return f"{100.0 * (ratio - 1.0):.1f} % more {criterion}"
    return "equal in every criterion; less slack"


def _nearest(failed: Sequence[Judged]) -> str:
    """The nearest miss among simulated candidates, as text; "" without any."""
    known = [each for each in failed if not each.verdict.early and math.isfinite(each.verdict.worst_ratio)] or failed
    if not known:
        return ""
    near = min(known, key=lambda each: each.verdict.worst_ratio)
    return f"{' + '.join(map(str, near.candidate.sizes))}: {', '.join(_broken(near.verdict)[:1])}"


def _proof_warnings(proof: Proof) -> tuple[str, ...]:
    notes = []
    if not (proof.optimal and proof.ties_judged):
        criterion = proof.program.order[0]
        notes.append(
            f"the time limit was reached before the proof was complete: no plan has less {criterion} than "
            f"{proof.lower_bound:g}, so this one is at most {proof.gap or 0.0:.1%} from the best"
        )
    return tuple(notes)


def nothing_passes(setting: Setting, proof: Proof, free: Judged | None) -> InfeasibleError:
    """The error if no candidate passes: the nearest miss, and changes that would do: ``free`` passes without caps."""
    miss = proof.nearest_miss
    texts: list[str] = []
    binding = ""
    caps = setting.caps
    if free is not None:
        needed = []
        for criterion, option in CAP_OPTIONS.items():
            cap, value = caps.of(criterion), free.totals[criterion]
            if cap is not None and value > cap * (1.0 + ROUNDING):
                needed.append(f"{spelled(option)} {math.ceil(value * (1.0 - ROUNDING))}")
                binding = binding or f"{spelled(option)} {cap:g}"
        for name, available in caps.stock.items():
            slots = zip(free.candidate.design.slots, free.candidate.sizes, strict=True)
            used = sum(n for slot, n in slots if slot.machine.name == name)
            if used > available:
                needed.append(f"{spelled('stock')} {name}={used}")
                binding = binding or spelled("stock")
        texts.append(f"{' '.join(needed)} ({free.candidate}, which passes)")
    if miss is not None:
        broken = _broken(miss.verdict)
        known = [each for each in miss.verdict.ratios if each.ratio > 1.0 and math.isfinite(each.value)]
        if known and not miss.verdict.early and miss.verdict.stable:
            changes = " ".join(raised(each.limit, 1.01 * each.value) for each in known)
            texts.append(f"{changes} ({miss.candidate})")
            binding = binding or known[0].limit.label
        nearest = f"; the nearest miss is {miss.candidate}: {', '.join(broken)}"
    else:
        nearest = ""
    done = proof.counts.simulated
    how = "it is proven that none does" if proof.optimal else "the time limit was reached"
    return InfeasibleError(
        f"no plan passes simulation ({done} simulated; {how}){nearest}",
        binding=binding or "the limits together",
        relaxations=texts,
    )

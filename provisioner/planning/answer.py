"""From a question with everything loaded to a plan, or to the reason why there is none."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from provisioner.deadline import TimeIsUp, ending
from provisioner.errors import InputError
from provisioner.options import PlanOptions, spelled
from provisioner.options.command import command_of, plan_question
from provisioner.planning.candidates import Stage, one
from provisioner.planning.designs import Design
from provisioner.planning.explain import infeasible, why_not
from provisioner.planning.formulation import CAP_OPTIONS, build
from provisioner.planning.search import RATE_TOLERANCE, SMALLEST_RATE_RPS, Best, Search, largest_rate
from provisioner.planning.setting import Setting
from provisioner.planning.solver import write_program
from provisioner.progress import Progress, Step
from provisioner.queueing.mixed_stage import LARGEST_DESCRIBED_LOAD, MixedStage
from provisioner.queueing.stages import TokenStage
from provisioner.queueing.traffic import Traffic
from provisioner.results.cluster import HasCluster, added_complexity
from provisioner.results.plan import CAPACITY, ONLY_ONE, Alternative, BatchPlan, LatencyFigure, Plan, PlanPool
from provisioner.specs.criteria import CRITERIA, ObjectiveName, Tiebreak, order
from provisioner.specs.metrics import METRICS, PREDICTED
from provisioner.specs.slo import SLO

LATE = "the time limit was reached"
METHOD = "analytic: queueing formulas (docs/explanation/queueing.md), not simulated"


def answer(setting: Setting, progress: Progress = lambda _: None) -> Plan:
    """The best plan; ``InfeasibleError`` with the binding limit and the nearest relaxations where there is none.

    Alternatives that a time limit leaves open say so.
    """
    if setting.objective == "throughput":
        return _largest_throughput(setting, progress)
    objective = setting.criterion
    search = setting.search(progress=progress)
    if setting.searching.write_lp is not None:
        write_program(build(search.parameters(setting.designs), objective), setting.searching.write_lp)
    with_sharing_designs(setting, search, progress)
    best = search.best(tuple(search.candidates), objective)
    if best is None:
        raise infeasible(setting, search)
    return plan_of_best(setting, search, best)


def plan_of_best(setting: Setting, search: Search, best: Best) -> Plan:
    """The plan of the best choice of a search, with the best of each other design beside it."""
    objective = setting.criterion

    def alternative(design: Design) -> Alternative:
        try:
            other = search.best((design,), objective)
            if other is None:
                return Alternative(design=design.name, reason=why_not(search, design))
        except TimeIsUp:
            return Alternative(design=design.name, reason=LATE)
        cluster = setting.priced(design, other.sizes, other.totals)
        return Alternative(**cluster, reason=loss(other.totals, best.totals))

    others = [alternative(design) for design in setting.designs if design != best.design]
    with ending(math.inf, anew=True):
        return plan_of(setting, setting.traffic, best, ranked(others, objective))


def with_sharing_designs(setting: Setting, search: Search, progress: Progress) -> tuple[Design, ...]:
    """Add shared-role designs if stock rules out the best choice. Return the designs added."""
    sharing, objective = setting.sharing_designs(), setting.criterion
    if not sharing:
        return ()
    best = search.best(tuple(search.candidates), objective)
    free = search.best(tuple(search.candidates), objective, replace(search.caps, stock={}))
    if free is None or (best is not None and best.totals == free.totals):
        return ()
    progress(f"stock is short: {len(sharing)} designs in which two machine types share a role")
    search.add(sharing, objective, best)
    return sharing


def ranked(alternatives: list[Alternative], objective: ObjectiveName) -> tuple[Alternative, ...]:
    """Other designs in order: feasible ones as they are ranked, then those without a plan."""
    planned = sorted((other for other in alternatives if other.feasible), key=lambda other: rank(other, objective))
    return (*planned, *(other for other in alternatives if not other.feasible))


def rank(found: HasCluster, objective: ObjectiveName) -> tuple[float, ...]:
    """The criteria of a cluster in the order in which they decide with an objective, to sort by: the best is least.

    Largest throughput is followed by the order of clusters of least cost.
    """
    names = order("cost" if objective == "throughput" else objective)
    throughput = (-amount(found, objective),) if objective == "throughput" else ()
    return comparable((*throughput, *(amount(found, name) for name in names)))


def amount(found: HasCluster, name: ObjectiveName | Tiebreak) -> float:
    """The value of a criterion of a result that has a plan."""
    return float(found.cluster.complexity if name == "complexity" else getattr(found, CRITERIA[name].field))


def comparable(values: Iterable[float]) -> tuple[float, ...]:
    """Totals to nine digits: sums of the same prices in another order are equal."""
    return tuple(float(f"{value:.9g}") for value in values)


def loss(totals: Mapping[Tiebreak, float], best: Mapping[Tiebreak, float]) -> str:
    """The amount by which a design loses in the first criterion that differs, beside the same objective, the first."""
    objective = next(iter(best))
    for criterion, least in best.items():
        same, ratio = "" if criterion == objective else f"same {objective}, ", totals[criterion] / least
        if abs(ratio - 1.0) > 1e-9 and criterion == "complexity":
            return same + added_complexity(totals[criterion], least)
        if abs(ratio - 1.0) > 1e-9:
            return f"{same}{100.0 * (ratio - 1.0):.1f} % more {criterion}"
    return "equal in every criterion; less slack"


def _largest_throughput(setting: Setting, progress: Progress) -> Plan:
    """Throughput as the objective: for each design the largest rate that the limits allow, then the largest of all."""
    refuse_throughput(setting)
    results: list[tuple[float, Best]] = []
    others: list[Alternative] = []
    for position, design in enumerate(setting.designs):
        here = f"largest rate of {design.name} ({position + 1} of {len(setting.designs)})"
        progress(Step(here, position, len(setting.designs)))
        start = max((rate for rate, _ in results), default=setting.traffic.peak_rps)
        result = largest_by_formulas(setting, (design,), start)
        if result is not None:
            results.append(result)
        else:
            others.append(Alternative(design=design.name, reason="no rate is feasible"))
    sharing = setting.sharing_designs()
    if sharing and results:
        progress(f"largest rate of {len(sharing)} designs in which two machine types share a role")
        start = max(rate for rate, _ in results) * (1.0 + 2.0 * RATE_TOLERANCE)
        more = largest_by_formulas(setting, sharing, start)
        results += [more] if more is not None else []
    if not results:
        # At next to no load, what the limits would have to be for any rate at all.
        raise infeasible(setting, setting.search(setting.traffic_at(SMALLEST_RATE_RPS)))
    results.sort(key=lambda pair: comparable((-pair[0], *pair[1].totals.values())))
    rate, best = results[0]
    for less, other in results[1:]:
        reason = f"{100.0 * (1.0 - less / rate):.1f} % less throughput"
        cluster = setting.priced(other.design, other.sizes, other.totals)
        others.append(Alternative(**cluster, rate_rps=less, reason=reason))
    at = setting.at(rate)
    return plan_of(at, at.traffic, best, ranked(others, "throughput"))


def largest_by_formulas(
    setting: Setting, designs: tuple[Design, ...], start_rps: float, tolerance: float = RATE_TOLERANCE
) -> tuple[float, Best] | None:
    """The largest rate of some designs by the formulas, and the cheapest choice at it; None if none is feasible.

    Designs in which two types share a role have to be feasible at the start.
    """
    shared = any(design.shares_role for design in designs)
    found: dict[float, Best] = {}

    def feasible_at(rate_rps: float) -> bool:
        search = setting.search(setting.traffic_at(rate_rps), () if shared else designs)
        if shared:
            search.add(designs, "cost", None)
        best = search.best(designs, "cost")
        if best is not None:
            found[rate_rps] = best
        return best is not None

    if shared and not feasible_at(start_rps):
        return None
    rate, _ = largest_rate(feasible_at, start_rps, tolerance)
    return (rate, found[rate]) if rate > 0.0 else None


def refuse_throughput(setting: Setting) -> None:
    """Refuse to look for the largest rate if a program is to be written, or some design may grow without end."""
    caps, objective = setting.caps, spelled("objective")
    if setting.searching.write_lp is not None:
        raise InputError(
            f"{spelled('write_lp')}: {objective} throughput solves many programs; write the one of {objective} cost"
        )
    for design in () if caps.given else setting.designs:
        if not any(slot.machine.name in caps.stock for slot in design.slots):
            more = f", which takes none of the machines in {spelled('stock')}" if caps.stock else ""
            raise InputError(
                f"{objective} throughput: is unbounded for {design.name}{more}; give "
                f"{', '.join(map(spelled, CAP_OPTIONS.values()))} or {spelled('stock')} of every machine"
            )


def plan_of(setting: Setting, traffic: Traffic, best: Best, alternatives: tuple[Alternative, ...]) -> Plan:
    """Assemble the plan: pools, percentiles, binding limits, and the evidence."""
    extrapolated = [_extrapolation(stage, size) for stage, size in zip(best.latency.stages, best.sizes, strict=True)]
    pools = tuple(
        PlanPool(
            **asdict(pool),
            utilization=float(stage.load(one(size))[0]),
            cost_usd_per_h=size * setting.prices.cost_usd_per_h[pool.machine],
            power_w=size * setting.prices.power_w[pool.machine],
            binding=_binding(setting, best, position),
            mean_batch=_mean_batch(stage, size),
            link_load=float(stage.link_load(one(size))[0]) if isinstance(stage, TokenStage) else None,
            extrapolated=tuple(extrapolated[position]),
            curves=" and ".join(stage.perf.curve.provenance),
        )
        for position, (pool, size, stage) in enumerate(
            zip(setting.pools(best.design, best.sizes), best.sizes, best.latency.stages, strict=True)
        )
    )
    c, job, rate_rps = traffic.classes, setting.job, setting.rate_rps
    output = float(np.sum(c.weight * c.output_tokens))
    tokens = output + float(np.sum(c.weight * c.prompt_tokens))
    cost = best.totals["cost"]
    mean_rps = rate_rps * traffic.mean_rps / traffic.peak_rps  # a trace is planned at its peak and paid for all along
    question = plan_question(setting.question, rate_rps)
    return Plan(
        design=best.design.name,
        pools=pools,
        objective=setting.objective,
        rate_rps=rate_rps,
        planned_rate_rps=traffic.peak_rps,
        cost_usd_per_h=cost,
        cost_usd_per_million_tokens=cost / (mean_rps * 3600.0 * tokens) * 1e6,
        cost_usd_per_million_output_tokens=cost / (mean_rps * 3600.0 * output) * 1e6,
        power_w=best.totals["power"],
        latency=_latency(best, setting.slo, pools),
        alternatives=alternatives,
        warnings=(*setting.warnings, *_beyond(pools, extrapolated)),
        question=question,
        command=command_of("plan", question, PlanOptions),
        method=METHOD,
        solver=setting.searching.solver,
        gap=0.0,
        **setting.rests_on,
        batch=None if job is None else BatchPlan(job.requests, job.within_s, job.rate_rps, job.feed_s),
    )


def _latency(best: Best, slo: SLO, pools: Sequence[PlanPool]) -> tuple[LatencyFigure, ...]:
    """The predicted percentiles beside their limits."""

    least: dict[tuple[str, str], float] = {}

    def predicted(metric: str, percentile: float) -> LatencyFigure:
        share, limit = percentile / 100.0, slo.limit_on(metric, percentile)
        values = {kind: best.latency.percentile(metric, share, kind, best.sizes) for kind in ("seconds", "slowdown")}
        if limit is not None and best.latency.meets(limit, best.sizes):
            values[limit.kind] = min(values[limit.kind], limit.value)  # the percentile is found to 1e-4 from above
        for kind in values:  # as are higher ones, which are no less
            values[kind] = least[metric, kind] = min(values[kind], least.get((metric, kind), np.inf))
        return figure(metric, percentile, slo, pools, **values)

    rising = [each for each in slo.figures(PREDICTED) if METRICS[each[0]].by_formulas]
    return tuple(predicted(*each) for each in reversed(rising))[::-1]


def figure(metric: str, percentile: float, slo: SLO, pools: Sequence[PlanPool], **values: Any) -> LatencyFigure:
    """A percentile with its values beside its limit; the pools tell whether that binds, and what is extrapolated."""
    limit, stage = slo.limit_on(metric, percentile), METRICS[metric].stage
    return LatencyFigure(
        metric,
        percentile,
        limit=limit,
        binding=limit is not None and any(limit.label in pool.binding for pool in pools),
        extrapolated=any(stage in ("both", phase) for pool in pools for phase in pool.extrapolated),
        **values,
    )


def _binding(setting: Setting, best: Best, position: int) -> tuple[str, ...]:
    """The limits, by name, that break if one pool loses a machine, or its capacity."""
    sizes = tuple(size - (i == position) for i, size in enumerate(best.sizes))
    if sizes[position] == 0:
        return (ONLY_ONE,)
    if not best.latency.stable(sizes):
        return (CAPACITY,)
    return tuple(limit.label for limit in setting.predicted.limits if not best.latency.meets(limit, sizes))


def _mean_batch(stage: Stage, size: int) -> float | None:
    if isinstance(stage, TokenStage):
        return float(max(pool.mean_batch[0] for pool in stage.pools(one(size))))
    if isinstance(stage, MixedStage):
        return float(max(load.tokens.mean_batch[0] for load in stage.pools(one(size))))
    return None


def _extrapolation(stage: Stage, size: int) -> dict[str, str]:
    """The phases whose curve is continued beyond its measurements in a pool, each with the reason."""
    reasons = {}
    if not isinstance(stage, TokenStage):
        c, longest = stage.traffic.classes, stage.perf.curve.prompt_range_tokens[1]
        beyond = float(c.weight[c.prompt_tokens > longest].sum())
        if beyond > 0.0:
            reasons["prompt"] = (
                f"{beyond:.2%} of its prompts are longer than those measured (up to {longest:,.0f} tokens)"
            )
    batch, largest = _mean_batch(stage, size), stage.perf.curve.decode_batch_range[1]
    if batch is not None and batch > largest:
        reasons["token"] = f"its decode batches of {batch:.0f} on average are beyond the largest measured ({largest})"
    return reasons


def _beyond(pools: Sequence[PlanPool], extrapolated: Sequence[Mapping[str, str]]) -> tuple[str, ...]:
    """Warnings on parts of the plan beyond the measurements or the model, one line each."""
    notes = []
    for pool, reasons in zip(pools, extrapolated, strict=True):
        notes += [
            f"{pool.role} pool: {reason}; their latency is extrapolated (its error: provision curves {pool.machine})"
            for reason in reasons.values()
        ]
        if pool.role == "mixed" and pool.utilization > LARGEST_DESCRIBED_LOAD:
            notes.append(
                f"mixed pool: its load of {pool.utilization:.0%} is beyond the {LARGEST_DESCRIBED_LOAD:.0%} up to "
                "which the formulas describe mixed batching, so no latency is predicted for it"
            )
        if pool.link_load is not None and pool.link_load > 0.5:
            notes.append(
                f"token pool: KV caches arriving take {pool.link_load:.0%} of its links' bandwidth; the formulas have "
                "them slow each other down on average, not at their worst"
            )
    return tuple(notes)

"""An independent look at a finished plan: every limit recomputed from the specs, none read from the candidates."""

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import numpy as np
from numpy.typing import NDArray

from provisioner.deadline import ending
from provisioner.perf.memory import kv_bytes_per_token, memory_bytes
from provisioner.planning.setting import Setting
from provisioner.queueing.mixed_stage import MixedStage
from provisioner.queueing.stages import PromptStage, SplitLatency, TokenStage
from provisioner.queueing.traffic import Traffic
from provisioner.results.plan import Plan, PlanPool

Sizes = NDArray[np.int64]

_ROUNDING = 1e-9  # totals of a few dozen terms, in double precision
# A queue evaluated for one size rests on another numerical grid than for all sizes at once; shares of requests then
# differ by a few 1e-4 near the median and by less than 1e-4 at the limits (tested, to a CV of 6); a share further
# beyond its limit than this is a violation.
_GRID = 5e-4
_BISECTION = 2e-4  # percentiles are found by bisection to 1e-4

_ROLES = ({"prompt", "token"}, {"mixed"})


def check(plan: Plan, setting: Setting) -> tuple[str, ...]:
    """Violations of a plan for a question, one line each; empty where it is sound.

    Recomputed are totals, caps, stock, memory, loads, and the share of requests beyond every latency limit and reported
    percentile; of a plan verified by simulation, simulated percentiles are compared with their limits instead.
    """
    violations = [*_totals(plan, setting), *_caps(plan, setting), *_memory(plan, setting)]
    gaps = tuple(_coverage(plan, setting))
    if plan.evidence is not None:  # its latencies were simulated, not computed
        broken = [each for each in plan.latency if each.limit is not None and not each.judged <= each.limit.value]
        return (*violations, *gaps, *(f"{each.limit}: {each.judged:g} simulated" for each in broken))
    if gaps:
        return (*violations, *gaps)  # without its pools there is no latency to speak of
    latency = _Latency(plan, setting)
    return (*violations, *latency.loads(), *latency.limits(), *latency.figures())


@ending(math.inf, anew=True)
def confirmed(plan: Plan, setting: Setting) -> Plan:
    """A plan with what is not confirmed when it is recomputed among its warnings."""
    wrong = (f"not confirmed when recomputed from the specs: {each}" for each in check(plan, setting))
    return replace(plan, warnings=(*plan.warnings, *wrong))


def _differs(found: float, stated: float, tolerance: float = _ROUNDING) -> bool:
    return not abs(found - stated) <= tolerance * max(abs(found), abs(stated))


def _totals(plan: Plan, setting: Setting) -> Iterator[str]:
    """Totals and costs per token that are not what prices, power and machines make them."""
    prices, totals = setting.prices, setting.prices.totals(plan.cluster)
    traffic, classes = setting.traffic, setting.traffic.classes
    outputs = float(classes.weight @ classes.output_tokens)
    tokens = outputs + float(classes.weight @ classes.prompt_tokens)
    per_h, cost = plan.rate_rps * traffic.mean_rps / traffic.peak_rps * 3600.0, totals.cost_usd_per_h
    figures = []
    for pool in plan.pools:
        gpus = setting.replica(pool.machine, pool.tensor_parallel).machine.gpus
        of_pool = f"of the {pool.role} pool of {pool.machine}"
        figures += [
            (f"cost {of_pool}", pool.machines * prices.cost_usd_per_h[pool.machine], pool.cost_usd_per_h),
            (f"power {of_pool}", pool.machines * prices.power_w[pool.machine], pool.power_w),
            (f"replicas {of_pool}", pool.machines * (gpus // pool.tensor_parallel), pool.replicas),
        ]
    figures += [
        ("cost", cost, plan.cost_usd_per_h),
        ("power", totals.power_w, plan.power_w),
        ("cost per million tokens", 1e6 * cost / (per_h * tokens), plan.cost_usd_per_million_tokens),
        ("cost per million output tokens", 1e6 * cost / (per_h * outputs), plan.cost_usd_per_million_output_tokens),
        ("planned rate", plan.rate_rps * setting.headroom_factor, plan.planned_rate_rps),
    ]
    for name, found, stated in figures:
        if _differs(found, stated):
            yield f"{name}: {stated:g} stated, {found:g} recomputed"


def _caps(plan: Plan, setting: Setting) -> Iterator[str]:
    """Limits on cost, power, machines and stock that the plan's pools exceed."""
    caps, totals = setting.caps, setting.prices.totals(plan.cluster)
    used = {name: sum(pool.machines for pool in plan.pools if pool.machine == name) for name in caps.stock}
    for name, total, cap in (
        *((criterion, totals.of(criterion), cap) for criterion, cap in caps.given.items()),
        *((f"stock of {name}", used[name], available) for name, available in caps.stock.items()),
    ):
        if total > cap * (1.0 + 2.0 * _ROUNDING):
            yield f"{name}: {total:g} is above the limit of {cap:g}"


def _coverage(plan: Plan, setting: Setting) -> Iterator[str]:
    """Roles, prompt lengths or requests that no pool serves, or two."""
    if {pool.role for pool in plan.pools} not in _ROLES:
        yield f"roles: {', '.join(pool.role for pool in plan.pools)} do not make a design"
    for role in {pool.role for pool in plan.pools}:
        following: int | None = 1
        for pool in sorted((p for p in plan.pools if p.role == role), key=lambda p: p.min_prompt_tokens):
            if pool.machines < 1:
                yield f"{role} pool of {pool.machine}: has no machine"
            if pool.min_prompt_tokens != following:
                yield f"{role} pools: prompts from {following} tokens are served by none or by two"
            following = None if pool.max_prompt_tokens is None else pool.max_prompt_tokens + 1
        served = sum(_served(setting.traffic, pool)[1] for pool in plan.pools if pool.role == role)
        if _differs(served, 1.0):
            yield f"{role} pools: serve {served:.4%} of the requests"
        if following is not None:
            yield f"{role} pools: prompts of {following} tokens or more are served by none"


def _memory(plan: Plan, setting: Setting) -> Iterator[str]:
    """Replicas whose weights and the sequences decoded together exceed the usable HBM, or the machine's GPUs."""
    for pool in plan.pools:
        perf = setting.replica(pool.machine, pool.tensor_parallel)
        each = pool.tensor_parallel * perf.replicas_per_machine
        if each > perf.machine.gpus:
            yield f"{pool.machine}: {each} GPUs are needed of {perf.machine.gpus}"
        if plan.evidence is not None:
            continue  # the simulator counts the memory of every request; which ones a machine holds is not known here
        left = memory_bytes(perf.model, perf.machine, pool.tensor_parallel, perf.assumptions, engine=perf.engine)[
            "KV cache"
        ]
        classes = _served(setting.traffic, pool)[0].classes
        held = pool.mean_batch or 0.0
        stay = classes.weight * np.maximum(classes.output_tokens - 1.0, 0.0)
        if not stay.sum():
            stay = classes.weight
        context = float(stay @ (classes.prompt_tokens + classes.output_tokens / 2.0) / stay.sum())
        needed = held * context * kv_bytes_per_token(perf.model, perf.assumptions)
        if needed > left:
            yield f"{pool.role} pool of {pool.machine}: {needed / 1e9:.1f} GB of KV cache in {left / 1e9:.1f} GB"


def _served(traffic: Traffic, pool: PlanPool) -> tuple[Traffic, float]:
    """The requests that a pool serves, and their share."""
    classes = traffic.classes
    end = math.inf if pool.max_prompt_tokens is None else pool.max_prompt_tokens + 1.0
    inside = (classes.prompt_tokens >= pool.min_prompt_tokens) & (classes.prompt_tokens < end)
    if inside.all():
        return traffic, 1.0
    share = float(classes.weight[inside].sum())
    return traffic.restricted(inside, share), share


class _Latency:
    """Stages of a plan's pools, built afresh at their sizes."""

    def __init__(self, plan: Plan, setting: Setting) -> None:
        self.plan = plan
        self.setting = setting
        everything = setting.traffic.scaled(plan.planned_rate_rps / setting.traffic.peak_rps)
        replicas = [(pool, setting.replica(pool.machine, pool.tensor_parallel)) for pool in plan.pools]
        source = next((perf for pool, perf in replicas if pool.role == "prompt"), setting.reference.replica)
        self.parts: list[tuple[PlanPool, float, Sizes, PromptStage | TokenStage | MixedStage]] = []
        for pool, perf in replicas:
            traffic, share = _served(everything, pool)
            given, sizes = (perf, traffic, setting.reference), np.array([pool.machines], dtype=np.int64)
            if pool.role == "token":
                self.parts.append((pool, share, sizes, TokenStage(*given, source)))
            else:
                stage = PromptStage if pool.role == "prompt" else MixedStage
                self.parts.append((pool, share, sizes, stage(*given)))

    def share(self, metric: str, kind: str, value: float) -> float:
        """Share of the requests that have a metric for which it is above a value."""
        if metric == "e2e" and self.plan.cluster.splits:
            return self._end_to_end(kind, value)
        total, counted = 0.0, 0.0
        for _, share, sizes, stage in self.parts:
            if isinstance(stage, MixedStage):
                beyond = float(stage.exceedance(metric, kind, value, sizes)[0])
            elif isinstance(stage, PromptStage) == (metric == "ttft"):
                beyond = float(stage.exceedance(kind, value, sizes)[0])
            else:
                continue
            if metric == "tbt":
                classes = stage.traffic.classes
                share = share * float(classes.weight[classes.output_tokens > 1.0].sum())
            total += share * beyond
            counted += share
        return total / counted if counted else 0.0

    def _end_to_end(self, kind: str, value: float) -> float:
        total = 0.0
        for (_, first_share, sizes, first), (pool, second_share, _, second) in product(self.parts, repeat=2):
            if isinstance(first, PromptStage) and isinstance(second, TokenStage):
                both = first.traffic if first_share <= second_share else second.traffic
                pair = SplitLatency(first, second, both)
                beyond = float(pair.exceedance(kind, value, sizes, pool.machines)[0])
                total += min(first_share, second_share) * beyond
        return total

    def loads(self) -> Iterator[str]:
        """Pools that do not keep up, or whose load is not what the plan states."""
        for pool, _, sizes, stage in self.parts:
            name, load = f"{pool.role} pool of {pool.machine}", float(stage.load(sizes)[0])
            if not stage.stable(sizes)[0]:
                yield f"{name}: load {load:.3f} is not sustained by {pool.machines} machines"
            if _differs(load, pool.utilization, 1e-6):
                yield f"{name}: utilization {pool.utilization:.6f} stated, {load:.6f} recomputed"

    def limits(self) -> Iterator[str]:
        """Latency limits that more requests exceed than may."""
        for limit in self.setting.predicted.limits:
            beyond = self.share(limit.metric, limit.kind, limit.value)
            if not beyond <= 1.0 - limit.quantile + _GRID:
                yield f"{limit}: {beyond:.4%} of the requests are beyond it"

    def figures(self) -> Iterator[str]:
        """Reported percentiles that more requests exceed than a percentile allows."""
        for figure in self.plan.latency:
            allowed = 1.0 - figure.percentile / 100.0
            for kind, value in (("seconds", figure.seconds), ("slowdown", figure.slowdown)):
                if math.isinf(value):
                    continue  # nothing was predicted; a limit on it is a violation of its own
                beyond = self.share(figure.metric, kind, value * (1.0 + _BISECTION))
                if not beyond <= allowed + _GRID:
                    yield f"{figure.label}: {beyond:.4%} are above {value:g} {kind}"

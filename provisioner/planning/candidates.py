"""Candidates: for each design the pool sizes worth choosing between, with the evidence the ILP needs about them."""

import math
from bisect import bisect_left
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from provisioner.deadline import check_time
from provisioner.errors import ModelDoesNotFitError
from provisioner.perf.assumptions import Reference, ReplicaPerf
from provisioner.planning.designs import Design, ReplicaKey, Slot
from provisioner.queueing.mixed_stage import MixedStage
from provisioner.queueing.stages import PromptStage, SplitLatency, TokenStage
from provisioner.queueing.traffic import Traffic
from provisioner.specs.metrics import METRICS
from provisioner.specs.slo import SLO, LatencyLimit

Array = NDArray[np.float64]
Sizes = NDArray[np.int64]
Stage = PromptStage | TokenStage | MixedStage

# A share of requests above a limit counts as within the percentile up to this rounding of the arithmetic.
SHARE_TOLERANCE = 1e-9
_SPAN_DEVIATIONS = 8.0  # beyond the offered load plus these, queueing is negligible and more machines add nothing
_SPAN_EXTRA = 24
_MIXED_SPARE = 2.0  # a mixed pool needs about as many times the machines that its prompts keep busy: 1.5 to 2.5
_PERCENTILE_TOLERANCE = 1e-4  # percentiles are found to this relative tolerance
_SETTLED = 1e-4  # if two types share a role, a pool's sizes end when its shares are this near to the largest's
_MOST_SIZES = 64  # if the end-to-end limits decide a shared role, sizes of a pool from the first that is enough


@dataclass(frozen=True, slots=True)
class LatencyInputs:
    """The part of a question that decides latency: requests, limits, and the performance of machines."""

    traffic: Traffic
    slo: SLO
    reference: Reference
    replicas: Mapping[ReplicaKey, ReplicaPerf]
    # what designs share: traffic by prompt lengths, queues and times by slot, and pools of shared roles
    served: dict[tuple[int, int | None], tuple[Traffic, float]] = field(default_factory=dict, repr=False)
    tables: dict[Slot, dict[Hashable, Any]] = field(default_factory=dict, repr=False)
    pools: dict[tuple[Slot, ReplicaKey | None], "PoolCandidates | None"] = field(default_factory=dict, repr=False)
    most: Mapping[str, int] = field(default_factory=dict)  # machines worth considering in shared roles, by name


@dataclass(frozen=True, slots=True)
class Attainable:
    """A latency limit that no size of the pool meets, and the best that it can do."""

    limit: LatencyLimit
    best: float
    where: str


@dataclass(frozen=True, slots=True)
class PoolCandidates:
    """Sizes (K,) of one pool in machines, and the share of all requests beyond each limit at each size."""

    slot: Slot
    sizes: Sizes
    share_beyond: Mapping[LatencyLimit, Array] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Candidates:
    """One design's pools with their sizes; a cut, a size per pool, excludes all choices of at most these sizes."""

    design: Design
    pools: tuple[PoolCandidates, ...] = ()
    cuts: tuple[tuple[int, ...], ...] = ()
    unattainable: tuple[Attainable, ...] = ()
    reason: str = ""

    @property
    def feasible(self) -> bool:
        """Whether some sizes meet every latency limit that a pool decides alone, and in pairs the end-to-end ones."""
        return bool(self.pools)


class DesignLatency:
    """Latency of one design at given pool sizes: the share of requests beyond any limit, from its stages."""

    def __init__(self, question: LatencyInputs, design: Design) -> None:
        self.question = question
        self.design = design
        self._shares: dict[tuple[object, ...], float] = {}
        served = [_served(question, slot) for slot in design.slots]
        self.stages = [self._stage(slot, traffic) for slot, (traffic, _) in zip(design.slots, served, strict=True)]
        self._shares_of = [share for _, share in served]

    def _stage(self, slot: Slot, traffic: Traffic) -> Stage:
        q, tables = self.question, self.question.tables.setdefault(slot, {})
        given = q.replicas[slot.replica], traffic, q.reference
        if slot.role == "token":
            source = next(s for s in self.design.slots if s.role == "prompt")
            return TokenStage(*given, q.replicas[source.replica], tables=tables)
        return (PromptStage if slot.role == "prompt" else MixedStage)(*given, tables=tables)

    def stages_of(self, role: str) -> list[tuple[int, float]]:
        """Positions and shares of requests of the pools with a role."""
        shares = zip(self.design.slots, self._shares_of, strict=True)
        return [(i, share) for i, (slot, share) in enumerate(shares) if slot.role == role]

    def stable(self, sizes: tuple[int, ...]) -> bool:
        """Whether every pool keeps up with its load."""
        return all(bool(stage.stable(one(size))[0]) for stage, size in zip(self.stages, sizes, strict=True))

    def pool_share(self, position: int, metric: str, kind: str, value: float, sizes: Sizes) -> Array:
        """Share (N,) of all requests beyond a limit that one pool decides alone, for sizes (N,) of it."""
        stage, share = self.stages[position], self._shares_of[position]
        if metric == "tbt":  # of the requests that have one, with more than one token
            classes = self.question.traffic.classes, stage.traffic.classes
            everyone, within = (float(c.weight[c.output_tokens > 1.0].sum()) for c in classes)
            share = share * within / everyone if everyone > 0.0 else share
        if isinstance(stage, MixedStage):
            # One size at a time: the stage fixes the batch beside prompts once for all the sizes that it is given.
            each = [stage.exceedance(metric, kind, value, one(int(size)))[0] for size in sizes]
            return share * np.array(each)
        if isinstance(stage, PromptStage):
            grid, at = self._on_grid(stage, sizes)
            return share * stage.exceedance(kind, value, grid)[at]
        return share * stage.exceedance(kind, value, sizes)

    @staticmethod
    def _on_grid(stage: PromptStage, sizes: Sizes) -> tuple[Sizes, Sizes]:
        """The pool's whole span of sizes and the positions in it of some, or these alone where one is outside.

        A prompt queue's numerical grid depends on the sizes it is computed for; verdicts on a size need the same one.
        """
        low, high = span(stage)
        if sizes.size and low <= sizes.min() and sizes.max() <= high:
            return np.arange(low, high + 1, dtype=np.int64), sizes - low
        return sizes, np.arange(sizes.size, dtype=np.int64)

    def e2e_share(self, kind: str, value: float, sizes: tuple[int, ...]) -> float:
        """Share of requests beyond an E2E limit at these pool sizes, over all pairs of a prompt and a token pool."""
        total = 0.0
        for i, prompt_share in self.stages_of("prompt"):
            for j, token_share in self.stages_of("token"):
                # At most one role is shared, so the requests of a pair are those of its narrower pool.
                narrower, share = (i, prompt_share) if prompt_share < 1.0 else (j, token_share)
                prompt, token = self.stages[i], self.stages[j]
                assert isinstance(prompt, PromptStage) and isinstance(token, TokenStage)
                pair = SplitLatency(prompt, token, self.stages[narrower].traffic)
                grid, at = self._on_grid(prompt, one(sizes[i]))
                total += share * float(pair.exceedance(kind, value, grid, sizes[j])[at][0])
        return total

    def share(self, metric: str, kind: str, value: float, sizes: tuple[int, ...]) -> float:
        """Share of requests whose metric is beyond a limit at these pool sizes."""
        check_time()
        key = (metric, kind, value, sizes)
        if key not in self._shares:
            if metric == "e2e" and self.design.splits:
                result = self.e2e_share(kind, value, sizes)
            else:
                pools = self.stages_of(METRICS[metric].stage if self.design.splits else "mixed")
                result = float(sum(self.pool_share(i, metric, kind, value, one(sizes[i]))[0] for i, _ in pools))
            # A value that the numerics cannot give does not count as met.
            self._shares[key] = 1.0 if np.isnan(result) else result
        return self._shares[key]

    def meets(self, limit: LatencyLimit, sizes: tuple[int, ...]) -> bool:
        """Whether at most the allowed share of requests is beyond the limit."""
        return self.share(limit.metric, limit.kind, limit.value, sizes) <= 1.0 - limit.quantile + SHARE_TOLERANCE

    def percentile(self, metric: str, quantile: float, kind: str, sizes: tuple[int, ...]) -> float:
        """The value that the fraction ``quantile`` of requests does not exceed; inf where a pool cannot keep up.

        -inf if no request has the metric. To 1e-4 from above, by the shares that decide feasibility: false position on
        logarithms, bisecting if slow.
        """
        c = self.question.traffic.classes
        if metric == "tbt" and not np.any(c.weight[c.output_tokens > 1.0]):
            return -np.inf
        allowed = 1.0 - quantile
        low, high = 1e-4, 1.0

        def excess(value: float) -> float:
            """Logarithm of the share beyond a value over the allowed one, within -1..1; positive below the value."""
            share = self.share(metric, kind, value, sizes) / allowed
            return float(np.log(min(max(share, 1.0 / math.e), math.e)))

        at_low, at_high = 1.0, excess(high)
        while at_high > 0.0:
            low, at_low, high = high, at_high, high * 4.0
            if high > 1e7:
                return float("inf")
            at_high = excess(high)
        guess = True
        while (width := high / low) > 1.0 + _PERCENTILE_TOLERANCE:
            part = at_low / (at_low - at_high) if guess else 0.5
            # A step beyond the guess, towards the far end, so that the bracket closes from both sides.
            part += (0.5 if part < 0.5 else -0.5) * _PERCENTILE_TOLERANCE / np.log(width)
            middle = low * width ** min(max(part, 0.01), 0.99)
            at_middle = excess(middle)
            if at_middle > 0.0:
                low, at_low = middle, at_middle
            else:
                high, at_high = middle, at_middle
            guess = high / low < width**0.6
        return float(high)


def restricted(traffic: Traffic, slot: Slot) -> tuple[Traffic, float]:
    """The traffic that a pool serves and its share of all requests."""
    if slot.serves_all:
        return traffic, 1.0
    inside = slot.serves(traffic.classes.prompt_tokens)
    share = float(traffic.classes.weight[inside].sum())
    return traffic.restricted(inside, share), share


def _served(question: LatencyInputs, slot: Slot) -> tuple[Traffic, float]:
    """The traffic of a pool and its share, the same for all pools of these prompt lengths."""
    lengths = slot.min_prompt_tokens, slot.max_prompt_tokens
    if lengths not in question.served:
        question.served[lengths] = restricted(question.traffic, slot)
    return question.served[lengths]


def candidates(question: LatencyInputs, design: Design) -> Candidates:
    """The sizes worth choosing between for one design; where no size is enough, the best that any can do."""
    find = _shared if design.shares_role else _pair if design.splits else _colocated
    try:
        return find(DesignLatency(question, design))
    except ModelDoesNotFitError as error:
        return Candidates(design, reason=str(error))


def _within(shares: Array, limit: LatencyLimit) -> NDArray[np.bool_]:
    return shares <= 1.0 - limit.quantile + SHARE_TOLERANCE


def one(size: int) -> Sizes:
    """One size as an array (1,)."""
    return np.array([size], dtype=np.int64)


def span(stage: PromptStage | MixedStage) -> tuple[int, int]:
    """Sizes in machines from at most the first that keeps up to where queueing is negligible."""
    offered = stage.offered_machines
    deviations = _SPAN_DEVIATIONS * np.sqrt(max(offered, 1.0)) * max(stage.traffic.cv, 1.0)
    # The capacity of a prompt pool is in proportion to its size; batching may make it several times the offered work.
    low = int(stage.load(one(1))[0]) if isinstance(stage, PromptStage) else 1
    return max(1, low), int(np.ceil(offered + deviations)) + _SPAN_EXTRA


def token_span(stage: TokenStage) -> tuple[int, int]:
    """Sizes in machines from the first that keeps up to where every sequence runs alone."""
    alone = stage.traffic.peak_rps * stage.memory.tokens_per_request * float(stage.iteration_s(np.array(1.0)))
    per_machine = stage.perf.replicas_per_machine
    deviations = _SPAN_DEVIATIONS * np.sqrt(max(alone, 1.0)) * max(stage.traffic.cv, 1.0)
    high = int(np.ceil((alone + deviations) / per_machine)) + _SPAN_EXTRA
    first = int(np.ceil(float(stage.load(one(1))[0]) - 1e-9))
    while not stage.stable(one(max(first, 1)))[0]:
        first += 1
    return max(first, 1), max(high, first + _SPAN_EXTRA)


def first_that(holds: Callable[[int], bool], low: int, high: int, near: int) -> int | None:
    """Smallest size in low..high from which on ``holds``, taken to be monotone; None where it fails at the largest.

    Steps away from ``near`` double until they have passed it, and halving finds the rest.
    """
    if not holds(high):
        return None
    failing, enough, probe, step = low - 1, high, min(near, high - 1), 1
    while failing < probe < enough:
        if holds(probe):
            enough, probe = probe, probe - step
        else:
            failing, probe = probe, probe + step
        step *= 2
    return bisect_left(range(high + 1), True, failing + 1, enough, key=holds)


def _none(latency: DesignLatency, sizes: tuple[int, ...]) -> Candidates:
    """No candidates, since even these sizes, at which queueing is negligible, do not meet the limits."""

    def where(limit: LatencyLimit) -> str:
        """The machines of the pools that decide a limit."""
        role = METRICS[limit.metric].stage
        deciding = [slot.machine.name for slot in latency.design.slots if slot.role in (role, "mixed")]
        return " and ".join(deciding) or latency.design.name

    beyond = tuple(
        Attainable(limit, latency.percentile(limit.metric, limit.quantile, limit.kind, sizes), where(limit))
        for limit in latency.question.slo.limits
        if not latency.meets(limit, sizes)
    )
    reason = "" if beyond else "no size of its pools meets all limits"
    return Candidates(latency.design, unattainable=beyond, reason=reason)


def _colocated(latency: DesignLatency) -> Candidates:
    """One mixed pool: its smallest size that meets every limit, since a larger one costs more in every objective."""
    stage = latency.stages[0]
    assert isinstance(stage, MixedStage)
    low, high = span(stage)
    while not latency.stable((high,)):
        high *= 2

    def enough(size: int) -> bool:
        return all(latency.meets(limit, (size,)) for limit in latency.question.slo.limits)

    near = min(math.ceil(_MIXED_SPARE * stage.offered_machines), high)
    size = first_that(lambda n: latency.stable((n,)) and enough(n), low, high, near)
    if size is None:
        # More machines also thin out the prompts that interrupt tokens, so look once far beyond before giving up.
        size = first_that(enough, high, 16 * high, high)
    if size is None:
        return _none(latency, (16 * high,))
    return Candidates(latency.design, (PoolCandidates(latency.design.slots[0], one(size)),))


def _pair(latency: DesignLatency) -> Candidates:
    """A prompt and a token pool: the sizes that their own limits allow, and the staircase of the end-to-end ones."""
    question, design = latency.question, latency.design
    prompt, token = latency.stages
    assert isinstance(prompt, PromptStage) and isinstance(token, TokenStage)
    ttft, tbt, e2e = ([x for x in question.slo.limits if x.metric == name] for name in ("ttft", "tbt", "e2e"))
    low, high = span(prompt)
    token_low, token_high = token_span(token)
    prompt_sizes = np.arange(low, high + 1, dtype=np.int64)
    good = prompt.stable(prompt_sizes)
    for limit in ttft:
        good &= _within(prompt.exceedance(limit.kind, limit.value, prompt_sizes), limit)
    first_prompt = _after_last_failure(prompt_sizes, good)

    def token_enough(m: int) -> bool:
        return all(bool(_within(token.exceedance(limit.kind, limit.value, one(m)), limit)[0]) for limit in tbt)

    first_token = None if first_prompt is None else first_that(token_enough, token_low, token_high, token_low)
    if first_prompt is None or first_token is None:
        return _none(latency, (high, token_high))
    pair = SplitLatency(prompt, token, question.traffic)

    @cache
    def prompts_needed(m: int) -> int | None:
        """The fewest prompt machines that meet the end-to-end limits beside m token machines."""
        check_time()
        fits = np.ones(prompt_sizes.shape, dtype=bool)
        for limit in e2e:
            fits &= _within(pair.exceedance(limit.kind, limit.value, prompt_sizes, m), limit)
        first = _after_last_failure(prompt_sizes, fits)
        return None if first is None else max(first_prompt, first)

    stairs = [(first_token, first_prompt)]
    if e2e:
        fewest = prompts_needed(token_high)
        if fewest is None:
            return _none(latency, (high, token_high))
        start = first_that(lambda m: prompts_needed(m) is not None, first_token, token_high, first_token)
        assert start is not None
        stairs = []
        for m in range(start, token_high + 1):
            needed = prompts_needed(m)
            assert needed is not None
            stairs.append((m, min(needed, stairs[-1][1]) if stairs else needed))
            if stairs[-1][1] <= fewest:
                break
    (first_m, most_n), (last_m, least_n) = stairs[0], stairs[-1]
    sizes = np.arange(least_n, most_n + 1, dtype=np.int64), np.arange(first_m, last_m + 1, dtype=np.int64)
    cuts = tuple((n - 1, m) for (m, n), (_, after) in pairwise(stairs) if after < n)
    return Candidates(design, tuple(map(PoolCandidates, design.slots, sizes)), cuts)


def _after_last_failure(sizes: Sizes, good: NDArray[np.bool_]) -> int | None:
    """The first size from which on all are good; None where the largest is not."""
    first = int(np.max(np.flatnonzero(~good), initial=-1)) + 1
    return int(sizes[first]) if first < sizes.size else None


def _shared(latency: DesignLatency) -> Candidates:
    """Pools of which two share a role: every size that its own part allows; cuts found later have end-to-end limits."""
    pools, known = [], latency.question.pools
    for position, slot in enumerate(latency.design.slots):
        key = (slot, None if slot.role != "token" else latency.design.slots[0].replica)
        if key not in known:
            known[key] = _pool(latency, position)
        if (pool := known[key]) is None:
            return Candidates(
                latency.design, reason=f"no size of its {slot.role} pool of {slot.machine.name} is enough"
            )
        pools.append(pool)
    return Candidates(latency.design, tuple(pools))


def _pool(latency: DesignLatency, position: int) -> PoolCandidates | None:
    """One pool's sizes from the first that its own limits allow to where more machines change nothing; None without."""
    slot, stage = latency.design.slots[position], latency.stages[position]
    low, high = token_span(stage) if isinstance(stage, TokenStage) else span(stage)
    high = min(high, latency.question.most.get(slot.machine.name, high))
    if high < low:
        return None
    limits = [limit for limit in latency.question.slo.limits if slot.role in ("mixed", METRICS[limit.metric].stage)]

    def shares_at(sizes: Sizes) -> Array:
        """Shares (N, limits) beyond each limit."""
        columns = [latency.pool_share(position, x.metric, x.kind, x.value, sizes) for x in limits]
        table = np.array(columns).reshape(len(limits), sizes.size).T
        return np.where(np.isnan(table), 1.0, table)  # as in DesignLatency.share

    def enough(size: int) -> bool:
        within = (bool(_within(share, x)) for share, x in zip(shares_at(one(size))[0], limits, strict=True))
        return bool(stage.stable(one(size))[0]) and all(within)

    first = first_that(enough, low, high, low)
    if first is None:
        return None
    if slot.role != "mixed" and any(limit.metric == "e2e" for limit in latency.question.slo.limits):
        last, settled = min(high, first + _MOST_SIZES - 1), None  # the other pools decide which size is enough
    else:
        last, settled = high, shares_at(one(high))
    table = shares_at(one(first))
    while first + len(table) <= last and (settled is None or np.any(np.abs(table[-1] - settled) > _SETTLED)):
        following = first + len(table)
        table = np.vstack([table, shares_at(np.arange(following, min(following + 8, last + 1), dtype=np.int64))])
    sizes = np.arange(first, first + len(table), dtype=np.int64)
    return PoolCandidates(slot, sizes, {limit: table[:, k] for k, limit in enumerate(limits)})

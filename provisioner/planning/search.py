"""From candidates to the choice: the program over all designs, cuts found while solving, ties, the largest rate."""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import compress
from operator import and_, le, mul
from typing import Self

import numpy as np

from provisioner.deadline import check_time
from provisioner.planning.candidates import SHARE_TOLERANCE, Candidates, DesignLatency, LatencyInputs, candidates
from provisioner.planning.designs import Design
from provisioner.planning.formulation import ROUNDING, Caps, Criterion, Parameters, Prices
from provisioner.planning.solver import Point, solve
from provisioner.progress import Progress, Step
from provisioner.specs.criteria import TIES, Tiebreak
from provisioner.specs.slo import LatencyLimit

_MOST_TIES = 400  # of the ties' combinations these are enumerated at most; three shared pools have tens of thousands
# The largest rate is found to this relative tolerance.
RATE_TOLERANCE = 0.005
SMALLEST_RATE_RPS = 1e-3
_LARGEST_RATE_RPS = 1e6


@dataclass(frozen=True, slots=True)
class Best:
    """The best choice of one or several designs: the design, sizes and totals."""

    design: Design
    sizes: tuple[int, ...]
    totals: dict[Tiebreak, float]
    latency: DesignLatency


class Search:
    """Designs at one question and rate: candidates are found once and shared by every program solved."""

    def __init__(
        self,
        question: LatencyInputs,
        designs: tuple[Design, ...],
        prices: Prices,
        caps: Caps,
        solver: str,
        progress: Progress = lambda _: None,
        ties: Sequence[Tiebreak] = TIES,
    ) -> None:
        self.question = question
        self.prices = prices
        self.caps = caps
        self.solver = solver
        self.ties = ties
        self.candidates: dict[Design, Candidates] = {}
        for k, design in enumerate(designs):
            check_time()
            progress(Step(f"formulas: {k:,} of {len(designs):,} designs", k, len(designs)))
            self.candidates[design] = candidates(question, design)

    def within(self, caps: Caps) -> Self:
        """The same search, with the same candidates, within other caps."""
        other = copy(self)
        other.caps = caps
        return other

    def add(self, designs: tuple[Design, ...], objective: Criterion, best: Best | None) -> None:
        """Consider further designs, with no more machines of a type than the caps and the best so far allow."""
        also = [] if best is None else [(objective, best.totals[objective])]
        most = {name: self.caps.room(name, self.prices, *also) for name in self.prices.cost_usd_per_h}
        question = replace(self.question, most=most)
        for design in designs:
            check_time()
            self.candidates[design] = candidates(question, design)

    def parameters(self, designs: tuple[Design, ...], caps: Caps | None = None) -> Parameters:
        """The program's parameters over the feasible ones of some designs."""
        options = tuple(self.candidates[d] for d in designs if self.candidates[d].feasible)
        return Parameters(options, self.prices, self.caps if caps is None else caps)

    def best(self, designs: tuple[Design, ...], objective: Criterion, caps: Caps | None = None) -> Best | None:
        """The best choice over some designs, or None. Ties end at the largest worst-case slack."""
        while (parameters := self.parameters(designs, caps)).candidates:
            check_time()
            solved = solve(parameters, objective, self.solver, self.ties)
            if solved is None:
                return None
            choice, totals = solved
            if self._end_to_end_holds(parameters.candidates[choice.design], choice.sizes):
                return self._break_ties(parameters, choice, totals)
        return None

    def _end_to_end_holds(self, option: Candidates, sizes: tuple[int, ...]) -> bool:
        """Check the limits that the program leaves open where a role is shared; a failure becomes a cut."""
        if not (option.design.shares_role and option.design.splits):
            return True
        known = self.candidates[option.design]
        if any(all(map(le, sizes, cut)) for cut in known.cuts):
            return False
        latency = DesignLatency(self.question, option.design)
        for limit in self.question.slo.limits:
            if limit.metric == "e2e" and not latency.meets(limit, sizes):
                cut = self._lifted(known, latency, limit, sizes)
                self.candidates[option.design] = replace(known, cuts=(*known.cuts, cut))
                return False
        return True

    @staticmethod
    def _lifted(
        option: Candidates, latency: DesignLatency, limit: LatencyLimit, sizes: tuple[int, ...]
    ) -> tuple[int, ...]:
        """The failing sizes with one pool after the other enlarged as far as the limit still fails: a stronger cut."""
        cut = list(sizes)

        def meets(position: int, size: np.int64) -> bool:
            return latency.meets(limit, (*cut[:position], int(size), *cut[position + 1 :]))

        for position in reversed(range(len(cut))):
            every = option.pools[position].sizes
            larger = int(np.searchsorted(every, cut[position])) + 1
            cut[position] = int(every[bisect_left(every, True, larger, key=partial(meets, position)) - 1])
        return tuple(cut)

    def _break_ties(self, parameters: Parameters, choice: Point, totals: dict[Tiebreak, float]) -> Best:
        """Among the choices with the same totals, the one with the largest worst-case slack.

        Pools' own slacks bound a pair's, so that costly end-to-end percentiles are found only while a tie could win.
        """
        ties = [
            (option, sizes)
            for option in parameters.candidates
            for sizes in _with_totals(option, parameters, totals)
            if self._end_to_end_holds(option, sizes)
        ]
        first = (parameters.candidates[choice.design], choice.sizes)
        ties = ties[:_MOST_TIES] or [first]
        limits = self.question.slo.limits
        own, pairs = ([x for x in limits if (x.metric == "e2e") == both] for both in (False, True))
        latencies = {option.design: DesignLatency(self.question, option.design) for option, _ in ties}
        option, sizes = first if first in ties else ties[0]
        if len(ties) > 1 and limits:
            bounds = [_worst_slack(latencies[each.design], own, at) for each, at in ties]
            by_bound = sorted(zip(bounds, ties, strict=True), key=lambda pair: -pair[0])
            best_slack, (option, sizes) = -np.inf, by_bound[0][1]
            for bound, (each, at) in by_bound:
                if bound <= best_slack:
                    break
                slack = min(bound, _worst_slack(latencies[each.design], pairs, at))
                if slack > best_slack + 1e-6:
                    best_slack, option, sizes = slack, each, at
        return Best(option.design, sizes, totals, latencies[option.design])


def _worst_slack(latency: DesignLatency, limits: list[LatencyLimit], sizes: tuple[int, ...]) -> float:
    slacks = [
        1.0 - latency.percentile(limit.metric, limit.quantile, limit.kind, sizes) / limit.value for limit in limits
    ]
    return min(slacks, default=np.inf)


def _with_totals(option: Candidates, parameters: Parameters, totals: Mapping[Tiebreak, float]) -> list[tuple[int, ...]]:
    """Every choice of sizes of one design with exactly these totals that satisfies the program's rows."""
    axes = np.ix_(*(pool.sizes for pool in option.pools))
    machines = [pool.slot.machine.name for pool in option.pools]
    keep = np.ones([pool.sizes.size for pool in option.pools], dtype=bool)
    for criterion, value in totals.items():
        if criterion == "complexity":
            keep &= option.design.complexity == value
            continue
        prices = [parameters.prices.of(criterion, machine) for machine in machines]
        keep &= np.abs(sum(map(mul, axes, prices)) - value) <= max(abs(value), 1.0) * 2.0 * ROUNDING
    for cut in option.cuts:
        keep &= ~reduce(and_, map(le, axes, cut))
    for name, available in parameters.caps.stock.items():
        keep &= sum(compress(axes, [machine == name for machine in machines])) <= available
    for role, limit in {(pool.slot.role, limit) for pool in option.pools for limit in pool.share_beyond}:
        shares = [
            pool.share_beyond[limit] if pool.slot.role == role else np.zeros(pool.sizes.size) for pool in option.pools
        ]
        keep &= sum(np.ix_(*shares)) <= 1.0 - limit.quantile + SHARE_TOLERANCE
    return [tuple(int(pool.sizes[i]) for pool, i in zip(option.pools, at, strict=True)) for at in np.argwhere(keep)]


def largest_rate(
    feasible_at: Callable[[float], bool],
    start_rps: float,
    tolerance: float = RATE_TOLERANCE,
    growth: float = 2.0,
    smallest_rps: float = SMALLEST_RATE_RPS,
) -> tuple[float, float]:
    """The largest feasible rate below the first failure found, and that failure, to a relative tolerance.

    ``growth`` is the first step from the start, small for a near one; each is the square of the one before until they
    double. (0, rate) where no rate from ``smallest_rps`` on is feasible.
    """
    low, high, step = 0.0, start_rps, growth
    while feasible_at(high):
        low, high, step = high, high * step, min(step * step, 2.0)
        if high > _LARGEST_RATE_RPS:
            return low, high
    while low == 0.0:
        if high <= smallest_rps:
            return 0.0, high
        less, step = max(high / step, smallest_rps), min(step * step, 2.0)
        low, high = (less, high) if feasible_at(less) else (low, less)
    while high / low > 1.0 + tolerance:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if feasible_at(middle) else (low, middle)
    return low, high

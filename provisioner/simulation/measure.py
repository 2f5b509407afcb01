"""Measures of a run's timestamps: percentiles, intervals over request sets, verdicts, stability."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from operator import le, lt
from statistics import fmean
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from provisioner.errors import UnknownNameError
from provisioner.options.defaults import CONFIDENCE
from provisioner.results.simulation import Interval, Verdict
from provisioner.specs.metrics import METRICS

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Latencies:
    """Timestamps of one run, in s, and each request's times alone on the reference; arrays (n,).

    ``first_s``, ``last_s`` and ``largest_gap_s`` of a request left unfinished are NaN: its latency is infinite, and a
    percentile that reaches it is infinite too. ``tbt_divisor`` is ``perf.assumptions.tbt_divisor``, ``counted`` marks
    the measured requests. References are NaN if there is no reference.
    """

    arrival_s: Floats
    first_s: Floats
    last_s: Floats
    largest_gap_s: Floats
    output_tokens: NDArray[np.int64]
    tbt_divisor: Floats
    reference_ttft_s: Floats
    reference_tbt_s: Floats
    reference_e2e_s: Floats
    counted: NDArray[np.bool_]

    def both(self, metric: str) -> tuple[Floats, Floats]:
        """Metric of the measured requests that have it, in s and as a slowdown.

        TTFT = first - arrival, E2E = last - arrival, TBT = (last - first) / divisor. Left out are a TBT with a divisor
        of 0, and the largest gap of a request with one output token. A slowdown is over the request's own value alone
        on the reference; the largest gap is over the reference's TBT.
        """
        has = self.counted
        if metric == "ttft":
            until, since, reference = self.first_s, self.arrival_s, self.reference_ttft_s
        elif metric == "e2e":
            until, since, reference = self.last_s, self.arrival_s, self.reference_e2e_s
        elif metric == "tbt":
            has = has & (self.tbt_divisor > 0.0)
            until, since, reference = self.last_s, self.first_s, self.reference_tbt_s
        elif metric == "gap":
            has = has & (self.output_tokens > 1)
            until = np.where(np.isnan(self.last_s), np.nan, self.largest_gap_s)  # an unfinished one may have had gaps
            since, reference = np.zeros(1), self.reference_tbt_s
        else:
            raise UnknownNameError("metric", metric, METRICS)
        times = until - since
        if not has.all():
            times, reference = times[has], reference[has]
        if metric == "tbt":
            times = times / self.tbt_divisor[has]
        times = np.where(np.isnan(times), np.inf, times)
        return times, times / reference


def percentiles(values: ArrayLike, of: Sequence[float]) -> tuple[float, ...]:
    """Percentiles (0..100) of values, interpolated linearly between ranks as ``np.percentile`` does.

    Infinite values are ranked: a percentile at or beyond them is inf. The result is -inf without any value, since
    nothing exceeds a limit then, and NaN if a value is NaN. All percentiles of one call cost one partial sort.

    >>> percentiles([4.0, 1.0, 3.0, 2.0], (0, 50, 90))
    (1.0, 2.5, 3.7)
    >>> percentiles([1.0, 2.0, float("inf")], (50, 51))
    (2.0, inf)
    """
    for each in of:
        if not 0.0 <= each <= 100.0:
            raise ValueError(f"percentile must be 0 to 100, got {each}")
    array = np.asarray(values, dtype=np.float64)
    if not array.size or math.isnan(array.max()):
        return (math.nan if array.size else -math.inf,) * len(of)
    last = array.size - 1
    rank = last * (np.asarray(of, dtype=np.float64) / 100.0)
    # a rank that misses a whole number by rounding alone must not reach for the next value, which may be inf
    rank = np.where(np.abs(rank - np.rint(rank)) <= 1e-15 * rank, np.rint(rank), rank)
    below = rank.astype(np.int64)
    above = np.minimum(below + 1, last)
    array = np.partition(array, np.unique([below, above]))
    low, high, share = array[below], array[above], rank - below
    with np.errstate(invalid="ignore"):
        between = np.where(share < 0.5, low + (high - low) * share, high - (high - low) * (1.0 - share))
    result = np.where((share == 0.0) | (low == high), low, np.where(np.isinf(high), high, between))
    return tuple(result.tolist())


def student_t(probability: float, freedom: int) -> float:
    """Quantile of Student's t distribution with ``freedom`` degrees of freedom.

    >>> round(student_t(0.975, 4), 3), round(student_t(0.95, 4), 3)
    (2.776, 2.132)
    """
    from scipy.special import stdtrit

    return float(stdtrit(freedom, probability))


def _mean_and_error(values: Sequence[float], probability: float) -> tuple[float, float]:
    """Mean over the R sets in which some request has the metric, and t s / sqrt(R) at a probability; NaN with one."""
    if not values:
        raise ValueError("no request set")
    known = [float(value) for value in values if value != -math.inf]
    if not known:
        return -math.inf, math.nan
    if not all(map(math.isfinite, known)):
        return math.fsum(known), math.nan
    # the mean of equal values must be that value to the last digit: a limit is met at equality
    mean = min(max(fmean(known), min(known)), max(known))
    if len(known) == 1:
        return mean, math.nan
    variance = math.fsum((value - mean) ** 2 for value in known) / (len(known) - 1)
    return mean, student_t(probability, len(known) - 1) * math.sqrt(variance / len(known))


def interval(values: Sequence[float], confidence: float = CONFIDENCE) -> Interval:
    """Mean over request sets with a two-sided Student t interval, mean +- t s / sqrt(R).

    There are no bounds for one set, or if the mean is not finite. Sets in which no request has the metric (-inf)
    are left out, unless all sets are such.

    >>> i = interval([1.0, 2.0, 3.0])
    >>> i.mean, round(i.low, 3), round(i.high, 3)
    (2.0, -0.484, 4.484)
    """
    mean, half = _mean_and_error(values, 0.5 + confidence / 2.0)
    low, high = (None, None) if math.isnan(half) else (mean - half, mean + half)
    return Interval(mean, low, high, tuple(map(float, values)))


def verdict(limit: float, values: Sequence[float], strict: bool = False, confidence: float = CONFIDENCE) -> Verdict:
    """Whether a percentile is within its limit, from its value in each request set.

    A value meets the limit if it is at most the limit (below it if ``strict``). One set: pass if its value meets the
    limit, else fail. Several: pass if the one-sided upper confidence bound of the mean, mean + t s / sqrt(R), meets
    it; fail if the mean does not; undecided between. A value of inf fails, NaN is undecided, and -inf (no request has
    the metric) leaves the set out.

    >>> verdict(6.0, [5.0]), verdict(6.0, [5.8, 5.9, 6.0, 6.1, 5.9]), verdict(6.0, [5.0, 5.1, 5.2])
    ('pass', 'undecided', 'pass')
    """
    mean, error = _mean_and_error(values, confidence)
    meets = lt if strict else le
    if math.isnan(mean):
        return "undecided"
    if not meets(mean, limit):
        return "fail"
    return "pass" if math.isnan(error) or meets(mean + error, limit) else "undecided"


MAX_GROWTH: Final = 0.03  # largest growth of the delay per time at which a cluster counts as stable, in s/s
MIN_BACKLOG_REQUESTS: Final = 10.0  # least growth of an unstable backlog over the window, in requests: fewer are chance
MIN_WINDOW: Final = 5.0  # shortest window for judging growth, in mean E2E of requests alone: batches fill first
CLEAR_GROWTH: Final = 0.3  # growth from the k-th arrival to the k-th completion, in s/s, that no order explains
FILLING: Final = 0.1  # share of the arrivals' time at its start that is left out: the cluster is filling


@dataclass(frozen=True, slots=True)
class Backlog:
    """Growth of the backlog of work while requests of one set arrived.

    ``growth`` is the growth of a request's delay per time, in s/s: 0 in a steady state, and rho - 1 for a cluster that
    is offered rho times its capacity. ``requests`` is the growth of the backlog over the window: growth x requests
    that arrived in it, by Little's law. ``judged`` is False if the arrivals took too short a time to judge;
    growth is then 0. ``in_system_at_end`` counts the requests in the cluster right after the last arrival.
    """

    growth: float
    requests: float
    in_system_at_end: int
    unfinished: int
    arrived: int
    judged: bool


def backlog(latencies: Latencies, closed_loop: bool = False) -> Backlog:
    """Growth of the backlog over the measured window of a run, less the first tenth of the arrivals' time.

    Growth is the coefficient of arrival time in a least-squares fit of E2E on arrival time and output tokens; the
    tokens remove the cost of longer answers, which is most of the scatter. A backlog that is served youngest first
    hides from this fit. So if the time from the k-th arrival to the k-th completion, which no order of service changes,
    grows by more than ``CLEAR_GROWTH``, the larger of the two counts. Not judged: a window below ``MIN_WINDOW`` mean
    reference E2E's, fewer than 3 requests, and a closed loop, in which no backlog can grow.
    """
    arrival_s, last_s = latencies.arrival_s, latencies.last_s
    start_s, end_s = float(arrival_s.min()), float(arrival_s.max())
    unfinished = int(np.count_nonzero(np.isnan(last_s)))
    in_system = int(np.count_nonzero(~(last_s <= end_s)))
    filled = arrival_s >= start_s + FILLING * (end_s - start_s)
    used = latencies.counted & ~np.isnan(last_s) & filled
    arrived = int(np.count_nonzero(used))
    unknown = Backlog(0.0, 0.0, in_system, unfinished, int(arrival_s.size), judged=False)
    if closed_loop or arrived < 3:
        return unknown
    arrival = arrival_s[used]
    span_s = float(arrival[-1] - arrival[0])
    if span_s <= 0.0 or span_s < MIN_WINDOW * float(latencies.reference_e2e_s[used].mean()):
        return unknown
    e2e, output = last_s[used] - arrival, latencies.output_tokens[used].astype(np.float64)
    arrival, e2e, output = arrival - arrival.mean(), e2e - e2e.mean(), output - output.mean()
    by_time, by_output, both = float(arrival @ arrival), float(output @ output), float(arrival @ output)
    determinant = by_time * by_output - both * both
    if determinant > 1e-9 * by_time * by_output:
        growth = (float(arrival @ e2e) * by_output - float(output @ e2e) * both) / determinant
    else:  # all outputs of one length, or growing with time: nothing to take out
        growth = float(arrival @ e2e) / by_time
    if not unfinished:
        arrival, delay = arrival_s[filled], (np.sort(last_s) - arrival_s)[filled]
        arrival, delay = arrival - arrival.mean(), delay - delay.mean()
        in_order = float(arrival @ delay) / float(arrival @ arrival)
        growth = max(growth, in_order) if in_order > CLEAR_GROWTH else growth
    return Backlog(growth, growth * arrived, in_system, unfinished, int(arrival_s.size), judged=True)


def instability(backlogs: Sequence[Backlog]) -> str:
    """Reason why a cluster is not stable, from the backlogs of its request sets; "" if it is, or if none can be judged.

    Not stable: requests left unfinished, or a delay that grows by more than ``MAX_GROWTH`` of the time and a backlog
    that grows by more than ``MIN_BACKLOG_REQUESTS``, both as means over the sets: the load offered in one set of
    2 minutes differs from the nominal load by a few per cent. Stability means that the load can be sustained; the
    latency limits judge a burst inside a long trace. docs/reference/metrics.md has the rule's error rates.

    >>> instability([Backlog(0.002, 15.0, 120, 0, 8400, True)])
    ''
    >>> instability([Backlog(0.07, 530.0, 700, 0, 8400, True)])
    'requests wait ever longer: by 7.0 % of the time that passes (at most 3 % is stable); 700 are left when ...'
    """
    unfinished = sum(each.unfinished for each in backlogs)
    if unfinished:
        return f"{unfinished:,} of {sum(each.arrived for each in backlogs):,} requests were left unfinished"
    judged = [each for each in backlogs if each.judged]
    if not judged:
        return ""
    growth = fmean(each.growth for each in judged)
    if growth <= MAX_GROWTH or fmean(each.requests for each in judged) <= MIN_BACKLOG_REQUESTS:
        return ""
    return (
        f"requests wait ever longer: by {100 * growth:.1f} % of the time that passes (at most {100 * MAX_GROWTH:g} % "
        f"is stable); {fmean(each.in_system_at_end for each in judged):,.0f} are left when the last arrives"
    )

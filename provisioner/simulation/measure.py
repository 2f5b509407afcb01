"""Measures of a run's timestamps: percentiles, intervals over request sets, verdicts."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import le, lt
from statistics import fmean
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from provisioner.errors import UnknownNameError
from provisioner.options.defaults import CONFIDENCE
from provisioner.results.simulation import Attained, Interval, Verdict
from provisioner.specs.metrics import MEASURED
from provisioner.specs.slo import Attainment, LatencyLimit

Floats = NDArray[np.float64]

_MANY: Final = 3_000  # values from which buckets take less time than a partial sort
_BUCKET_BITS: Final = 12


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
        has = self.has(metric)
        if metric == "ttft":
            until, since, reference = self.first_s, self.arrival_s, self.reference_ttft_s
        elif metric == "e2e":
            until, since, reference = self.last_s, self.arrival_s, self.reference_e2e_s
        elif metric == "tbt":
            until, since, reference = self.last_s, self.first_s, self.reference_tbt_s
        elif metric == "gap":
            until = np.where(np.isnan(self.last_s), np.nan, self.largest_gap_s)  # an unfinished one may have had gaps
            since, reference = np.zeros(1), self.reference_tbt_s
        else:
            raise UnknownNameError("metric", metric, MEASURED)
        times = until - since
        if not has.all():
            times, reference = times[has], reference[has]
        if metric == "tbt":
            times = times / self.tbt_divisor[has]
        times = np.where(np.isnan(times), np.inf, times)
        return times, times / reference

    def has(self, metric: str) -> NDArray[np.bool_]:
        """The measured requests that have a metric (n,)."""
        several = {"tbt": self.tbt_divisor > 0.0, "gap": self.output_tokens > 1}
        return self.counted & several[metric] if metric in several else self.counted

    def ratios(self, limits: Iterable[LatencyLimit]) -> Floats:
        """Largest metric over its limit of each measured request; inf if it is unfinished, 0 if it lacks them all."""
        ratios = np.where(np.isnan(self.last_s), np.inf, 0.0)
        for limit in limits:
            has, values = self.has(limit.metric), self.both(limit.metric)[limit.kind == "slowdown"]
            ratios[has] = np.maximum(ratios[has], values / limit.value)
        return ratios[self.counted]


def percentiles(values: ArrayLike, of: Sequence[float]) -> tuple[float, ...]:
    """Percentiles (0..100) of values, interpolated linearly between ranks as ``np.percentile`` does.

    Infinite values are ranked: a percentile at or beyond them is inf. The result is -inf without any value, since
    nothing exceeds a limit then, and NaN if a value is NaN. Of many values only those near a percentile are sorted.

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
    low, high = np.split(_of_ranks(array, np.concatenate([below, above])), 2)
    share = rank - below
    with np.errstate(invalid="ignore"):
        between = np.where(share < 0.5, low + (high - low) * share, high - (high - low) * (1.0 - share))
    result = np.where((share == 0.0) | (low == high), low, np.where(np.isinf(high), high, between))
    return tuple(result.tolist())


def _of_ranks(values: Floats, ranks: NDArray[np.int64]) -> Floats:
    """Values of ranks (from 0): buckets by the first bits of the values are counted, and those with a rank sorted.

    The bits of floating-point numbers from 0 are in the order of the numbers.
    """
    bits = values.view(np.int64)
    least = int(bits.min())
    if values.size < _MANY or least < 0:
        return np.partition(values, np.unique(ranks))[ranks]
    bucket = (bits - least) >> max((int(bits.max()) - least).bit_length() - _BUCKET_BITS, 0)
    counts = np.bincount(bucket)
    place = np.cumsum(counts).searchsorted(ranks, side="right")
    chosen = np.zeros(counts.size, np.bool_)
    chosen[place] = True
    left_out = np.cumsum(np.where(chosen, 0, counts))
    result: Floats = np.sort(values[chosen[bucket]])[ranks - left_out[place]]
    return result


def quantile_over_sets(values: Sequence[Floats], share: float) -> float:
    """The smallest value that at least a share of the requests do not exceed, as a mean of the shares of each set.

    -inf without any value. A set without values is left out.

    >>> quantile_over_sets([np.array([1.0, 2.0]), np.array([3.0, 4.0, 5.0, 6.0])], 0.75)
    4.0
    """
    known = [each for each in values if each.size]
    if not known:
        return -math.inf
    order = np.argsort(every := np.concatenate(known), kind="stable")
    reached = np.cumsum(np.concatenate([np.full(each.size, 1.0 / each.size) for each in known])[order]) / len(known)
    return float(every[order][min(int(np.searchsorted(reached, share - 1e-9)), every.size - 1)])


def shares_beyond(ratios: Sequence[Floats], strict: bool = False) -> list[float]:
    """The share of requests beyond a limit in each request set, from ratios to it; sets without requests left out."""
    return [float(np.mean(each >= 1.0 if strict else each > 1.0)) for each in ratios if each.size] or [0.0]


def attained(
    limit: Attainment, ratios: Sequence[Floats], strict: bool = False, confidence: float = CONFIDENCE
) -> Attained:
    """The share of requests within all limits at once, from r in each request set, with the verdict on it.

    One set: pass if its share is at least the one asked for. Several: pass if the one-sided lower confidence bound of
    the mean share, mean - t s / sqrt(R), is; fail if the mean is not; undecided between.
    """
    beyond = shares_beyond(ratios, strict)
    mean, error = _mean_and_error(beyond, confidence)
    of = interval([1.0 - each for each in beyond])
    met = verdict(round(1.0 - limit.quantile, 12), beyond, confidence=confidence)
    return Attained(limit.quantile, limit.limits, of, None if math.isnan(error) else 1.0 - mean - error, met)


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

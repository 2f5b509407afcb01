"""Latencies, percentiles, intervals and verdicts against closed forms."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from provisioner.errors import UnknownNameError
from provisioner.perf.assumptions import tbt_divisor
from provisioner.simulation.measure import Latencies, interval, percentiles, student_t, verdict

NAN, INF = math.nan, math.inf


def percentile(values: ArrayLike, of: float) -> float:
    return percentiles(values, (of,))[0]


# -- latencies of single requests


def four(assumptions: str = "measured") -> Latencies:
    """A usual request, one of a single token, one left without its last token, and one that is not measured."""
    output = np.array([5, 1, 3, 2])
    return Latencies(
        arrival_s=np.array([1.0, 2.0, 3.0, 4.0]),
        first_s=np.array([3.0, 2.5, 7.0, 5.0]),
        last_s=np.array([11.0, 2.5, NAN, 6.0]),
        largest_gap_s=np.array([4.0, NAN, 0.5, 1.0]),
        output_tokens=output,
        tbt_divisor=tbt_divisor(output, assumptions),  # type: ignore[arg-type]
        reference_ttft_s=np.array([1.0, 0.25, 2.0, 1.0]),
        reference_tbt_s=np.array([0.5, 0.5, 0.5, 0.5]),
        reference_e2e_s=np.array([4.0, 0.25, 3.0, 1.0]),
        counted=np.array([True, True, True, False]),
    )


@pytest.mark.parametrize(
    ("metric", "seconds", "slowdown"),
    [
        ("ttft", [2.0, 0.5, 4.0], [2.0, 2.0, 2.0]),
        ("tbt", [2.0, INF], [4.0, INF]),
        ("gap", [4.0, INF], [8.0, INF]),
        ("e2e", [10.0, 0.5, INF], [2.5, 2.0, INF]),
    ],
)
def test_metrics_of_single_requests(metric: str, seconds: list[float], slowdown: list[float]) -> None:
    assert four().both(metric)[0].tolist() == seconds  # type: ignore[arg-type]
    assert four().both(metric)[1].tolist() == slowdown  # type: ignore[arg-type]


def test_the_published_simulator_divides_by_all_tokens_and_counts_one() -> None:
    assert four("splitwise-sim").both("tbt")[0].tolist() == [8.0 / 5.0, 0.0, INF]
    assert four("splitwise-sim").both("gap")[0].tolist() == [4.0, INF]


def test_a_request_that_never_started_is_infinitely_late() -> None:
    never = replace(four(), first_s=np.array([3.0, NAN, 7.0, 5.0]), last_s=np.array([11.0, NAN, NAN, 6.0]))
    assert never.both("ttft")[0].tolist() == [2.0, INF, 4.0]
    assert percentile(never.both("e2e")[0], 50) == INF and percentile(never.both("ttft")[0], 50) == 4.0


def test_without_a_reference_there_is_no_slowdown() -> None:
    unknown = replace(four(), reference_ttft_s=np.full(4, NAN))
    assert percentile(unknown.both("ttft")[0], 50) == 2.0
    assert math.isnan(percentile(unknown.both("ttft")[1], 50))


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean ttft"):
        four().both("tttf")[0]  # type: ignore[arg-type]


# -- percentiles

finite = st.floats(0.0, 1e6, allow_nan=False)


@given(st.lists(finite, min_size=1, max_size=60), st.lists(st.floats(0.0, 100.0), min_size=1, max_size=5))
def test_percentiles_are_numpys(values: list[float], of: list[float]) -> None:
    assert percentiles(values, of) == pytest.approx(np.percentile(values, of).tolist(), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("n", [1, 2, 3, 100, 101, 8500, 8501])
def test_percentiles_of_many_values_are_numpys(n: int) -> None:
    values = np.random.default_rng(n).gamma(2.0, 1.0, n)
    before = values.copy()
    assert percentiles(values, (50, 90, 99)) == pytest.approx(np.percentile(values, (50, 90, 99)).tolist(), rel=1e-12)
    assert (values == before).all()


@pytest.mark.parametrize(
    "mixed_in",
    [[], [0.0], [INF], [0.0, INF, 5e-324], [1.0] * 20_000, [-1.0, -INF], [-0.0, 0.0], [1e300, 1e-300]],
    ids=str,
)
def test_percentiles_of_many_values_are_their_ranks(mixed_in: list[float]) -> None:
    """Values of all sizes, equal ones, zeros of both signs, negative and infinite ones: to the last digit."""
    rng = np.random.default_rng(7)
    values = rng.permutation(np.concatenate([rng.gamma(0.3, 1.0, 10_001 - min(len(mixed_in), 5)), mixed_in]))
    ranks = np.array([0, 1, values.size // 3, values.size // 2, values.size - 2, values.size - 1])
    of = 100.0 * ranks / (values.size - 1)
    assert percentiles(values, of.tolist()) == tuple(np.sort(values)[ranks])


@given(st.integers(1, 200), st.integers(0, 200), st.floats(0.0, 100.0))
def test_percentiles_that_reach_infinite_values_are_infinite(known: int, infinite: int, of: float) -> None:
    values = np.concatenate([np.arange(known, dtype=float), np.full(infinite, INF)])[::-1]
    rank = (values.size - 1) * of / 100.0
    seen = percentile(values, of)
    if rank <= known - 1:
        assert seen == pytest.approx(rank, abs=1e-6)
    elif rank > known - 1 + 1e-6:
        assert seen == INF


@pytest.mark.parametrize("n", range(2, 1002, 25))
def test_an_exact_rank_does_not_reach_for_an_infinite_value(n: int) -> None:
    values = np.append(np.arange(n, dtype=float), INF)  # rank n - 1 of n + 1 values is the last finite one
    assert percentile(values, 100.0 * (n - 1) / n) == n - 1


def test_percentiles_of_nothing_meet_any_limit_and_of_unknown_values_none() -> None:
    assert percentiles([], (50, 99)) == (-INF, -INF) and verdict(1.0, [percentile([], 50)]) == "pass"
    assert math.isnan(percentile([1.0, NAN, 2.0], 10)) and verdict(1.0, [NAN]) == "undecided"
    with pytest.raises(ValueError, match="0 to 100"):
        percentile([1.0], 101)


# -- intervals and verdicts


@pytest.mark.parametrize(
    ("probability", "freedom", "quantile"),
    [(0.975, 1, 12.7062), (0.975, 4, 2.7764), (0.95, 4, 2.1318), (0.95, 14, 1.7613), (0.975, 120, 1.9799)],
)
def test_student_t_quantiles_are_those_of_the_tables(probability: float, freedom: int, quantile: float) -> None:
    assert student_t(probability, freedom) == pytest.approx(quantile, abs=5e-5)


def test_an_interval_is_the_mean_and_t_standard_errors() -> None:
    seen = interval([4.0, 6.0, 5.0, 7.0, 3.0])
    half = 2.7764451 * math.sqrt(2.5 / 5)
    assert (seen.mean, seen.low, seen.high) == pytest.approx((5.0, 5.0 - half, 5.0 + half))
    assert interval([4.0, 6.0], 0.5).high == pytest.approx(5.0 + 1.0)  # t of 1 degree at 0.75 is 1


def test_an_interval_covers_the_mean_as_often_as_it_says() -> None:
    draws = np.random.default_rng(0).normal(10.0, 2.0, (4000, 5))
    covered = sum(i.low <= 10.0 <= i.high for i in map(interval, draws.tolist()))  # type: ignore[operator]
    assert covered / 4000 == pytest.approx(0.95, abs=0.012)


def test_intervals_that_cannot_be_told() -> None:
    one = interval([2.0])
    assert (one.mean, one.low, one.high, one.values) == (2.0, None, None, (2.0,))
    assert interval([1.0, INF]).mean == INF and interval([1.0, INF]).high is None
    assert math.isnan(interval([1.0, NAN]).mean)
    assert interval([-INF, 1.0, 3.0]).mean == 2.0 and interval([-INF, -INF]).mean == -INF
    with pytest.raises(ValueError, match="no request set"):
        interval([])


def test_one_set_is_compared_with_the_limit_which_is_met_at_equality() -> None:
    assert (verdict(2.0, [2.0]), verdict(2.0, [2.0], strict=True)) == ("pass", "fail")
    assert (verdict(2.0, [2.0 + 1e-12]), verdict(2.0, [2.0 - 1e-12], strict=True)) == ("fail", "pass")
    assert verdict(0.1, [0.1] * 3) == verdict(0.3, [0.3] * 7) == "pass"
    assert verdict(0.1, [0.1] * 3, strict=True) == "fail"


def test_several_sets_pass_by_their_upper_bound_and_fail_by_their_mean() -> None:
    values = [4.0, 6.0, 5.0, 7.0, 3.0]
    bound = 5.0 + 2.1318468 * math.sqrt(2.5 / 5)
    assert verdict(bound + 1e-6, values) == "pass"
    assert verdict(bound - 1e-6, values) == verdict(5.0, values) == "undecided"
    assert verdict(5.0 - 1e-9, values) == verdict(5.0, values, strict=True) == "fail"
    assert verdict(100.0, [1.0, 1.0, INF]) == verdict(100.0, [INF]) == "fail"
    assert verdict(5.0, [-INF, 4.0]) == "pass" and verdict(5.0, [-INF, 6.0]) == "fail"


def test_a_plan_whose_mean_is_at_the_limit_passes_as_often_as_the_confidence_allows() -> None:
    draws = np.random.default_rng(1).normal(10.0, 1.0, (4000, 5)).tolist()
    assert sum(verdict(10.0, row) == "pass" for row in draws) / 4000 == pytest.approx(0.05, abs=0.012)
    assert sum(verdict(10.0, row) == "fail" for row in draws) / 4000 == pytest.approx(0.5, abs=0.03)

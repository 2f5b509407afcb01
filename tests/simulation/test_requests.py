"""Request sets: rates, burstiness and lengths against their distributions, common random numbers, refusals."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.special import chdtri

from provisioner.errors import InputError
from provisioner.simulation.requests import (
    MAX_TOKENS,
    RequestSet,
    closed_loop,
    drawn,
    from_trace,
    sets,
)
from provisioner.specs import catalog
from provisioner.specs.traces import Trace
from provisioner.specs.workload import Workload, from_lengths

# prompt and output belong together: 100 goes with 10, and so on
PAIRS = {(100, 10): 0.5, (2000, 20): 0.3, (300, 400): 0.2}


def workload() -> Workload:
    rows = [pair for pair, weight in PAIRS.items() for _ in range(round(10 * weight))]
    return from_lengths("pairs", *zip(*rows, strict=True))


def trace(*arrival_s: float) -> Trace:
    n = len(arrival_s)
    return Trace("t.csv", np.array(arrival_s), np.arange(1, n + 1), np.arange(11, n + 11), "azure")


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def chi_square_is_usual(seen: np.ndarray, expected: np.ndarray) -> bool:
    """Whether the statistic is between its 0.1 % and 99.9 % quantiles."""
    statistic = float((np.square(seen - expected) / expected).sum())
    return bool(chdtri(seen.size, 0.999) < statistic < chdtri(seen.size, 0.001))


def test_poisson_arrivals_have_the_rate_and_the_scatter_of_poisson() -> None:
    made = drawn(workload(), 50.0, 400.0, rng())
    counts, _ = np.histogram(made.arrival_s, np.arange(0.0, 401.0, 2.0))
    assert chi_square_is_usual(counts, np.full(200, 100.0))
    below = np.exp(-50.0 * np.quantile(np.diff(made.arrival_s), np.linspace(0.1, 0.9, 9)))
    assert below == pytest.approx(np.linspace(0.9, 0.1, 9), abs=0.02)  # exponential gaps
    assert made.rate_rps == 50.0 and made.arrival_s[-1] <= 400.0 and made.arrival_s[0] > 0.0


@pytest.mark.parametrize("cv", [0.3, 1.0, 2.5])
def test_gaps_have_the_mean_and_the_coefficient_of_variation_asked_for(cv: float) -> None:
    gaps = np.diff(drawn(workload(), 200.0, 1000.0, rng(), cv=cv).arrival_s)
    assert gaps.mean() == pytest.approx(1 / 200.0, rel=4 * cv / math.sqrt(200_000))
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.02)
    third = np.mean(((gaps - gaps.mean()) / gaps.std()) ** 3)
    assert third == pytest.approx(2 * cv, rel=0.15)  # a Gamma distribution's skewness


@pytest.mark.parametrize(("rate", "duration", "count"), [(70.0, 120.0, 8400), (0.29, 100.0, 29), (3.0, 0.4, 1)])
def test_without_variation_arrivals_are_evenly_spaced_to_the_end(rate: float, duration: float, count: int) -> None:
    made = drawn(workload(), rate, duration, rng(), cv=0.0, warm_up=0.0)
    assert made.arrival_s == pytest.approx(np.arange(1, count + 1) / rate) and made.arrival_s[-1] <= duration


@pytest.mark.parametrize("seed", range(10))
def test_arrivals_are_a_sum_of_gaps_however_many_it_takes(seed: int) -> None:
    """With a large CV the gaps drawn at first rarely fill the time, and more must continue their sum."""
    made = drawn(workload(), 4.0, 1.0, rng(seed), cv=60.0, warm_up=0.0)
    gaps = rng(seed).spawn(2)[0].standard_gamma(1 / 3600.0, 100_000) * 3600.0 / 4.0
    times = np.cumsum(gaps)
    assert made.arrival_s == pytest.approx(times[(times > 0.0) & (times <= 1.0)], rel=1e-9)


def test_extreme_burstiness_gives_no_arrival_at_zero() -> None:
    for made in sets(lambda g: drawn(workload(), 5.0, 1e4, g, cv=30.0, warm_up=0.0), 3, 5):
        assert made.arrival_s[0] > 0.0


def test_lengths_are_drawn_as_pairs() -> None:
    made = drawn(workload(), 100.0, 100.0, rng())
    pairs = list(zip(made.prompt_tokens.tolist(), made.output_tokens.tolist(), strict=True))
    seen = np.array([pairs.count(pair) for pair in PAIRS])
    assert seen.sum() == made.requests
    assert chi_square_is_usual(seen, made.requests * np.array(list(PAIRS.values())))


def test_the_rate_follows_its_windows() -> None:
    rates = [40.0, 0.0, 10.0, 80.0]
    made = drawn(workload(), rates, 240.0, rng())
    counts, _ = np.histogram(made.arrival_s, np.arange(0.0, 241.0, 60.0))
    assert counts[1] == 0
    assert chi_square_is_usual(counts[[0, 2, 3]], 60.0 * np.array([40.0, 10.0, 80.0]))
    within, _ = np.histogram(made.arrival_s, np.arange(180.0, 241.0, 1.0))
    assert chi_square_is_usual(within, np.full(60, 80.0))
    assert made.rate_rps == 32.5 and made.from_s == pytest.approx(24.0)


def test_even_arrivals_skip_the_windows_without_any() -> None:
    made = drawn(workload(), [0.0, 1.0, 0.0, 2.0, 0.0], 10.0, rng(), cv=0.0, warm_up=0.0)
    assert made.arrival_s == pytest.approx([3.0, 4.0, 6.5, 7.0, 7.5, 8.0])


def test_equal_windows_are_one_rate() -> None:
    by_window = drawn(workload(), [30.0] * 3, 120.0, rng(5), cv=2.0)
    at_once = drawn(workload(), 30.0, 120.0, rng(5), cv=2.0)
    assert by_window.arrival_s == pytest.approx(at_once.arrival_s)
    assert (by_window.prompt_tokens == at_once.prompt_tokens).all()


def same(a: RequestSet, b: RequestSet) -> bool:
    return all(np.array_equal(getattr(a, f), getattr(b, f)) for f in ("arrival_s", "prompt_tokens", "output_tokens"))


def test_sets_are_the_same_for_a_seed_however_many_and_differ_from_each_other() -> None:
    def make(g: np.random.Generator) -> RequestSet:
        return drawn(workload(), 20.0, 30.0, g)

    three, again = sets(make, 7, 3), sets(make, 7, 2)
    assert all(same(a, b) for a, b in zip(three, again, strict=False))
    assert same(three[2], sets(make, 7, 1, first=2)[0])
    assert same(three[2], make(np.random.default_rng([7, 2])))
    assert not same(three[0], three[1]) and not same(three[0], sets(make, 8, 1)[0])


@pytest.mark.parametrize("cv", [0.5, 1.0, 3.0])
def test_another_rate_brings_the_same_requests_closer_together(cv: float) -> None:
    spread = catalog.workload("coding")  # its lengths are drawn from bins
    slow, fast = (drawn(spread, rate, 300.0, rng(2), cv=cv) for rate in (20.0, 60.0))
    n = slow.requests
    assert fast.requests > 2 * n > 8192  # more than a block of lengths
    assert fast.arrival_s[:n] * 3.0 == pytest.approx(slow.arrival_s, rel=1e-12)
    assert (fast.prompt_tokens[:n] == slow.prompt_tokens).all()
    assert (fast.output_tokens[:n] == slow.output_tokens).all()


def test_warm_up_and_cool_down_are_shares_of_the_duration() -> None:
    made = drawn(workload(), 10.0, 100.0, rng(), cv=0.0, warm_up=0.2, cool_down=0.1)
    assert made.arrival_s[made.counted].min() == 20.0 and made.arrival_s[made.counted].max() == 90.0
    assert int(made.counted.sum()) == 701


def test_a_trace_is_taken_as_it_is_and_measured_whole() -> None:
    made = from_trace(trace(5.0, 6.0, 9.0))
    assert made.arrival_s.tolist() == [5.0, 6.0, 9.0] and made.counted.all()
    assert made.prompt_tokens.tolist() == [1, 2, 3] and made.output_tokens.tolist() == [11, 12, 13]
    assert (made.from_s, made.until_s, made.rate_rps) == (0.0, math.inf, 0.5)


def test_a_trace_from_before_zero_is_shifted() -> None:
    made = from_trace(trace(-2.0, 0.0, 3.0))
    assert made.arrival_s.tolist() == [0.0, 2.0, 5.0] and made.rate_rps == 0.4


def test_warm_up_of_a_trace_starts_at_its_first_arrival() -> None:
    made = from_trace(trace(100.0, 101.0, 103.0, 107.0, 110.0), warm_up_s=2.0, cool_down_s=3.0)
    assert made.counted.tolist() == [False, False, True, True, False]


def test_requests_all_at_once_have_no_finite_rate() -> None:
    assert from_trace(trace(1.0, 1.0)).rate_rps == math.inf


def test_lengths_of_a_trace_are_its_pairs_with_replacement() -> None:
    made = drawn(trace(0.0, 1.0, 2.0, 3.0), 40.0, 50.0, rng(), cv=1.0)
    assert (made.output_tokens - made.prompt_tokens == 10).all()
    counts = np.bincount(made.prompt_tokens)[1:]
    assert chi_square_is_usual(counts, np.full(4, made.requests / 4))
    assert np.array_equal(made.arrival_s, drawn(workload(), 40.0, 50.0, rng()).arrival_s)


def test_a_closed_loop_measures_between_its_filling_and_its_draining() -> None:
    made = closed_loop(workload(), 8, 200, rng())
    assert made.in_flight == 8 and not made.arrival_s.any() and math.isnan(made.rate_rps)
    assert np.flatnonzero(made.counted).tolist() == list(range(20, 192))
    assert np.flatnonzero(closed_loop(workload(), 50, 200, rng()).counted).tolist() == list(range(50, 150))
    open_lengths = drawn(workload(), 100.0, 10.0, rng()).prompt_tokens[:200]
    assert (made.prompt_tokens == open_lengths).all()


def test_arrays_cannot_be_changed() -> None:
    given = np.array([1.0, 2.0])
    made = RequestSet(given, np.array([1, 1]), np.array([1, 1]), rate_rps=1.0)
    with pytest.raises(ValueError, match="read-only"):
        made.arrival_s[0] = 0.0
    given[0] = 0.5
    assert made.arrival_s[0] == 1.0


def requests(arrival: list[float], prompt: list[int], output: list[int], **more: Any) -> RequestSet:
    return RequestSet(np.array(arrival), np.array(prompt), np.array(output), rate_rps=1.0, **more)


REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: drawn(workload(), 0.0, 10.0, rng()), "rate: must be above 0 requests/s"),
    (lambda: drawn(workload(), math.nan, 10.0, rng()), "rate: must be a number of requests/s"),
    (lambda: drawn(workload(), 1.0, -10.0, rng()), "duration: must be above 0 s"),
    (lambda: drawn(workload(), 1.0, math.inf, rng()), "duration: must be a number of s"),
    (lambda: drawn(workload(), 1.0, 10.0, rng(), cv=-1.0), "cv: must be 0 or more"),
    (lambda: drawn(workload(), 1.0, 10.0, rng(), warm_up=0.5, cool_down=0.5), "must leave a part to measure"),
    (lambda: drawn(workload(), 0.01, 1.0, rng()), "no request arrives in that time"),
    (
        lambda: drawn(workload(), 1.0, 10.0, rng(), cv=0.0, warm_up=0.91, cool_down=0.08),
        "no request is in the measured",
    ),
    (lambda: drawn(workload(), 1e6, 1e6, rng()), "1,000,000,000,000 requests would take about 150,000.0 GB of memory"),
    (lambda: drawn(workload(), [0.0, 0.0], 120.0, rng()), "at least one window must have a rate above 0"),
    (lambda: drawn(workload(), [], 120.0, rng()), "at least one window"),
    (lambda: drawn(workload(), [1.0, -1.0], 120.0, rng()), "rate of window 2: must be 0 requests/s or more"),
    (lambda: closed_loop(workload(), 0, 100, rng()), "requests in flight: must be a whole number"),
    (lambda: closed_loop(workload(), 10, 20, rng()), "more than 20 are needed"),
    (lambda: closed_loop(workload(), 10, 30_000_000, rng()), "30,000,000 requests would take about 19.2 GB"),
    (lambda: from_trace(trace(1.0, 2.0), warm_up_s=5.0), "no request is in the measured window (6 s to inf s)"),
    (lambda: from_trace(trace(1.0, 2.0), warm_up_s=math.nan), "warm-up: must be a number of s"),
    (lambda: from_trace(trace()), "t.csv: holds no requests"),
    (lambda: sets(lambda g: drawn(workload(), 1.0, 10.0, g), -1, 2), "seed: must be a whole number"),
    (lambda: sets(lambda g: drawn(workload(), 1.0, 10.0, g), 1, 0), "request sets: must be a whole number"),
    (lambda: requests([], [], []), "there are none"),
    (lambda: requests([1.0, 2.0], [1], [1]), "differ in length"),
    (lambda: requests([2.0, 1.0], [1, 1], [1, 1]), "request 2 arrives at 1 s after 2 s"),
    (lambda: requests([-1.0], [1], [1]), "0 s or later"),
    (lambda: requests([math.nan], [1], [1]), "must be finite"),
    (lambda: requests([1.0], [1], [0]), "request 1: output tokens must be 1 to"),
    (lambda: requests([1.0], [MAX_TOKENS + 1], [1]), "request 1: prompt tokens must be 1 to"),
]


@pytest.mark.parametrize(("make", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_cannot_be_simulated_is_refused_in_one_line(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        make()
    assert "\n" not in str(caught.value)

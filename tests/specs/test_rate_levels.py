import numpy as np
import pytest

from provisioner.specs.rate_levels import rate_levels


def test_a_steady_poisson_trace_is_about_one_window_of_cv_one() -> None:
    rng = np.random.default_rng(3)
    windows, cv = rate_levels(np.cumsum(rng.exponential(1.0 / 20.0, 24_000)))
    assert sum(share for _, share in windows) == pytest.approx(1.0)
    assert len(windows) <= 2
    assert all(rate == pytest.approx(20.0, rel=0.12) for rate, _ in windows)
    assert cv == pytest.approx(1.0, abs=0.06)


def test_a_trace_with_a_busy_half_has_windows_of_both_rates() -> None:
    rng = np.random.default_rng(4)
    slow, busy = np.cumsum(rng.exponential(0.2, 3000)), np.cumsum(rng.exponential(0.02, 30_000))
    windows = rate_levels(np.concatenate((slow, slow[-1] + busy)))[0]
    assert windows[0][0] == pytest.approx(5.0, rel=0.1)
    assert windows[-1][0] == pytest.approx(50.0, rel=0.1)
    assert windows[-1][1] == pytest.approx(30 / 33, rel=0.1)


def test_bursts_within_the_minute_raise_the_cv() -> None:
    rng = np.random.default_rng(5)
    bursts = np.sort(rng.uniform(0.0, 1200.0, 2400))
    cv = rate_levels(np.sort(np.repeat(bursts, 9)))[1]  # nine requests at once
    assert cv == pytest.approx(3.0, rel=0.1)


def test_regular_arrivals_count_as_poisson() -> None:
    assert rate_levels(np.arange(0.0, 600.0, 0.1))[1] == 1.0

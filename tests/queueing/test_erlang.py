import math

import numpy as np
import pytest

from provisioner.queueing.erlang import erlang_b, peakedness


def blocking(servers: int, load: float) -> float:
    terms = [load**k / math.factorial(k) for k in range(servers + 1)]
    return terms[-1] / sum(terms)


@pytest.mark.parametrize("servers", [1, 2, 5, 20, 60])
@pytest.mark.parametrize("rho", [0.1, 0.6, 0.95, 1.3])
def test_erlang_b_is_the_sum_over_states(servers: int, rho: float) -> None:
    load = rho * servers
    assert float(erlang_b(servers, load)) == pytest.approx(blocking(servers, load), rel=1e-9)


def test_erlang_b_between_whole_servers_satisfies_the_recursion() -> None:
    for c in (0.3, 1.7, 12.5):
        before = float(erlang_b(c, 3.0))
        assert float(erlang_b(c + 1, 3.0)) == pytest.approx(3.0 * before / (c + 1 + 3.0 * before), rel=1e-8)


def test_far_overload_and_no_load() -> None:
    assert float(erlang_b(100, 1e6)) == pytest.approx(1.0, abs=2e-4)
    assert float(erlang_b(3, 0.0)) == 0.0


def test_peakedness_of_exponential_service_is_the_mean_of_the_two() -> None:
    levels = (np.arange(20_000) + 0.5) / 20_000
    exponential = -np.log(1.0 - levels)
    z = peakedness(3.0, exponential, np.full(levels.size, 1.0 / levels.size))
    assert z == pytest.approx(1.0 + (9.0 - 1.0) / 2.0, rel=1e-3)  # integral of exp(-2x) is a half


def test_peakedness_of_constant_service_and_of_poisson() -> None:
    one = np.array([1.0])
    assert peakedness(3.0, 7.0 * one, one) == pytest.approx(9.0)
    assert peakedness(0.5, 7.0 * one, one) == pytest.approx(0.25)
    assert peakedness(1.0, np.array([1.0, 5.0]), np.array([0.4, 0.6])) == 1.0
    assert peakedness(3.0, np.array([0.0]), one) == 1.0

import numpy as np
import pytest

from provisioner.queueing.token_pool import Array, TokenPool, beyond_memory, evenly_shared, token_pool
from tests.oracles.erlang import erlang_c

FAR = 5000.0  # more memory than any case needs


def processor_sharing(batch: Array) -> Array:
    """A replica whose iterations take as long as their batch: plain processor sharing."""
    return 1e-3 * batch


def no_interference(batch: Array) -> Array:
    """Iterations of one length: every sequence has its own server."""
    return np.full(np.shape(batch), 1e-3)


def mean_found(pool: TokenPool) -> Array:
    result: Array = np.sum(pool.found * pool.probability, axis=1)
    return result


@pytest.mark.parametrize("rho", [0.2, 0.5, 0.8, 0.9])
def test_mg1_processor_sharing_is_geometric(rho: float) -> None:
    pool = token_pool(processor_sharing, 100.0, 10.0 * rho, np.array([1]), 400)
    assert float(pool.load[0]) == pytest.approx(rho)
    assert float(pool.mean_batch[0]) == pytest.approx(rho / (1.0 - rho), rel=1e-3)
    assert float(mean_found(pool)[0]) == pytest.approx(rho / (1.0 - rho), rel=1e-3)
    # The atoms are conditional means between quantiles: the last holds the top 0.1 %.
    x = np.arange(4000)
    pmf = (1.0 - rho) * rho**x
    top = 1.0 - np.cumsum(pmf) < 1e-3
    first = int(np.argmax(top))
    part = 1e-3 - pmf[first + 1 :].sum()
    assert float(pool.found[0, -1]) == pytest.approx((part * first + (x * pmf)[first + 1 :].sum()) / 1e-3, rel=1e-3)


@pytest.mark.parametrize("load", [0.5, 20.0, 300.0])
def test_constant_iterations_are_mm_infinity(load: float) -> None:
    pool = token_pool(no_interference, 100.0, 10.0 * load, np.array([1]), FAR)
    assert float(pool.mean_batch[0]) == pytest.approx(load, rel=2e-3)
    mean = mean_found(pool)[0]
    assert float(pool.relaxation_s[0]) == pytest.approx(0.1, rel=2e-3)  # one lifetime: variance = mean
    variance = float(np.sum(pool.probability * (pool.found - mean) ** 2, axis=1)[0])
    assert variance == pytest.approx(load, rel=0.05 if load > 1 else 0.3)  # less what varies within the atoms


@pytest.mark.parametrize("rho", [0.5, 0.8, 0.95])
def test_the_memory_cap_makes_it_mmc(rho: float) -> None:
    servers = 30
    pool = token_pool(no_interference, 100.0, 10.0 * servers * rho, np.array([1]), servers)
    assert float(pool.load[0]) == pytest.approx(rho)
    waiting = float(np.sum(pool.waiting_s * pool.probability))
    # One more than those found ahead must leave, as M/M/c has it: (x + 1 - c) / (c mu) on average.
    exact = float(erlang_c(servers, servers * rho)) / (1.0 - rho) / (servers * 10.0)
    assert waiting == pytest.approx(exact, rel=0.03, abs=1e-6)


def test_a_stretched_queue_waits_longer_and_a_plain_one_is_its_base() -> None:
    waits = [
        float(
            np.sum(
                (p := token_pool(no_interference, 100.0, 270.0, np.array([1]), 30, queue_stretch=s)).waiting_s
                * p.probability
            )
        )
        for s in (1.0, 2.0, 4.0)
    ]
    assert waits[0] < waits[1] < waits[2]


def test_replicas_share_evenly() -> None:
    """Sequences over replicas as even as whole numbers allow: 7 over 3 are 3, 2 and 2."""
    assert float(evenly_shared(np.array([7.0]), np.array([3.0]))[0]) == pytest.approx((9 + 4 + 4) / 7)
    assert float(evenly_shared(np.array([2.0]), np.array([5.0]))[0]) == 1.0


def test_load_over_replicas_is_the_rate_over_what_they_complete() -> None:
    pool = token_pool(no_interference, 50.0, 100.0, np.array([1, 2, 4]), 10)
    np.testing.assert_allclose(pool.load, 100.0 / (np.array([1, 2, 4]) * 10 / 0.05))


@pytest.mark.parametrize("batch", [3.0, 29.0, 60.0])
def test_memory_of_varying_sequences_overflows_like_a_normal(batch: float) -> None:
    rng = np.random.default_rng(1)
    amount = batch + 0.8 * np.sqrt(batch / 2.0) * rng.standard_normal(400_000)
    expected = float(np.maximum(amount - 30.0, 0.0).mean())
    found = float(beyond_memory(np.array(batch), np.array(2.0), 30.0, 0.8))
    assert found == pytest.approx(expected, rel=0.03, abs=1e-3)
    assert float(beyond_memory(np.array(batch), np.array(2.0), 30.0, 0.0)) == max(batch - 30.0, 0.0)


def test_only_the_mean_of_the_outputs_matters_where_memory_does_not_bind() -> None:
    """Insensitivity: the formula sees the outputs through their mean alone, and scales with it against the rate."""
    one = token_pool(processor_sharing, 100.0, 6.0, np.array([1, 3]), FAR)
    other = token_pool(processor_sharing, 200.0, 3.0, np.array([1, 3]), FAR)
    np.testing.assert_allclose(one.batch, other.batch)
    np.testing.assert_allclose(one.load, other.load)


def test_a_peaked_process_spreads_the_occupancy_by_its_peakedness() -> None:
    plain, peaked = (token_pool(no_interference, 100.0, 3000.0, np.array([1]), FAR, z) for z in (1.0, 4.0))

    def variance(pool: TokenPool) -> float:
        return float(np.sum(pool.probability * (pool.found - mean_found(pool)[:, None]) ** 2))

    assert variance(peaked) / variance(plain) == pytest.approx(4.0, rel=0.05)
    assert float(peaked.relaxation_s[0]) == pytest.approx(float(plain.relaxation_s[0]), rel=0.05)


def test_a_pool_that_cannot_keep_up_is_not_stable() -> None:
    pool = token_pool(no_interference, 100.0, 1000.0, np.array([9, 10, 11]), 10)
    assert pool.stable.tolist() == [False, False, True]

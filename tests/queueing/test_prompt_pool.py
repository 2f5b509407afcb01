from collections.abc import Callable

import numpy as np
import pytest

from provisioner.perf.assumptions import replica
from provisioner.queueing.erlang import erlang_b
from provisioner.queueing.prompt_pool import (
    BATCH_TOKENS,
    Array,
    Filling,
    PromptPool,
    PromptTime,
    _lundberg,
    _waits_without_jockeying,
    prompt_pools,
    token_cell,
)
from provisioner.queueing.traffic import LARGEST_STABLE_LOAD
from tests.oracles.erlang import erlang_c
from tests.queueing.conftest import Linear, exponential_tokens, prompt_pool

# Prompts longer than the batch limit run alone: no batching, hence the textbook queues.
LONG = 4.0 * BATCH_TOKENS
S_PER_TOKEN = 1.0 / LONG  # so that a LONG prompt takes 1 s


def waits_above(pool: PromptPool, row: int, slack_s: Array, tokens: float = LONG) -> Array:
    """P(wait > slack) at each slack."""
    one = np.array([1.0])
    return np.array([pool.exceedance(np.array([tokens]), np.array([s]), one)[row] for s in slack_s])


def constant(rate_rps: float, replicas: list[int], one_queue: bool = False, cv: float = 1.0) -> PromptPool:
    sizes = np.array(replicas, dtype=np.int64)
    return prompt_pool(Linear(S_PER_TOKEN), np.array([LONG]), np.array([1.0]), rate_rps, sizes, cv, one_queue=one_queue)


def exponential(rate_rps: float, replicas: list[int]) -> PromptPool:
    tokens = exponential_tokens(LONG)
    tokens = np.where(tokens <= BATCH_TOKENS, tokens, tokens)
    weight = np.full(tokens.size, 1.0 / tokens.size)
    # A limit of one cell, so that every prompt runs alone.
    sizes = np.array(replicas, dtype=np.int64)
    return prompt_pool(Linear(S_PER_TOKEN), tokens, weight, rate_rps, sizes, batch_tokens=64, one_queue=True)


@pytest.mark.parametrize("servers", [1, 2, 10, 40])
@pytest.mark.parametrize("rho", [0.5, 0.8, 0.95])
def test_mmc_waiting_time_is_exponential_above_erlang_c(servers: int, rho: float) -> None:
    pool = exponential(rho * servers, [servers])
    at = np.array([0.0, 0.5, 1.0, 2.0, 4.0]) / (servers * (1.0 - rho))
    exact = float(erlang_c(servers, rho * servers)) * np.exp(-servers * (1.0 - rho) * at)
    np.testing.assert_allclose(waits_above(pool, 0, at), exact, rtol=0.03, atol=1e-4)


def md1_waits_above(rho: float, t: Array) -> Array:
    """P(wait > t) of M/D/1 with service 1: Erlang's sum, in whole numbers of services."""
    from math import factorial

    below = []
    for x in t:
        terms = [
            (rho * (x - k)) ** k / factorial(k) * np.exp(-rho * (k - x)) * (-1) ** k
            for k in range(int(np.floor(x)) + 1)
        ]
        below.append((1.0 - rho) * sum(terms))
    return 1.0 - np.array(below)


@pytest.mark.parametrize("rho", [0.3, 0.6, 0.8])
def test_md1_distribution_is_exact(rho: float) -> None:
    at = np.array([0.0, 0.25, 0.5, 0.9, 1.3, 2.0, 3.0, 5.0])
    np.testing.assert_allclose(waits_above(constant(rho, [1]), 0, at), md1_waits_above(rho, at), rtol=0.02, atol=2e-3)


@pytest.mark.parametrize("rho", [0.3, 0.7, 0.9])
def test_mean_wait_of_mg1_is_pollaczek_khinchine(rho: float) -> None:
    tokens, weight = np.array([0.5 * LONG, 1.2 * LONG, 3.0 * LONG]), np.array([0.5, 0.4, 0.1])
    service_s = S_PER_TOKEN * tokens
    mean_s, mean_square = float(weight @ service_s), float(weight @ service_s**2)
    rate = rho / mean_s
    pool = prompt_pool(Linear(S_PER_TOKEN), tokens, weight, rate, np.array([1]))
    at = np.linspace(0.0, 150.0, 6001)
    mean_wait_s = float(np.trapezoid(waits_above(pool, 0, at), at))
    assert mean_wait_s == pytest.approx(rate * mean_square / (2.0 * (1.0 - rho)), rel=0.02)


@pytest.mark.parametrize("servers", [2, 8, 30])
def test_probability_of_waiting_in_one_queue_is_erlangs(servers: int) -> None:
    """The M/G/c approximation takes P(wait) from M/M/c, whatever the service."""
    pool = constant(0.8 * servers, [servers], one_queue=True)
    assert float(pool.tail[0, 0]) == pytest.approx(float(erlang_c(servers, 0.8 * servers)), rel=0.02)


@pytest.mark.parametrize("servers", [1, 2, 8, 30, 100])
def test_without_jockeying_fewer_wait(servers: int) -> None:
    load = 0.8 * servers
    kept = float(_waits_without_jockeying(np.array([float(servers)]), np.array([load]))[0])
    assert kept == pytest.approx(float(erlang_b(servers, load / (1.0 - kept))), rel=1e-6)
    one_queue = float(erlang_c(servers, load))
    assert kept <= one_queue + 1e-9
    if servers == 1:
        assert kept == pytest.approx(0.8)  # as in any single-server queue
    pool = constant(load, [servers])
    assert float(pool.tail[0, 0]) == pytest.approx((kept + one_queue) / 2.0, rel=0.02)


def test_lundberg_exponents_solve_their_equation() -> None:
    # Exponential service: E[(e^(eta S) - 1) / eta] = 1 / (1 - eta), so eta = 1 - rho.
    tokens = exponential_tokens(1.0, 4000)
    weight = np.full(tokens.size, 1.0 / tokens.size)
    rho = np.array([0.6, 0.75, 0.9])
    np.testing.assert_allclose(_lundberg(tokens, weight, 1.0 / rho), 1.0 - rho, rtol=0.02)
    # Constant service: (e^eta - 1) / eta = 1 / rho.
    eta = _lundberg(np.array([1.0]), np.array([1.0]), 1.0 / rho)
    np.testing.assert_allclose(np.expm1(eta) / eta, 1.0 / rho, rtol=2e-3)
    assert float(_lundberg(np.array([1.0]), np.array([1.0]), np.array(0.8))) < 0.0  # above its load it grows


def test_constant_gaps_between_arrivals_leave_less_waiting_and_peaked_ones_more() -> None:
    at = np.array([0.2, 1.0, 3.0])
    smooth, poisson, peaked = (waits_above(constant(3.2, [4], cv=cv), 0, at) for cv in (0.3, 1.0, 2.0))
    assert np.all(smooth < poisson) and np.all(poisson < peaked)


def greedy(curve: PromptTime, tokens: Array, count: int, seed: int) -> tuple[float, float]:
    """An endless queue packed by hand: work over time of its batches, and batches per prompt."""
    rng = np.random.default_rng(seed)
    prompts = rng.choice(tokens, count)
    time_s, batches, filled = 0.0, 0, 0.0
    for prompt in prompts:
        if filled and filled + prompt <= BATCH_TOKENS:
            filled += prompt
            continue
        if filled:
            time_s, batches = time_s + float(curve(np.array(filled))), batches + 1
        filled = float(prompt)
    return float(curve(prompts).sum()) / time_s, batches / count


@pytest.mark.parametrize(
    "tokens", [[256.0], [512.0, 1024.0], [128.0, 320.0, 960.0, 1984.0], [640.0, 1408.0, 3008.0]], ids=str
)
def test_packing_of_an_endless_queue_is_greedy_packing(tokens: list[float]) -> None:
    curve = replica("llama2-70b", "dgx-h100").prompt_s
    lengths = np.array(tokens)
    fill = Filling(lengths, np.full(lengths.size, 1.0 / lengths.size))
    packed = fill.packed(curve)
    efficiency, batches = greedy(curve, lengths, 30_000, 1)
    assert packed.saturated == pytest.approx(efficiency, rel=0.02)
    assert float(fill.closed.sum()) == pytest.approx(batches, rel=0.02)


def test_packing_of_few_prompts_is_counted_by_hand() -> None:
    """Two prompts of 640 or 1408 tokens (equally likely) fit one batch unless both are long."""
    curve = Linear(1e-3)
    gain = Filling(np.array([640.0, 1408.0]), np.array([0.5, 0.5])).packed(replica("llama2-70b", "dgx-h100").prompt_s)
    assert Filling(np.array([640.0, 1408.0]), np.array([0.5, 0.5])).packed(curve).efficiency == pytest.approx(1.0)
    assert gain.efficiency[0] == 1.0
    assert np.all(np.diff(gain.efficiency) >= 0.0)
    h = replica("llama2-70b", "dgx-h100").prompt_s
    one = {t: float(h(np.array(t))) for t in (640.0, 1408.0, 1280.0, 2048.0)}
    alone = 2.0 * one[640.0] + 2.0 * (one[640.0] + one[1408.0]) + one[1408.0]  # of the prompts in the first batch
    together = one[1280.0] + 2.0 * one[2048.0] + one[1408.0]
    assert float(gain.efficiency[1]) == pytest.approx(alone / together, rel=1e-6)


def test_long_prompts_run_alone() -> None:
    fill = Filling(np.array([4096.0]), np.array([1.0]))
    packed = fill.packed(replica("llama2-70b", "dgx-h100").prompt_s)
    assert packed.saturated == 1.0
    assert not packed.extra_s[-1].any()
    assert float(fill.closed[-1]) == pytest.approx(1.0)


def test_rows_are_what_each_size_alone_gives(linear: Callable[[float], Linear]) -> None:
    curve = replica("llama2-70b", "dgx-h100").prompt_s
    tokens, weight = np.array([300.0, 1500.0, 5000.0]), np.array([0.4, 0.5, 0.1])
    slack = np.array([0.05, 0.3, 0.01])
    sizes = np.array([9, 10, 12, 40, 200], dtype=np.int64)
    together = prompt_pool(curve, tokens, weight, 60.0, sizes).exceedance(tokens, slack, weight)
    alone = [
        float(prompt_pool(curve, tokens, weight, 60.0, sizes[i : i + 1]).exceedance(tokens, slack, weight)[0])
        for i in range(sizes.size)
    ]
    np.testing.assert_allclose(together, alone, rtol=0.05, atol=2e-5)


def test_a_pool_that_cannot_keep_up_exceeds_every_limit() -> None:
    pool = constant(3.0, [2, 3, 4])
    assert pool.stable.tolist() == [False, False, True]
    assert float(pool.load[1]) >= LARGEST_STABLE_LOAD
    one = np.array([1.0])
    assert pool.exceedance(np.array([LONG]), np.array([1e9]), one)[:2].tolist() == [1.0, 1.0]


def test_several_curves_at_once_are_each_curve_alone() -> None:
    tokens, weight = np.array([300.0, 900.0, 1500.0, 5000.0]), np.array([0.4, 0.3, 0.2, 0.1])
    perf = replica("llama2-70b", "dgx-h100").prompt_s
    curves, sizes = (perf, Linear(S_PER_TOKEN)), (np.array([3, 7]), np.array([2, 4, 40]))
    fill = Filling(tokens, weight)
    together = prompt_pools(fill, [(fill.packed(c), n) for c, n in zip(curves, sizes, strict=True)], 6.0)
    for pool, curve, replicas in zip(together, curves, sizes, strict=True):
        alone = prompt_pool(curve, tokens, weight, 6.0, replicas)
        np.testing.assert_allclose(pool.tail, alone.tail, rtol=1e-12, atol=1e-300)
        np.testing.assert_allclose(pool.delay_s, alone.delay_s, rtol=1e-12)


def test_delays_of_one_size_are_those_of_all_sizes() -> None:
    tokens, weight = np.array([300.0, 900.0, 5000.0]), np.array([0.5, 0.3, 0.2])
    pool = prompt_pool(
        replica("llama2-70b", "dgx-h100").prompt_s, tokens, weight, 12.0, np.array([3, 5, 9], dtype=np.int64)
    )
    for slack in np.linspace(-0.1, 3.0, 40):
        one = [float(weight @ pool.longer(row, token_cell(tokens), np.full(3, slack))) for row in range(3)]
        np.testing.assert_allclose(one, pool.exceedance(tokens, np.full(3, slack), weight), rtol=1e-12, atol=1e-7)

"""Chunked prefill: chunks and budgets counted by hand, short memory, and an independent simulation."""

import numpy as np
import pytest

from provisioner.perf.curves import MIXED_FACTOR, MixedIteration
from provisioner.simulation.policy import Policy
from provisioner.simulation.run import run
from provisioner.specs import catalog
from tests.oracles.chunked import simulate_chunked
from tests.simulation.clusters import Degenerate, Floats, alone, cluster, ready, request_set, serve, shipped, ttft_s
from tests.simulation.conftest import Inside


def quadratic(tokens: Floats) -> Floats:
    return 0.01 + 1e-4 * tokens + 1e-7 * tokens**2


PERF = Degenerate(quadratic, lambda batch, context: 0.01 + 1e-3 * batch + 1e-6 * context)


def prompt_s(tokens: float) -> float:
    return float(quadratic(np.array(tokens)))


def decode_s(batch: int, context: int) -> float:
    return float(PERF.decode_s(batch, context))


def chunk_s(before: int, chunk: int, beside: int = 0) -> float:
    """A chunk behind ``before`` tokens, with ``beside`` others in the iteration: its attention to them comes on top."""
    further_s = prompt_s(before + chunk) - prompt_s(before) - (prompt_s(chunk) - prompt_s(1)) if before else 0.0
    return prompt_s(chunk + beside) + max(further_s, 0.0)


@pytest.mark.parametrize("budget", [100, 512, 2048, 5000])
@pytest.mark.parametrize("prompt", [1, 100, 101, 2048, 4999, 7000])
def test_a_prompt_beyond_the_budget_is_cut(budget: int, prompt: int) -> None:
    done = serve(cluster(Policy("chunked", batch_tokens=budget), PERF), [(1.0, prompt, 1)])
    starts = range(0, prompt, budget)
    expected_s = sum(chunk_s(before, min(budget, prompt - before)) for before in starts)
    assert ttft_s(done)[0] == pytest.approx(expected_s, rel=1e-12)
    assert done.requests["last_s"][0] == done.requests["first_s"][0]


def test_chunks_together_take_no_less_than_the_prompt_at_once() -> None:
    """Each chunk pays the cost of an iteration, and no attention between chunks is lost."""
    for model in ("bloom-176b", "llama2-70b"):
        for machine in ("dgx-a100", "dgx-h100"):
            perf = shipped(model, machine)
            for prompt in (1000, 3000, 8000):
                whole_s = float(perf.prompt_s(float(prompt)))
                times_s = [
                    float(ttft_s(serve(cluster(Policy("chunked", batch_tokens=budget), perf), [(0.0, prompt, 1)]))[0])
                    for budget in (prompt, prompt // 2, prompt // 4)
                ]
                assert times_s[0] == pytest.approx(whole_s)
                assert times_s[0] < times_s[1] < times_s[2]


def test_decodes_alone_grow_with_their_context() -> None:
    done = serve(cluster("chunked", PERF), [(0.0, 100, 50)])
    expected_s = prompt_s(100) + sum(decode_s(1, 101 + k) for k in range(49))
    assert done.requests["last_s"][0] == pytest.approx(expected_s, rel=1e-12)
    assert done.requests["largest_gap_s"][0] == pytest.approx(decode_s(1, 149), rel=1e-9)


def test_a_chunk_has_what_the_decodes_leave_of_the_budget() -> None:
    # three prompts that fill the budget together; then two decodes and a chunk share it
    done = serve(cluster(Policy("chunked", batch_tokens=100), PERF), [(0.0, 40, 3), (0.0, 60, 3), (0.001, 150, 1)])
    # the first starts alone, since the second is routed after it
    first = prompt_s(40)
    # its decode takes one; the second's whole prompt, then what is left (39) of the third's
    second = first + max(MIXED_FACTOR * prompt_s(1 + 60 + 39), decode_s(1, 41))
    # two decodes, and 98 of the 111 that remain
    third = second + max(MIXED_FACTOR * prompt_s(2 + 98), decode_s(2, 42 + 61))
    third += chunk_s(39, 98) - prompt_s(98)
    # one decode, and the last 13
    fourth = third + max(MIXED_FACTOR * prompt_s(1 + 13), decode_s(1, 62)) + chunk_s(137, 13) - prompt_s(13)
    assert done.requests["first_s"] == pytest.approx([first, second, fourth], rel=1e-12)
    assert done.requests["last_s"] == pytest.approx([third, fourth, fourth], rel=1e-12)


def test_the_batch_holds_no_more_than_its_requests() -> None:
    done = serve(cluster(Policy("chunked", batch_requests=2), PERF), [(0.0, 10, 5), (0.0, 10, 5), (0.0, 10, 5)])
    assert done.batch_time_s.shape[1] == 3
    assert done.requests["first_s"][2] > done.requests["last_s"][0]


def test_short_memory_evicts_the_last_to_join_which_computes_all_again(inside: Inside) -> None:
    small = Degenerate(quadratic, PERF.decode, kv_capacity_tokens=260.0)
    done = serve(cluster("chunked", small), [(0.0, 100, 100), (0.0, 100, 100)])
    assert done.status == "finished"
    inside.assert_empty(done)
    assert done.requests["interrupted"].tolist() == [0, 1]
    assert int(done.clock["preemptions"]) == 1
    assert done.replicas["most_used_tokens"][0] <= 260
    # the first runs as if alone from then on; the second waits for its end, and computes prompt and tokens again
    assert done.requests["last_s"][1] > done.requests["last_s"][0]
    assert done.requests["largest_gap_s"][1] > done.requests["largest_gap_s"][0]


def compare(seed: int, capacity_tokens: float, inside: Inside) -> None:
    """Made-up requests; budgets below and above the prompts, batches of two and more."""
    rng = np.random.default_rng([4, seed])
    count = int(rng.integers(5, 60))
    arrival_s = np.cumsum(rng.exponential(rng.choice([0.01, 0.1, 1.0]), count))
    prompt, output = rng.integers(1, 900, count), rng.integers(1, 120, count)
    rows = list(zip(arrival_s.tolist(), prompt.tolist(), output.tolist(), strict=True))
    budget, most, replicas = int(rng.choice([64, 256, 2048])), int(rng.choice([2, 5, 512])), int(rng.integers(1, 4))
    # the paper's rule of mixed iterations, or a sum
    rule = MixedIteration() if seed % 2 else MixedIteration(1.0, *(float(rng.uniform(0, s)) for s in (1e-3, 1e-5)))
    perf = Degenerate(quadratic, PERF.decode, kv_capacity_tokens=capacity_tokens, mixed=rule)
    done = serve(cluster(Policy("chunked", batch_tokens=budget, batch_requests=most), perf, replicas), rows)
    slow = simulate_chunked(rows, perf, replicas, most, budget)
    assert done.status == "finished"
    assert done.requests["first_s"] == pytest.approx([s.first_s for s in slow], rel=1e-9)
    assert done.requests["last_s"] == pytest.approx([s.last_s for s in slow], rel=1e-9)
    assert done.requests["interrupted"].tolist() == [s.evictions for s in slow]
    inside.assert_empty(done)


@pytest.mark.parametrize("seed", range(30))
def test_made_up_requests_iteration_by_iteration(seed: int, inside: Inside) -> None:
    compare(seed, 1e9, inside)


def test_an_evicted_sequence_joins_again_in_the_iteration_after() -> None:
    small = Degenerate(quadratic, PERF.decode, kv_capacity_tokens=300.0)
    rows = [(0.001, 150, 20), (0.002, 150, 1)]
    done = serve(cluster(Policy("chunked", batch_tokens=20), small), rows)
    slow = simulate_chunked(rows, small, 1, 512, 20)
    assert done.requests["last_s"] == pytest.approx([s.last_s for s in slow], rel=1e-9)


@pytest.mark.parametrize("seed", range(30, 60))
@pytest.mark.parametrize("capacity_tokens", [1_020.5, 1_500.0, 4_000.0])
def test_made_up_requests_with_short_memory(seed: int, capacity_tokens: float, inside: Inside) -> None:
    compare(seed, capacity_tokens, inside)


@pytest.mark.parametrize("seed", range(8))
def test_shipped_workloads_iteration_by_iteration(seed: int) -> None:
    rng = np.random.default_rng([5, seed])
    model = str(rng.choice(["bloom-176b", "llama2-70b"]))
    perf = shipped(model, str(rng.choice(["dgx-a100", "dgx-h100"])))
    workload = catalog.workload(str(rng.choice(["coding", "conversation"])))
    prompt, output = workload.sample(rng, 60)
    arrival_s = np.cumsum(rng.exponential(rng.choice([0.2, 1.0]), 60))
    rows = list(zip(arrival_s.tolist(), prompt.tolist(), np.minimum(output, 400).tolist(), strict=True))
    done = run(cluster("chunked", perf, 2), ready(request_set(rows), alone(model)))
    slow = simulate_chunked(rows, perf, 2, 512, 2048)
    assert done.requests["first_s"] == pytest.approx([s.first_s for s in slow], rel=1e-9)
    assert done.requests["last_s"] == pytest.approx([s.last_s for s in slow], rel=1e-9)

"""Chunked prefill: chunks and budgets counted by hand, short memory, and an independent simulation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
import pytest

from provisioner.perf.curves import MIXED_FACTOR, MixedIteration
from provisioner.simulation.cluster import Outage
from provisioner.simulation.policy import Policy
from provisioner.simulation.run import Run, run
from provisioner.specs import catalog
from provisioner.specs.engine import Admission, Estimate, Order
from tests.oracles.chunked import Rules, Sequence, simulate_chunked
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


def test_prompts_first_make_the_sequences_wait_for_all_chunks() -> None:
    policy = Policy("chunked", batch_tokens=100, order="prompt-first")
    done = serve(cluster(policy, PERF), [(0.0, 50, 3), (0.001, 250, 2)])
    first = prompt_s(50)
    second = first + chunk_s(0, 100) + chunk_s(100, 100) + chunk_s(200, 50)
    both = second + decode_s(2, 51 + 251)
    assert done.requests["first_s"] == pytest.approx([first, second], rel=1e-12)
    assert done.requests["last_s"] == pytest.approx([both + decode_s(1, 52), both], rel=1e-12)
    assert done.requests["largest_gap_s"][0] == pytest.approx(both - first, rel=1e-12)
    assert done.replicas["mixed_busy_s"][0] == 0.0


def test_prompts_first_have_a_budget_and_sequences_none() -> None:
    """Ten sequences decode together under a budget of two; decodes first, two do."""
    rows = [(0.0, 1, 4)] * 10
    policies = [Policy("chunked", batch_tokens=2, order=order) for order in get_args(Order)]
    by_two, together = (serve(cluster(policy, PERF), rows, timeline=True) for policy in policies)
    assert by_two.timeline["batch"].max() == 2
    assert together.timeline["batch"].max() == 10
    assert together.requests["last_s"].tolist() == [together.requests["last_s"][0]] * 10


def test_reserved_memory_lets_the_second_in_when_the_first_has_gone() -> None:
    small = Degenerate(quadratic, PERF.decode, kv_capacity_tokens=260.0)
    done = serve(cluster(Policy("chunked", admission="reserve"), small), [(0.0, 100, 100), (0.0, 100, 100)])
    first = prompt_s(100) + sum(decode_s(1, 101 + k) for k in range(99))
    assert done.requests["last_s"] == pytest.approx([first, 2 * first], rel=1e-12)
    assert int(done.clock["preemptions"]) == 0
    assert done.replicas["most_used_tokens"][0] == 200


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


def estimating(share: float, **more: int) -> Policy:
    """Admission by an estimate with a share that stays, prompts first."""
    estimate = Estimate(share, share, 600, 4096, 20, 512)
    return Policy("chunked", order="prompt-first", admission="estimate", estimate=estimate, **more)  # type: ignore[arg-type]


def test_an_estimate_keeps_room_for_a_share_of_the_output() -> None:
    """The second needs 200 tokens beside the 100 of the first and its share of the 99 to come, of 320."""
    small, rows = Degenerate(quadratic, PERF.decode, kv_capacity_tokens=320.0), [(0.0, 100, 100), (0.0, 100, 100)]
    tight, loose = (serve(cluster(estimating(share), small), rows) for share in (21 / 99, 20 / 99))
    alone_s = prompt_s(100) + sum(decode_s(1, 101 + k) for k in range(99))
    assert tight.requests["last_s"] == pytest.approx([alone_s, 2 * alone_s], rel=1e-12)
    assert int(tight.clock["preemptions"]) == 0
    assert loose.requests["first_s"] == pytest.approx([prompt_s(100), 2 * prompt_s(100)], rel=1e-12)
    # 60 iterations fill the memory; of equals the last to join is evicted, and comes back when the first has gone
    assert loose.requests["interrupted"].tolist() == [0, 1]
    assert loose.replicas["most_used_tokens"][0] == 320


def test_of_as_many_tokens_the_longest_prompt_is_evicted_and_then_waits_behind_all() -> None:
    small = Degenerate(quadratic, PERF.decode, kv_capacity_tokens=420.0)
    rows = [(0.0, 10, 1), (0.0, 150, 120), (0.0, 100, 120), (1.0, 100, 120)]
    done = serve(cluster(estimating(0.0), small), rows)
    assert done.requests["interrupted"].tolist() == [0, 1, 0, 0]
    assert done.requests["last_s"].argmax() == 1  # behind the one that came after it
    assert done.requests["first_s"][3] < done.requests["last_s"][1]


def test_a_full_replica_tries_again_after_the_next_iteration_that_decodes() -> None:
    small = Degenerate(quadratic, PERF.decode, kv_capacity_tokens=400.0)
    done = serve(cluster(estimating(1.0), small), [(0.0, 100, 5), (0.0, 100, 50), (0.0, 100, 50)])
    joined = 2 * prompt_s(100)
    first = joined + sum(decode_s(2, 202 + 2 * k) for k in range(4))
    assert done.requests["last_s"][0] == pytest.approx(first, rel=1e-12)
    assert done.requests["first_s"][2] == pytest.approx(first + decode_s(1, 105) + prompt_s(100), rel=1e-12)


@pytest.mark.parametrize("decodes", [1, 100, 599, 600, 700])
def test_the_share_falls_with_each_iteration_that_decodes(decodes: int) -> None:
    """Linear from 0.7 to 0.1 over 600: room for the second, which comes then, to a millionth of a token."""
    estimate = Estimate(0.7, 0.1, 600, 4096, 20, 512)
    policy = Policy("chunked", order="prompt-first", admission="estimate", estimate=estimate)
    end_s = prompt_s(100) + sum(decode_s(1, 101 + k) for k in range(decodes))
    rows = [(0.0, 100, 900), (end_s - 0.001, 100, 400)]
    share = max(0.7 - 0.001 * decodes, 0.1)
    needed = 100 + decodes + share * (899 - decodes) + 100 + 400
    for spare in (1e-6, -1e-6):
        perf = Degenerate(quadratic, PERF.decode, kv_capacity_tokens=needed + spare)
        first_s = serve(cluster(policy, perf), rows).requests["first_s"][1]
        assert (first_s == pytest.approx(end_s + prompt_s(100), rel=1e-9)) == (spare > 0)


@dataclass(frozen=True)
class Case:
    """Made-up requests on a made-up pool under made-up rules, for the simulator and for the oracle."""

    rows: list[tuple[float, int, int]]
    perf: Degenerate
    replicas: int
    rules: Rules
    in_flight: int | None
    outages: tuple[tuple[float, float, int], ...]

    @classmethod
    def drawn(cls, seed: int, capacity_tokens: float, order: Order, admission: Admission) -> Case:
        """Budgets below and above prompts and batches, batches of two and more, some closed loops, some outages."""
        rng = np.random.default_rng([4, seed])
        count = int(rng.integers(5, 60))
        arrival_s = np.cumsum(rng.exponential(rng.choice([0.01, 0.1, 1.0]), count))
        prompt, output = rng.integers(1, 900, count), rng.integers(1, 120, count)
        budget, most, replicas = int(rng.choice([7, 64, 256, 2048])), int(rng.choice([2, 5, 512])), rng.integers(1, 4)
        # the paper's rule of mixed iterations, or a sum
        rule = MixedIteration() if seed % 2 else MixedIteration(1.0, *(float(rng.uniform(0, s)) for s in (1e-3, 1e-5)))
        per_machine = int(rng.choice([1, 2]))
        perf = Degenerate(quadratic, PERF.decode, capacity_tokens, mixed=rule, replicas_per_machine=per_machine)
        in_flight = int(rng.integers(1, 12)) if rng.random() < 0.3 else None
        outages = []
        for machine in range(int(replicas)) if rng.random() < 0.4 else ():
            from_s = float(rng.uniform(0.0, 5.0))
            outages.append((from_s, from_s + float(rng.uniform(0.1, 3.0)), machine))
        rows = list(
            zip(
                arrival_s.tolist() if in_flight is None else [0.0] * count,
                prompt.tolist(),
                output.tolist(),
                strict=True,
            )
        )
        estimate = None
        if admission == "estimate":
            shares = sorted(rng.uniform(0.0, 1.0, 2), reverse=True)
            numbers = (rng.choice(of) for of in ([3, 20, 200], [10, 60, 4096], [0, 20], [0]))
            estimate = Estimate(*map(float, shares), *map(int, numbers))
        rules = Rules(most, budget, order == "prompt-first", admission == "reserve", estimate)
        return cls(rows, perf, int(replicas) * per_machine, rules, in_flight, tuple(outages))

    def simulated(self) -> Run:
        policy = Policy(
            "chunked",
            batch_tokens=self.rules.tokens,
            batch_requests=self.rules.requests,
            order="prompt-first" if self.rules.prompts_first else "decode-first",
            admission="reserve" if self.rules.reserves else "estimate" if self.rules.estimate else "recompute",
            estimate=self.rules.estimate,
        )
        outages = [Outage(machine, from_s, until_s) for from_s, until_s, machine in self.outages]
        machines = self.replicas // self.perf.replicas_per_machine
        requests = request_set(self.rows, in_flight=self.in_flight)
        return serve(cluster(policy, self.perf, machines, None, 1, *outages), requests)

    def slowly(self) -> list[Sequence]:
        return simulate_chunked(
            self.rows,
            self.perf,  # type: ignore[arg-type]
            self.replicas,
            self.rules,
            in_flight=self.in_flight,
            outages=self.outages,
            replicas_per_machine=self.perf.replicas_per_machine,
        )


CAPACITIES = (1e9, 4_000.0, 1_500.0, 1_020.5)
SCHEDULES: list[tuple[Order, Admission]] = [(o, a) for o in get_args(Order) for a in get_args(Admission)]


@pytest.mark.parametrize("capacity_tokens", CAPACITIES)
@pytest.mark.parametrize(("order", "admission"), SCHEDULES)
@pytest.mark.parametrize("seed", range(24))
def test_made_up_requests_iteration_by_iteration(
    seed: int, order: Order, admission: Admission, capacity_tokens: float, inside: Inside
) -> None:
    case = Case.drawn(seed, capacity_tokens, order, admission)
    done, slow = case.simulated(), case.slowly()
    assert done.status == "finished"
    assert done.requests["interrupted"].tolist() == [each.evictions for each in slow]
    assert done.requests["restarts"].tolist() == [each.restarts for each in slow]
    for field in ("arrival_s", "first_s", "last_s", "largest_gap_s"):
        assert done.requests[field] == pytest.approx([getattr(each, field) for each in slow], rel=0, abs=1e-9), field
    inside.assert_empty(done)
    assert (done.replicas["most_used_tokens"] <= capacity_tokens).all()


def test_the_cases_reach_the_rare_rules() -> None:
    """Evictions, sequences that wait for prompts, restarts; order and admission change the ends."""
    slow = {
        (schedule, seed): Case.drawn(seed, 1_500.0, *schedule).slowly() for schedule in SCHEDULES for seed in range(12)
    }
    for schedule in SCHEDULES:
        served = [each for seed in range(12) for each in slow[schedule, seed]]
        assert (sum(each.evictions for each in served) > 0) == (schedule[1] != "reserve")
        assert (sum(each.waits for each in served) > 100) == (schedule[0] == "prompt-first")
    assert sum(any(each.restarts for each in of) for of in slow.values()) >= 12
    ends = [{tuple(each.last_s for each in slow[schedule, seed]) for schedule in SCHEDULES} for seed in range(12)]
    assert sum(len(each) > 1 for each in ends) >= 10


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
    slow = simulate_chunked(rows, perf, 2, Rules())
    assert done.requests["first_s"] == pytest.approx([s.first_s for s in slow], rel=1e-9)
    assert done.requests["last_s"] == pytest.approx([s.last_s for s in slow], rel=1e-9)

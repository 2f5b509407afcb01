"""Cases counted by hand: a request alone, two that meet, links that are shared, layers that land."""

import numpy as np
import pytest

from provisioner.errors import InputError
from provisioner.perf.curves import MIXED_FACTOR
from provisioner.perf.transfer import PER_LAYER_FIXED_S
from provisioner.simulation.cluster import Cluster, Pool
from provisioner.simulation.policy import Policy
from provisioner.specs import catalog
from tests.simulation.clusters import Degenerate, alone, cluster, e2e_s, ready, serve, shipped, ttft_s

MODELS = ("bloom-176b", "llama2-70b")
MACHINES = ("dgx-a100", "dgx-h100", "dgx-h100-capped")


# -- a request alone


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(("prompt", "output"), [(1, 1), (100, 2), (1500, 13), (2048, 200), (7000, 500)])
@pytest.mark.parametrize("policy", ["splitwise", "split", "mixed", "chunked"])
def test_a_request_alone(model: str, machine: str, prompt: int, output: int, policy: str) -> None:
    """TTFT is its prompt's time; then its transfer where there is one, and a decode at each context."""
    perf = shipped(model, machine)
    done = serve(cluster(policy, perf, 2, None, 2), [(3.0, prompt, output)])
    decodes_s = perf.decode_s(np.ones(output - 1), prompt + 1 + np.arange(output - 1.0))
    moves = policy in ("splitwise", "split")
    visible_s = float(perf.transfer_visible_s(float(prompt), perf)) if moves and output > 1 else 0.0
    first_s = float(perf.prompt_s(float(prompt)))
    if policy == "chunked" and prompt > 2048:  # see test_chunked.py
        first_s = float(ttft_s(done)[0])
        assert first_s > float(perf.prompt_s(float(prompt)))
    assert ttft_s(done)[0] == pytest.approx(first_s, rel=1e-12)
    assert e2e_s(done)[0] == pytest.approx(first_s + visible_s + decodes_s.sum(), rel=1e-9)
    if output > 1:
        gaps_s = np.append(visible_s + decodes_s[0], decodes_s[1:])
        assert done.requests["largest_gap_s"][0] == pytest.approx(gaps_s.max(), rel=1e-9)
        assert done.latencies.both("tbt")[0][0] == pytest.approx(gaps_s.mean(), rel=1e-9)


@pytest.mark.parametrize("model", MODELS)
def test_a_request_alone_by_the_published_rules(model: str) -> None:
    perf = shipped(model, "dgx-a100", "splitwise-sim")
    here = cluster(Policy("splitwise").as_published(), perf)
    done = serve(here, ready([(3.0, 1500, 21)], alone(model, "splitwise-sim")))
    first_s = float(perf.prompt_s(1500.0))
    last_s = first_s + 1500 * perf.kv_bytes_per_token / (200 * 2**30) + 20 * float(perf.decode_s(1, 0))
    assert e2e_s(done)[0] == pytest.approx(last_s, rel=1e-12)
    assert done.latencies.both("tbt")[0][0] == pytest.approx((last_s - first_s) / 21, rel=1e-12)
    assert done.latencies.both("ttft")[1][0] == pytest.approx(1.0, rel=1e-12)


def test_between_machines_of_two_types_the_slower_link_counts() -> None:
    a, h = shipped("llama2-70b", "dgx-a100"), shipped("llama2-70b", "dgx-h100")
    for first, second in ((a, h), (h, a)):
        done = serve(cluster("split", first, 1, second), [(0.0, 1000, 2)])
        gap_s = float(first.transfer_visible_s(1000.0, second) + second.decode_s(1, 1001))
        assert done.requests["largest_gap_s"][0] == pytest.approx(gap_s, rel=1e-9)


def test_two_replicas_of_a_machine_have_a_part_of_its_link_each() -> None:
    perf = shipped("llama2-70b", "dgx-h100", "measured", 4)
    assert perf.replicas_per_machine == 2
    done = serve(cluster("split", perf), [(0.0, 1000, 2)])
    assert done.replicas.size == 4 and done.replicas["machine"].tolist() == [0, 0, 1, 1]
    gap_s = float(perf.transfer_visible_s(1000.0, perf) + perf.decode_s(1, 1001))
    assert done.requests["largest_gap_s"][0] == pytest.approx(gap_s, rel=1e-9)


# -- two requests

PLAIN = Degenerate(lambda tokens: 1e-3 * tokens, lambda batch, context: 0.01 + 0.002 * batch + 1e-6 * context)


def plain_s(batch: int, context: int) -> float:
    return 0.01 + 0.002 * batch + 1e-6 * context


def test_prompts_that_wait_run_together() -> None:
    done = serve(cluster("split", PLAIN), [(0.0, 100, 1), (0.01, 200, 1), (0.02, 300, 1)])
    assert done.requests["first_s"] == pytest.approx([0.1, 0.6, 0.6])
    assert done.batch_time_s[0, :3] == pytest.approx([0.0, 0.02 - 0.0, 0.0])  # measured until the last arrival


def test_a_prompt_beyond_the_limit_waits_for_its_own_iteration() -> None:
    done = serve(cluster("split", PLAIN), [(0.0, 100, 1), (0.01, 2000, 1), (0.02, 49, 1), (0.03, 1, 1)])
    assert done.requests["first_s"] == pytest.approx([0.1, 0.1 + 2.0, 0.1 + 2.05, 0.1 + 2.05])
    done = serve(cluster("split", PLAIN), [(0.0, 100, 1), (0.01, 2048, 1), (0.02, 49, 1)])
    assert done.requests["first_s"] == pytest.approx([0.1, 0.1 + 2.048, 0.1 + 2.048 + 0.049])


def test_a_sequence_joins_at_the_next_boundary() -> None:
    done = serve(cluster("split", PLAIN, 2), [(0.0, 100, 11), (0.0, 131, 5)])
    now, a, b, first = 0.1, 101, 132, 10
    while now < 0.131:
        now += plain_s(1, a)
        a, first = a + 1, first - 1
    for _ in range(4):
        now += plain_s(2, a + b)
        a, b, first = a + 1, b + 1, first - 1
    assert done.requests["last_s"][1] == pytest.approx(now)
    for _ in range(first):
        now += plain_s(1, a)
        a += 1
    assert done.requests["last_s"][0] == pytest.approx(now)


def test_a_prompt_among_sequences_makes_a_mixed_iteration() -> None:
    done = serve(cluster("mixed", PLAIN), [(0.0, 100, 3), (0.105, 50, 2)])
    first = 0.1 + plain_s(1, 101)
    second = first + MIXED_FACTOR * 0.051
    third = second + plain_s(1, 51)  # the first request is complete
    assert done.requests["last_s"] == pytest.approx([second, third])
    assert done.requests["first_s"] == pytest.approx([0.1, second])
    assert done.requests["largest_gap_s"][0] == pytest.approx(MIXED_FACTOR * 0.051)


def test_a_mixed_iteration_takes_no_less_than_its_decodes() -> None:
    slow = Degenerate(lambda tokens: 1e-6 * tokens, lambda batch, context: 0.5 + 0.0 * batch * context)
    done = serve(cluster("mixed", slow), [(0.0, 100, 3), (0.2, 50, 2)])
    assert done.requests["last_s"] == pytest.approx([1.0001, 1.5001])
    assert done.requests["first_s"][1] == pytest.approx(1.0001)


# -- transfers: 1 MB a token over 1 GB/s, which a prompt of 1e-6 s a token cannot hide

LINK = 1e9


def sender(**fields: float) -> Degenerate:
    return Degenerate(lambda tokens: 1e-6 * tokens, kv_bytes_per_token=1e6, **fields)  # type: ignore[arg-type]


def gaps_s(policy: Policy, prompts: int, tokens: int, *lengths: int) -> np.ndarray:
    """Visible transfer times of prompts that end together."""
    # one iteration for those on one replica; on several, equal prompts are ready at the same time
    done = serve(cluster(policy, sender(), prompts, None, tokens), [(0.0, length, 2) for length in lengths])
    return np.asarray(done.requests["last_s"] - done.requests["first_s"] - 1e-3)


def batched(policy: Policy, tokens: int, *lengths: int) -> np.ndarray:
    """Visible transfer times of prompts that one replica ran in one iteration, behind another one."""
    rows = [(0.0, 2000, 1), *((1e-6 * (k + 1), length, 2) for k, length in enumerate(lengths))]
    done = serve(cluster(policy, sender(), 1, None, tokens), rows)
    assert len(set(done.requests["first_s"][1:])) == 1
    return np.asarray(done.requests["last_s"] - done.requests["first_s"] - 1e-3)[1:]


SHARED, APART = Policy("split"), Policy("split", share_links=False)


def test_one_transfer_alone() -> None:
    assert gaps_s(SHARED, 1, 1, 500) == pytest.approx([0.5])


def test_two_transfers_from_one_source_take_twice_as_long() -> None:
    assert batched(SHARED, 3, 500, 500) == pytest.approx([1.0, 1.0])
    assert batched(APART, 3, 500, 500) == pytest.approx([0.5, 0.5])


def test_two_transfers_to_one_destination_take_twice_as_long() -> None:
    # the first to land starts an iteration of 1 ms, whose end the other waits for
    assert gaps_s(SHARED, 2, 1, 500, 500) == pytest.approx([1.0, 1.001])
    assert gaps_s(APART, 2, 1, 500, 500) == pytest.approx([0.5, 0.501])


def test_transfers_of_different_size_share_until_the_smaller_is_through() -> None:
    assert batched(SHARED, 3, 100, 300, 900) == pytest.approx([0.3, 0.7, 1.3])


def test_each_transfer_goes_as_fast_as_the_slower_of_its_two_shares() -> None:
    """A sends 400 MB to X and 200 to Y, B sends 600 to X: all at half the link; when Y's is through, A's other one is
    held by X's link still; when that is through, B's goes at the whole link."""
    perf = Degenerate(lambda tokens: 1e-12 * tokens, kv_bytes_per_token=1e6)
    pools = (
        Pool("prompt", perf, 1, max_prompt_tokens=500),
        Pool("prompt", perf, 1, min_prompt_tokens=501),
        Pool("token", perf, 1, max_prompt_tokens=300),
        Pool("token", perf, 1, min_prompt_tokens=301),
    )
    done = serve(Cluster(pools, SHARED), [(0.0, 400, 2), (0.0, 200, 2), (0.0, 600, 2)])
    assert done.requests["last_s"] - done.requests["first_s"] - 1e-3 == pytest.approx([0.8, 0.4, 1.0])


def test_a_late_transfer_slows_what_is_on_its_way() -> None:
    done = serve(cluster(SHARED, sender(), 2, None, 1), [(0.0, 500, 2), (0.2, 500, 2)])
    first_s = done.requests["first_s"]
    apart_s = first_s[1] - first_s[0]
    ends = first_s[0] + apart_s + 2 * (0.5 - apart_s)
    assert done.requests["last_s"][0] == pytest.approx(ends + 1e-3)
    # 0.5 - apart is through by then; the rest at the full link; the decode boundary adds up to 1 ms
    assert done.requests["last_s"][1] == pytest.approx(ends + apart_s + 1e-3, abs=1.1e-3)


def test_layers_that_the_link_keeps_up_with_leave_the_last_one_and_the_exchange() -> None:
    layers = catalog.model("llama2-70b").layers
    perf = Degenerate(lambda tokens: 1e-2 * tokens, kv_bytes_per_token=1e6)
    done = serve(cluster(SHARED, perf), [(0.0, 1000, 2)])
    gap_s = float(done.requests["last_s"][0] - done.requests["first_s"][0])
    assert gap_s == pytest.approx(1.0 / layers + PER_LAYER_FIXED_S + 1e-3)


def test_layers_that_the_link_is_behind_with_leave_the_rest() -> None:
    perf = Degenerate(lambda tokens: 4e-4 * tokens, kv_bytes_per_token=1e6)
    done = serve(cluster(SHARED, perf), [(0.0, 1000, 2)])
    gap_s = float(done.requests["last_s"][0] - done.requests["first_s"][0])
    assert gap_s == pytest.approx(0.6 + PER_LAYER_FIXED_S + 1e-3)


def test_small_caches_go_in_one_piece() -> None:
    perf = Degenerate(lambda tokens: 1e-2 * tokens, kv_bytes_per_token=1e6)
    done = serve(cluster(SHARED, perf), [(0.0, 6, 2)])
    assert float(done.requests["last_s"][0] - done.requests["first_s"][0]) == pytest.approx(0.006 + 1e-3)


def test_the_last_exchange_does_not_hold_the_link() -> None:
    perf = Degenerate(lambda tokens: 4e-4 * tokens, kv_bytes_per_token=1e6)
    # the second's bytes start when the first's are sent, 0.3 s after its prompt, while its exchange goes on
    done = serve(cluster(SHARED, perf, 1, None, 2), [(0.0, 500, 2), (0.1, 1250, 2)])
    first_s = done.requests["first_s"]
    assert first_s == pytest.approx([0.2, 0.7])
    gap_s = done.requests["last_s"] - first_s
    assert gap_s == pytest.approx([0.3 + PER_LAYER_FIXED_S + 1e-3, 0.75 + PER_LAYER_FIXED_S + 1e-3])


# -- memory


def test_a_transfer_waits_for_room_until_memory_is_freed() -> None:
    perf = sender(kv_capacity_tokens=1000.0)
    rows = [(0.0, 500, 101), (0.0, 500, 2)]
    done = serve(cluster(Policy("split", share_links=False), perf, 2), rows)
    # 601 and 502 tokens do not fit together: the second's transfer starts at the first one's end
    assert done.requests["last_s"][0] == pytest.approx(0.0005 + 0.5 + 0.1)
    assert done.requests["last_s"][1] == pytest.approx(0.6005 + 0.5 + 1e-3)
    retried = serve(cluster(Policy("split").as_published(), perf, 2), rows)
    assert retried.requests["last_s"][1] == pytest.approx(1.0005 + 0.5 + 1e-3)


def test_a_whole_request_waits_for_the_memory_of_another() -> None:
    perf = Degenerate(lambda tokens: 1e-6 * tokens, kv_capacity_tokens=1000.0)
    done = serve(cluster("mixed", perf), [(0.0, 500, 101), (0.001, 500, 2)])
    assert done.requests["last_s"] == pytest.approx([0.0005 + 0.1, 0.1005 + 0.0005 + 0.001])
    assert done.replicas["most_used_tokens"][0] == 601


# -- pools by prompt length, and of several types


def test_pools_serve_their_own_prompt_lengths() -> None:
    short, long = Degenerate(lambda tokens: 1e-3 * tokens), Degenerate(lambda tokens: 1e-4 * tokens)
    pools = (
        Pool("prompt", short, 2, max_prompt_tokens=999),
        Pool("prompt", long, 1, min_prompt_tokens=1000),
        Pool("token", short, 1),
    )
    done = serve(Cluster(pools, Policy("split")), [(0.0, 999, 2), (0.0, 1000, 2), (0.0, 10, 2), (0.0, 3000, 2)])
    assert done.requests["prompt_at"].tolist() == [0, 2, 1, 2]
    assert set(done.requests["token_at"]) == {3}
    assert ttft_s(done) == pytest.approx([0.999, 0.1, 0.01, 0.4])


# -- the mixed pool


def lends(**fields: int) -> Policy:
    return Policy("splitwise", **fields)  # type: ignore[arg-type]


def test_a_long_queue_borrows_a_token_machine_which_goes_home_when_it_is_empty() -> None:
    perf = Degenerate(lambda tokens: 1e-3 * tokens)
    rows = [(0.0, 1000, 2), (0.1, 1000, 2), (0.2, 1000, 2), (9.0, 1000, 2)]
    done = serve(cluster(lends(max_pending_tokens=2000), perf, 1, None, 2), rows)
    # the third finds one waiting and 2000 pending tokens: token machine 1 takes its prompt; machine 2 has least memory
    assert done.requests["prompt_at"].tolist() == [0, 0, 1, 0]
    assert int(done.clock["moves"]) == 1
    assert done.requests["first_s"][2] == pytest.approx(1.2)
    assert done.replicas["pool"].tolist() == done.replicas["home"].tolist()
    assert 1.0 <= done.replicas["mixed_pool_s"][1] < 1.2


def test_a_full_token_pool_borrows_a_prompt_machine() -> None:
    perf = Degenerate(lambda tokens: 1e-3 * tokens, kv_capacity_tokens=3000.0)
    done = serve(cluster(lends(), perf, 2), [(0.0, 1000, 1500), (0.1, 1000, 2)])
    # the token machine is promised 2500; the second request's 1002 would reach 3000: a prompt machine takes its tokens
    assert done.requests["token_at"].tolist() == [2, 1]
    assert int(done.clock["moves"]) == 1


def test_without_a_machine_left_the_request_runs_whole_where_fewest_tokens_are_pending() -> None:
    perf = Degenerate(lambda tokens: 1e-3 * tokens)
    rows = [(0.01 * k, 1000, 2) for k in range(6)]
    done = serve(cluster(lends(max_pending_tokens=1500), perf, 1), rows)
    assert done.status == "finished"
    assert (done.requests["prompt_at"] == done.requests["token_at"]).any()


# -- a request of one output token


@pytest.mark.parametrize("policy", ["splitwise", "split", "mixed", "chunked"])
def test_a_request_of_one_token_ends_with_its_prompt(policy: str) -> None:
    done = serve(cluster(policy, PLAIN), [(0.0, 100, 1), (0.5, 200, 1)])
    assert done.requests["last_s"] == pytest.approx([0.1, 0.7])
    assert not done.replicas["used_tokens"].any() and not done.replicas["scheduled_tokens"].any()
    assert done.latencies.both("tbt")[0].size == 0


def test_a_long_prompt_waits_no_longer_for_having_one_output_token() -> None:
    """It starts at the next boundary, as it does with two output tokens."""
    one, two = (serve(cluster("mixed", PLAIN), [(0.0, 100, 1000), (1.0, 3000, output)]) for output in (1, 2))
    assert ttft_s(one)[1] == pytest.approx(ttft_s(two)[1])


@pytest.mark.parametrize(
    "perf",
    [
        Degenerate(lambda tokens: 1e307 * tokens),
        Degenerate(lambda tokens: 1e-3 - 1e-5 * tokens),
        Degenerate(lambda tokens: np.nan * tokens),
        Degenerate(lambda tokens: 1e-300 * tokens),
        Degenerate(lambda tokens: 1e-3 * tokens, link_bytes_per_s=np.inf),
        Degenerate(lambda tokens: 1e-3 * tokens, link_bytes_per_s=0.0),
    ],
)
def test_numbers_with_which_time_would_not_advance_are_refused(perf: Degenerate) -> None:
    with pytest.raises(InputError, match="a simulation takes"):
        serve(cluster("split", perf, 1, None, 1), [(0.0, 100, 2)])

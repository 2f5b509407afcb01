"""Machines that fail and come back: restarts, held requests, and nothing lost or counted twice."""

from functools import lru_cache

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from provisioner.errors import InputError
from provisioner.simulation.cluster import Outage
from provisioner.simulation.policy import Policy
from provisioner.simulation.requests import RequestSet
from tests.simulation.clusters import Degenerate, Floats, Rows, alone, cluster, ready, serve, shipped
from tests.simulation.conftest import Inside

POLICIES = ("splitwise", "split", "mixed", "chunked")


def grows(batch: Floats, context: Floats) -> Floats:
    return 0.01 + 1e-3 * batch + 1e-7 * context


@lru_cache
def perf(capacity: float = 1e9, per_machine: int = 1) -> Degenerate:
    """Transfers take about 0.1 to 0.2 s, so that failures meet them."""
    return Degenerate(
        lambda tokens: 1e-4 * tokens,
        grows,
        kv_capacity_tokens=capacity,
        kv_bytes_per_token=2e5,
        replicas_per_machine=per_machine,
    )


def many(count: int = 300, gap_s: float = 0.1, seed: int = 0) -> Rows:
    rng = np.random.default_rng(seed)
    at = np.cumsum(rng.exponential(gap_s, count))
    return list(zip(at.tolist(), rng.integers(1, 1500, count), rng.integers(1, 200, count), strict=True))


# -- by hand

ONE = Degenerate(lambda tokens: 1e-3 * tokens, lambda batch, context: 0.01 + 0.0 * batch * context)


def test_a_request_starts_again_from_scratch_and_keeps_its_first_token() -> None:
    whole = serve(cluster("mixed", ONE, 1), [(0.0, 100, 51)])
    assert whole.requests["last_s"][0] == pytest.approx(0.1 + 0.5)
    done = serve(cluster("mixed", ONE, 1, None, 1, Outage(0, 0.35, 2.0)), [(0.0, 100, 51)])
    assert done.requests["first_s"][0] == pytest.approx(0.1)
    assert done.requests["last_s"][0] == pytest.approx(2.0 + 0.1 + 0.5)
    assert done.requests["restarts"][0] == 1


def test_a_request_whose_prompt_fails_has_its_first_token_later() -> None:
    done = serve(cluster("mixed", ONE, 2, None, 1, Outage(0, 0.05)), [(0.0, 100, 11)])
    assert done.requests["prompt_at"][0] == 1
    assert done.requests["first_s"][0] == pytest.approx(0.05 + 0.1)
    assert done.requests["last_s"][0] == pytest.approx(0.05 + 0.1 + 0.1)


def test_a_token_machine_that_fails_sends_its_requests_through_the_prompt_pool_again() -> None:
    done = serve(cluster("split", ONE, 1, None, 2, Outage(1, 0.35)), [(0.0, 100, 51)])
    assert done.requests["token_at"][0] == 2
    assert done.requests["first_s"][0] == pytest.approx(0.1)
    assert done.requests["last_s"][0] == pytest.approx(0.35 + 0.1 + 0.5)
    gap_s = 0.35 + 0.1 - (0.1 + 0.25)  # at most: from the last token before the failure to the prompt's end
    assert done.requests["largest_gap_s"][0] >= gap_s - 0.011


def test_a_prompt_machine_that_fails_after_the_transfer_costs_nothing() -> None:
    rows = [(0.0, 100, 51)]
    whole = serve(cluster("split", ONE, 1, None, 1), rows)
    done = serve(cluster("split", ONE, 1, None, 1, Outage(0, 0.35)), rows)
    assert done.requests["last_s"][0] == whole.requests["last_s"][0]
    assert done.requests["restarts"][0] == 0


def test_either_end_of_a_transfer_that_fails_starts_the_request_again() -> None:
    slow = Degenerate(lambda tokens: 1e-6 * tokens, kv_bytes_per_token=1e6)  # 100 tokens: 0.1 s
    for machine, at in ((0, 2), (2, 3)):
        done = serve(cluster("split", slow, 2, None, 2, Outage(machine, 0.05)), [(0.0, 100, 2)])
        assert done.requests["restarts"][0] == 1
        assert at in (done.requests["prompt_at"][0] + 2, done.requests["token_at"][0])
        assert done.requests["last_s"][0] == pytest.approx(0.05 + 1e-4 + 0.1 + 1e-3)
        assert done.requests["first_s"][0] == pytest.approx(1e-4)


def test_a_transfer_that_fails_leaves_its_link_to_the_others() -> None:
    slow = Degenerate(lambda tokens: 1e-12 * tokens, kv_bytes_per_token=1e6)
    # both from machine 0, to machines 1 and 2 at half the link; 2 fails at 0.2 s and its request goes to 1 as well
    done = serve(cluster("split", slow, 1, None, 2, Outage(2, 0.2)), [(0.0, 300, 2), (0.0, 400, 2)])
    # the first has 0.2 left at 0.2 s, shared on both links with the second's 0.4: ends at 0.6, the second at 0.8
    assert done.requests["last_s"] == pytest.approx([0.6 + 1e-3, 0.8 + 1e-3])


def test_nobody_is_sent_to_a_machine_that_is_down() -> None:
    rows = [(0.1 * k, 100, 2) for k in range(50)]
    done = serve(cluster("mixed", ONE, 3, None, 1, Outage(1, 1.0, 3.0)), rows)
    arrival_s = done.requests["arrival_s"]
    during = (arrival_s > 1.0) & (arrival_s < 3.0) & (done.requests["restarts"] == 0)
    assert during.any() and not (done.requests["prompt_at"][during] == 1).any()


def test_a_machine_that_comes_back_is_last_in_its_pool() -> None:
    done = serve(cluster("mixed", ONE, 2, None, 1, Outage(0, 1.0, 2.0)), [(3.0, 100, 1), (4.0, 100, 1), (4.01, 100, 1)])
    assert done.requests["prompt_at"].tolist() == [1, 1, 0]


def test_both_replicas_of_a_machine_fail() -> None:
    two = perf(1e9, 2)
    done = serve(cluster("mixed", two, 2, None, 1, Outage(0, 0.01)), [(0.0, 1000, 5)] * 4)
    assert set(done.requests["prompt_at"]) == {2, 3}
    assert done.requests["restarts"].tolist() == [1, 1, 0, 0]


# -- pools without a machine


@pytest.mark.parametrize("policy", POLICIES)
def test_requests_are_held_until_the_only_machine_returns(policy: str, inside: Inside) -> None:
    rows = many(30)
    done = serve(cluster(policy, perf(), 1, None, 1, Outage(0, 0.5, 20.0)), rows)
    assert done.status == "finished"
    late = done.requests["first_s"] > 0.5
    if policy != "splitwise":  # where a token machine takes the prompts
        assert late.sum() > 15
        assert (done.requests["first_s"][late] > 20.0).all()
        assert done.requests["restarts"].any()
    inside.assert_empty(done)


@pytest.mark.parametrize("policy", ("split", "mixed", "chunked"))
def test_a_pool_that_never_returns_ends_the_run_and_says_how_many_are_left(policy: str) -> None:
    rows = many(30)
    done = serve(cluster(policy, perf(), 1, None, 1, Outage(0, 0.5)), rows)
    assert done.status == "stuck"
    left = int(np.isnan(done.requests["last_s"]).sum())
    assert left > 0
    assert int(done.clock["held"]) == left == int(done.clock["in_system"])
    assert int(done.clock["done"]) == 30 - left
    assert np.isinf(done.latencies.both("e2e")[0]).sum() == left


def test_with_a_mixed_pool_the_other_pool_takes_over() -> None:
    done = serve(cluster("splitwise", perf(), 1, None, 2, Outage(0, 0.5)), many(60, 0.5))
    assert done.status == "finished"
    assert int(done.clock["moves"]) > 0


def test_without_any_machine_all_are_held() -> None:
    gone = (Outage(0, 0.0), Outage(1, 0.0), Outage(2, 0.0))
    for policy in POLICIES:
        machines = (3, 1) if policy in ("mixed", "chunked") else (2, 1)
        done = serve(cluster(policy, perf(), machines[0], None, machines[1], *gone), many(10))
        assert done.status == "stuck"
        assert int(done.clock["held"]) == 10


def test_an_outage_after_the_last_request_changes_nothing() -> None:
    for policy in POLICIES:
        whole = serve(cluster(policy, perf(), 2, None, 2), many(50))
        done = serve(cluster(policy, perf(), 2, None, 2, Outage(0, 1e6)), many(50))
        np.testing.assert_array_equal(whole.requests, done.requests)


# -- at large


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("retry_s", [0.0, 1.0])
@pytest.mark.parametrize("capacity", [6_000.0, 1e9])
def test_several_outages(policy: str, retry_s: float, capacity: float, inside: Inside) -> None:
    rule = Policy(policy, transfer_retry_s=retry_s, max_pending_tokens=2000)  # type: ignore[arg-type]
    outages = [Outage(m, 3.0 + 2.1 * k + 0.7 * m, 4.5 + 2.1 * k + 0.7 * m) for m in range(3) for k in range(5)]
    done = serve(cluster(rule, perf(capacity), 2 if policy in ("splitwise", "split") else 4, None, 2, *outages), many())
    assert done.status == "finished"
    assert done.requests["restarts"].max() >= 1
    inside.assert_empty(done)
    assert (done.replicas["most_used_tokens"] <= capacity + (policy == "chunked")).all()
    assert done.replicas["generated_tokens"].sum() >= done.requests["output_tokens"].sum()


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("assumptions", ["measured", "splitwise-sim"])
def test_a_shipped_machine_fails_under_load(policy: str, assumptions: str, inside: Inside) -> None:
    here = shipped("bloom-176b", "dgx-h100", assumptions)  # type: ignore[arg-type]
    rows = many(800, 0.1, 3)
    outages = (Outage(0, 20.0, 40.0), Outage(4, 30.0, 35.0), Outage(5, 60.0))
    done = serve(
        cluster(policy, here, 4 if policy in ("splitwise", "split") else 7, None, 3, *outages),
        ready(rows, alone("bloom-176b", assumptions)),  # type: ignore[arg-type]
    )
    assert done.status == "finished"
    assert done.requests["restarts"].any()
    inside.assert_empty(done)


@st.composite
def troubles(draw: st.DrawFn) -> tuple[Outage, ...]:
    """Up to six outages of four machines, some at once, some on the moment of an arrival, most of them with an end."""
    found = []
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.sampled_from([0.0, 0.01, 0.1, 0.11, 0.25, 0.31, 0.5, 1.0, 1.7, 3.0]))
        lasts = draw(st.sampled_from([0.001, 0.05, 0.5, 2.0]))
        found.append(Outage(draw(st.integers(0, 3)), at, at + lasts))
    return tuple(found)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    policy=st.sampled_from(POLICIES),
    outages=troubles(),
    retry_s=st.sampled_from([0.0, 0.25]),
    share=st.booleans(),
    capacity=st.sampled_from([4_000.0, 1e9]),
    per_machine=st.integers(1, 2),
    seed=st.integers(0, 50),
    in_flight=st.sampled_from([None, None, 5]),
)
def test_nothing_is_lost(
    policy: str,
    outages: tuple[Outage, ...],
    retry_s: float,
    share: bool,
    capacity: float,
    per_machine: int,
    seed: int,
    in_flight: int | None,
    inside: Inside,
) -> None:
    rule = Policy(policy, transfer_retry_s=retry_s, share_links=share, max_pending_tokens=1500)  # type: ignore[arg-type]
    arrival, prompt, output = (np.array(column) for column in zip(*many(40, 0.05, seed), strict=True))
    if in_flight:
        arrival = np.zeros(40)
    requests = RequestSet(arrival, prompt, output, rate_rps=1.0, in_flight=in_flight)
    machines = (2, 2) if policy in ("splitwise", "split") else (4, 1)
    done = serve(cluster(rule, perf(capacity, per_machine), machines[0], None, machines[1], *outages), requests)
    # whole requests, and transfers both ways, can hold the memory that each other waits for
    assume(done.status == "finished" or capacity == 1e9 or policy in ("split", "chunked"))
    assert done.status == "finished"
    inside.assert_empty(done)
    assert np.isfinite(done.requests["last_s"]).all()
    assert (done.requests["first_s"] <= done.requests["last_s"]).all()
    assert (done.replicas["pool"] == done.replicas["home"]).all() or policy == "splitwise"


# -- bad input


def test_an_outage_of_a_machine_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match=r"machine 4: the cluster has machines 0 to 3"):
        cluster("split", perf(), 2, None, 2, Outage(4, 1.0))


@pytest.mark.parametrize(
    ("machine", "at_s", "until_s"), [(-1, 0.0, 1.0), (0, -1.0, 1.0), (0, 2.0, 1.0), (0, float("nan"), None)]
)
def test_outages_that_make_no_sense_are_refused(machine: int, at_s: float, until_s: float | None) -> None:
    with pytest.raises(InputError):
        Outage(machine, at_s, until_s)

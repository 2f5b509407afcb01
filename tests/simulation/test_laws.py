"""Laws of every run, over small clusters and requests that hypothesis makes up."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from provisioner.errors import InputError
from provisioner.simulation import run as run_module
from provisioner.simulation.cluster import Cluster, Outage
from provisioner.simulation.policy import Policy
from provisioner.simulation.requests import RequestSet
from provisioner.simulation.run import Run, StopLimit
from tests.simulation.clusters import Degenerate, Rows, cluster, e2e_s, request_set, serve, ttft_s
from tests.simulation.conftest import Inside

CAPACITY = 6_000.0  # short for the longer requests: some wait for memory
SECONDS_PER_KIND = ("prompts_busy_s", "tokens_busy_s", "mixed_busy_s")

laws = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@lru_cache
def perf(scale: float = 1.0, capacity: float = CAPACITY, per_machine: int = 1, link: float = 1e9) -> Degenerate:
    """Times all multiplied by a power of 2: transfers too, by the link's speed. A transfer takes up to about 0.2 s."""
    return Degenerate(
        lambda tokens: scale * (0.01 + 1e-4 * tokens),
        lambda batch, context: scale * (0.01 + 1e-3 * batch + 1e-7 * context),
        kv_capacity_tokens=capacity,
        kv_bytes_per_token=1e5,
        link_bytes_per_s=link / scale,
        replicas_per_machine=per_machine,
    )


@dataclass(frozen=True)
class Case:
    """A cluster and requests in short."""

    policy: Policy
    machines: int
    others: int
    per_machine: int
    rows: Rows

    def cluster(self, scale: float = 1.0, capacity: float = CAPACITY, *outages: Outage) -> Cluster:
        here = perf(scale, capacity, self.per_machine)
        return cluster(self.policy, here, self.machines, here, self.others, *outages)


policies = st.builds(
    Policy,
    st.sampled_from(["splitwise", "split", "mixed", "chunked"]),
    max_pending_tokens=st.sampled_from([500, 8192]),
    batch_requests=st.sampled_from([2, 512]),
    batch_tokens=st.sampled_from([64, 600, 2048]),
    max_preemptions=st.sampled_from([1, 2, 4]),
    transfer_retry_s=st.sampled_from([0.0, 0.25]),
    share_links=st.booleans(),
)


@st.composite
def rows(draw: st.DrawFn) -> Rows:
    """Up to 40 requests, at most a third of the memory each; some at the same time."""
    count = draw(st.integers(1, 40))
    gaps = draw(st.lists(st.sampled_from([0.0, 0.001, 0.01, 0.037, 0.31, 2.0]), min_size=count, max_size=count))
    prompts = draw(st.lists(st.sampled_from([1, 13, 100, 601, 1500]), min_size=count, max_size=count))
    outputs = draw(st.lists(st.sampled_from([1, 2, 3, 30, 400]), min_size=count, max_size=count))
    return list(zip(np.cumsum(gaps).tolist(), prompts, outputs, strict=True))


cases = st.builds(Case, policies, st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), rows())


def same(one: Run, other: Run) -> None:
    assert one.status == other.status
    np.testing.assert_array_equal(one.batch_time_s, other.batch_time_s)
    for ours, theirs in ((one.requests, other.requests), (one.replicas, other.replicas)):
        for field in ours.dtype.names or ():  # field by field: NaN is itself then
            np.testing.assert_array_equal(ours[field], theirs[field])


@laws
@given(case=cases)
def test_every_request_completes_once_and_nothing_is_left(case: Case, inside: Inside) -> None:
    done = serve(case.cluster(), case.rows)
    # transfers both ways can hold the memory that each other waits for
    assume(done.status == "finished" or case.policy.name != "splitwise")
    assert done.status == "finished"
    inside.assert_empty(done)
    this = done.requests
    assert (this["arrival_s"] < this["first_s"]).all()
    single = this["output_tokens"] == 1
    assert (this["first_s"][single] == this["last_s"][single]).all()
    assert (this["first_s"][~single] < this["last_s"][~single]).all()
    tbt_s = (this["last_s"] - this["first_s"])[~single] / (this["output_tokens"][~single] - 1)
    assert (this["largest_gap_s"][~single] >= tbt_s * (1 - 1e-9)).all()
    generated = this["output_tokens"].sum()
    assert done.replicas["generated_tokens"].sum() == generated


@laws
@given(cases)
def test_memory_is_never_above_its_capacity(case: Case) -> None:
    done = serve(case.cluster(), case.rows)
    assert (done.replicas["most_used_tokens"] <= CAPACITY + (case.policy.name == "chunked")).all()
    assert (done.replicas["used_tokens"] >= 0).all()


@laws
@given(case=cases)
def test_enough_memory_never_gets_stuck(case: Case, inside: Inside) -> None:
    done = serve(case.cluster(1.0, 1e9), case.rows)
    assert done.status == "finished"
    inside.assert_empty(done)
    assert int(done.clock["retries"]) == 0


@laws
@given(cases)
def test_no_request_is_faster_than_alone(case: Case) -> None:
    """Its prompt, its transfer's last layer and its decodes alone bound it from below."""
    assume(case.policy.name != "chunked")  # a chunk's context counts nothing where the curve is linear
    done = serve(case.cluster(1.0, 1e9), case.rows)
    output = done.requests["output_tokens"]
    assert (ttft_s(done) >= perf().prompt_s(done.requests["prompt_tokens"]) * (1 - 1e-9)).all()
    assert (e2e_s(done) >= ttft_s(done) + (output - 1) * 0.011 * (1 - 1e-9)).all()


@laws
@given(cases)
def test_same_question_same_answer(case: Case) -> None:
    same(serve(case.cluster(), case.rows), serve(case.cluster(), case.rows))


@laws
@given(cases, st.sampled_from([0.5, 4.0]))
def test_all_times_twice_as_long_is_another_clock(case: Case, scale: float) -> None:
    """Powers of two, so that not a bit changes; the fixed exchange after the last layer does not scale."""
    assume(case.policy.name in ("mixed", "chunked"))
    slower = [(scale * at, prompt, output) for at, prompt, output in case.rows]
    one, other = serve(case.cluster(), case.rows), serve(case.cluster(scale), slower)
    assert one.status == other.status
    np.testing.assert_array_equal(scale * one.requests["first_s"], other.requests["first_s"])
    np.testing.assert_array_equal(scale * one.requests["last_s"], other.requests["last_s"])


@laws
@given(cases, st.sampled_from([1, 7, 1000]), st.booleans())
def test_pausing_changes_nothing(case: Case, events: int, timeline: bool) -> None:
    whole = serve(case.cluster(), case.rows, timeline=timeline)
    told: list[tuple[float, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "_EVENTS_PER_CALL", events)
        paused = serve(
            case.cluster(), case.rows, timeline=timeline, progress=lambda now_s, count: told.append((now_s, count))
        )
    same(whole, paused)
    np.testing.assert_array_equal(whole.timeline, paused.timeline)
    assert told == sorted(told)
    assert len(told) >= int(whole.clock["events"]) // events - 1


@laws
@given(cases)
def test_room_for_lists_and_timelines_changes_nothing(case: Case) -> None:
    whole = serve(case.cluster(), case.rows, timeline=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "_FIRST_ROOM", 1)
        patch.setattr(run_module, "_TIMELINE_ROOM", 3)
        tight = serve(case.cluster(), case.rows, timeline=True)
    same(whole, tight)
    np.testing.assert_array_equal(whole.timeline, tight.timeline)


@pytest.mark.parametrize("policy", ["splitwise", "split", "mixed", "chunked"])
def test_the_arena_grows(policy: str, inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """Queues of thousands: the arena is copied to a larger one in the middle of the run."""
    rng = np.random.default_rng(4)
    requests = RequestSet(
        np.cumsum(rng.exponential(1e-4, 6_000)), rng.integers(100, 900, 6_000), rng.integers(1, 9, 6_000), rate_rps=1e4
    )
    here = cluster(policy, perf(1.0, 1e9), 2)
    roomy = serve(here, requests)
    monkeypatch.setattr(run_module, "_FIRST_ROOM", 1)
    done = serve(here, requests)
    assert inside.arrays["arena"].size > 4 * 16_384
    inside.assert_empty(done)
    same(roomy, done)


@laws
@given(
    cases,
    st.sampled_from(["ttft", "tbt", "e2e"]),
    st.sampled_from(["seconds", "slowdown"]),
    st.floats(0.001, 3.0),
    st.integers(0, 20),
)
def test_early_rejection_is_exact(case: Case, metric: str, kind: str, value: float, most: int) -> None:
    """Rejected if and only if more measured requests than allowed are beyond the limit at the end."""
    whole = serve(case.cluster(1.0, 1e9), case.rows)
    values = whole.latencies.both(metric)[kind == "slowdown"]
    beyond = int(np.sum(values > value))
    # a value that is the limit to the last digit may be counted either way
    assume(not np.isclose(values, value, rtol=1e-12).any())
    limit = StopLimit(metric, kind, value, most)  # type: ignore[arg-type]
    stopped = serve(case.cluster(1.0, 1e9), case.rows, stop=[limit])
    assert stopped.status == ("rejected" if beyond > most else "finished")
    if stopped.status == "finished":
        same(whole, stopped)
    assert int(stopped.clock["events"]) <= int(whole.clock["events"])


@laws
@given(cases, st.floats(0.0, 3.0))
def test_early_rejection_counts_measured_requests_only(case: Case, from_s: float) -> None:
    requests = request_set(case.rows)
    assume((requests.arrival_s >= from_s).any())
    requests = replace(requests, from_s=from_s)
    limit = StopLimit("ttft", "seconds", 0.0, int(requests.counted.sum()) - 1)
    done = serve(case.cluster(1.0, 1e9), requests, stop=[limit])
    assert done.status == "rejected"
    assert np.isfinite(done.requests["first_s"][requests.counted]).all()


@laws
@given(cases)
def test_timeline_stretches_do_not_overlap_and_sum_to_the_busy_time(case: Case) -> None:
    done = serve(case.cluster(), replace(request_set(case.rows), until_s=np.inf), timeline=True)
    line = done.timeline
    assert (line["end_s"] >= line["start_s"]).all()
    assert (line["batch"] >= 1).all()
    end_s = float(done.clock["until_s"])
    for r, replica in enumerate(done.replicas):
        here = line[line["replica"] == r]
        assert (here["start_s"][1:] >= here["end_s"][:-1]).all()
        inside_s = np.maximum(np.minimum(here["end_s"], end_s) - here["start_s"], 0.0)
        for kind, field in enumerate(SECONDS_PER_KIND):
            assert inside_s[here["kind"] == kind].sum() == pytest.approx(replica[field], abs=1e-9)
    busy_s = sum(done.replicas[field].sum() for field in SECONDS_PER_KIND)
    assert done.batch_time_s[:, 1:].sum() == pytest.approx(busy_s, abs=1e-9)


@laws
@given(cases)
def test_an_idle_timeline_changes_nothing(case: Case) -> None:
    same(serve(case.cluster(), case.rows), serve(case.cluster(), case.rows, timeline=True))


@laws
@given(cases)
def test_splitwise_that_never_lends_is_split(case: Case) -> None:
    """With queues and memory without limit, the cluster-level rules are those of strict pools."""
    ample = 1 << 40
    lends = replace(case.policy, name="splitwise", max_pending_tokens=ample)
    strict = replace(case.policy, name="split", max_pending_tokens=ample)
    runs = [serve(replace(case, policy=each).cluster(1.0, 1e9), case.rows) for each in (lends, strict)]
    np.testing.assert_array_equal(runs[0].requests["last_s"], runs[1].requests["last_s"])
    assert int(runs[0].clock["moves"]) == 0


@laws
@given(cases, st.integers(1, 8))
def test_a_closed_loop_holds_so_many_requests(case: Case, in_flight: int) -> None:
    _, prompt, output = (np.array(column) for column in zip(*case.rows, strict=True))
    requests = RequestSet(np.zeros(prompt.size), prompt, output, rate_rps=float("nan"), in_flight=in_flight)
    done = serve(case.cluster(1.0, 1e9), requests)
    assert done.status == "finished"
    arrival_s, last_s = done.requests["arrival_s"], done.requests["last_s"]
    for now_s in arrival_s:
        there = np.sum((arrival_s <= now_s) & (last_s > now_s))
        assert there <= in_flight
    ends = np.sort(last_s)
    np.testing.assert_array_equal(arrival_s[in_flight:], ends[: max(prompt.size - in_flight, 0)])


@laws
@given(rows(), st.integers(1, 4))
def test_more_prompt_replicas_never_delay_the_kth_first_token_of_equal_prompts(these: Rows, machines: int) -> None:
    """Equal prompts one at a time, each to the shortest queue: the k-th first token of all comes no later."""
    equal = [(at, 1500, 1) for at, _, _ in these]
    policy = Policy("split")
    fewer, more = (serve(cluster(policy, perf(1.0, 1e9), m), equal) for m in (machines, machines + 1))
    # not request by request: one replica passes waiting prompts over, so that a late one may come before them
    assert (np.sort(more.requests["first_s"]) <= np.sort(fewer.requests["first_s"]) + 1e-9).all()


@pytest.mark.parametrize("policy", ["mixed", "splitwise"])
def test_requests_that_block_each_other_for_ever_end_the_run(policy: str) -> None:
    """By the published rules a prompt takes the memory of a prompt alone, and several can starve their outputs."""
    here = Degenerate(
        lambda tokens: 1e-3 * tokens, kv_capacity_tokens=2_500.0, assumptions="splitwise-sim", kv_bytes_per_token=1e3
    )
    # 3 x 701 tokens of prompts fit, and then none of the 3 x 999 of outputs
    these = [(0.0, 700, 1000), (0.001, 700, 1000), (0.002, 700, 1000), (0.003, 1000, 1000)]
    done = serve(cluster(Policy(policy).as_published(), here), these)  # type: ignore[arg-type]
    assert done.status in ("stuck", "finished")
    left = np.isnan(done.requests["last_s"])
    assert (done.status == "stuck") == bool(left.any())
    assert int(done.clock["events"]) < 10_000
    if policy == "mixed":
        assert done.status == "stuck" and left.sum() >= 3
        assert np.isinf(done.latencies.both("e2e")[0]).sum() == left.sum()


def test_transfers_that_cross_between_full_machines_end_the_run() -> None:
    """Each holds the memory at its source that the other one needs."""
    here = Degenerate(lambda tokens: 1e-3 * tokens, kv_capacity_tokens=1000.0)
    these = [(0.001, 500, 20), (0.051, 10, 2), (0.052, 500, 2)]
    done = serve(cluster(Policy("splitwise", max_pending_tokens=200), here), these)
    assert done.status == "stuck"
    assert np.isnan(done.requests["last_s"]).tolist() == [True, False, True]


def test_sequences_that_hold_their_memory_run_past_a_prompt_that_has_none() -> None:
    here = Degenerate(lambda tokens: 1e-3 * tokens, lambda batch, _: 0.01 + 0.0 * batch, kv_capacity_tokens=1000.0)
    these = [(0.0, 50, 5), (0.001, 500, 300), (0.001, 500, 300), (0.051, 300, 2)]
    done = serve(cluster(Policy("mixed", max_preemptions=1), here), these)
    assert done.status == "finished"


def test_a_limit_of_no_preemption_is_refused() -> None:
    """A token task would go first together with its own prompt."""
    with pytest.raises(InputError, match="max_preemptions: must be 1 or more"):
        Policy("mixed", max_preemptions=0)

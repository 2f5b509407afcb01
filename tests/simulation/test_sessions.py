"""Turns of sessions, which arrive after the answers before them: closed forms, an oracle, replays, laws, stability."""

from dataclasses import replace

import numpy as np
import pytest

from provisioner.simulation.cluster import Outage
from provisioner.simulation.policy import Policy
from provisioner.simulation.requests import RequestSet, from_trace
from provisioner.simulation.run import Run, run
from provisioner.simulation.stability import observed_backlog, stability
from provisioner.specs import catalog
from provisioner.specs.trace_formats import FORMATS
from provisioner.specs.traces import Trace
from tests.oracles.simulation import Requests, simulate_mixed, simulate_split
from tests.simulation.clusters import Degenerate, alone, cluster, ready, serve, shipped

POLICIES = ("splitwise", "split", "mixed", "chunked")
NEVER = 1 << 40
PLAIN = Degenerate(lambda tokens: 1e-3 * tokens, lambda batch, context: 0.01 + 0.002 * batch + 1e-6 * context)


def sessions(
    count: int, over_s: float, think_s: float, seed: int = 0, turns: float = 4.0, workload: str = "conversation"
) -> RequestSet:
    """Sessions that start at random times, of a geometric number of turns with random delays; some have no delay."""
    rng = np.random.default_rng(seed)
    length = rng.geometric(1.0 / turns, count)
    n = int(length.sum())
    prompt, output = catalog.workload(workload).sample(rng, n)
    first = np.cumsum(length) - length
    follows = np.arange(n) - 1
    follows[first] = -1
    delay_s = np.where(rng.random(n) < 0.2, 0.0, rng.exponential(think_s, n))
    delay_s[first] = np.nan
    arrival_s = np.repeat(np.sort(rng.uniform(0.0, over_s, count)), length)
    read = Trace("sessions", arrival_s, prompt, output, FORMATS[0], follows=follows, delay_s=delay_s)
    return from_trace(read.arriving(arrival_s))


def places(done: Run, given: RequestSet) -> np.ndarray:
    """Places of the requests as given, by order of arrival: told by their session's first time and number of turn."""

    def marks(requests: RequestSet, start_s: np.ndarray) -> list[tuple[float, int]]:
        assert requests.follows is not None
        found: list[tuple[float, int]] = []
        for k, before in enumerate(requests.follows.tolist()):
            found.append((found[before][0], found[before][1] + 1) if before >= 0 else (float(start_s[k]), 0))
        return found

    came = {mark: k for k, mark in enumerate(marks(done.prepared.requests, done.requests["arrival_s"]))}
    return np.array([came[mark] for mark in marks(given, given.arrival_s)])


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("machine", ["dgx-a100", "dgx-h100"])
def test_turns_of_one_session_on_an_empty_cluster_add_up(policy: str, machine: str) -> None:
    """Turn k arrives when the answers before it and the delays have passed, to a nanosecond."""
    perf = shipped("llama2-70b", machine)
    rows = [(700, 20), (1500, 1), (1900, 90), (30, 2)]
    delay_s = np.array([np.nan, 0.5, 0.0, 2.25])
    prompt, output = (np.array(side) for side in zip(*rows, strict=True))
    earliest = np.array([3.0, 3.5, 3.5, 5.75])
    given = RequestSet(earliest, prompt, output, 1.0, follows=np.arange(4) - 1, delay_s=delay_s)
    done = serve(cluster(policy, perf, 1, None, 1), given)
    now_s, arrivals = 3.0, []
    for (p, o), wait_s in zip(rows, np.nan_to_num(delay_s), strict=True):
        now_s += wait_s
        arrivals.append(now_s)
        moves = policy in ("splitwise", "split") and o > 1
        now_s += float(perf.prompt_s(float(p))) + (float(perf.transfer_visible_s(float(p), perf)) if moves else 0.0)
        now_s += float(perf.decode_s(np.ones(o - 1), p + 1 + np.arange(o - 1.0)).sum())
    assert np.abs(done.requests["arrival_s"] - arrivals).max() < 1e-9
    assert abs(done.requests["last_s"][-1] - now_s) < 1e-9
    assert done.prepared.requests.rate_rps == pytest.approx(3.0 / (arrivals[-1] - 3.0))


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("pools", ["split", "mixed"])
def test_the_oracle_lets_the_same_turns_arrive_at_the_same_times(pools: str, seed: int) -> None:
    """Loads up to several times what the cluster can do; memory for all, as in ``test_oracle``."""
    perf = replace(shipped("llama2-70b", "dgx-h100"), kv_capacity_tokens=1e9)  # type: ignore[type-var]
    rng = np.random.default_rng([9, seed])
    given = sessions(120, float(rng.uniform(20.0, 200.0)), float(rng.choice([0.0, 0.3, 5.0])), seed)
    if pools == "mixed":  # as in ``test_oracle``
        tokens = 256 * (1 + given.prompt_tokens // 256), np.maximum(given.output_tokens, 2)
        given = replace(given, prompt_tokens=tokens[0], output_tokens=tokens[1])
    slow = Requests(given.arrival_s, given.prompt_tokens, given.output_tokens, given.follows, given.delay_s)
    policy = Policy(pools, share_links=False, max_preemptions=NEVER)  # type: ignore[arg-type]
    done = run(cluster(policy, perf, 2, perf, 3), ready(given, alone("llama2-70b")))
    theirs = simulate_split(slow, perf, perf, 2, 3) if pools == "split" else simulate_mixed(slow, perf, 2)
    at = places(done, given)
    assert done.status == "finished"
    assert done.requests["arrival_s"][at] == pytest.approx(theirs.arrival_s, rel=1e-9, abs=1e-9)
    assert done.latencies.both("ttft")[0][at] == pytest.approx(theirs.ttft_s, rel=1e-6)
    assert done.latencies.both("e2e")[0][at] == pytest.approx(theirs.e2e_s, rel=1e-6)


@pytest.mark.parametrize("policy", [*POLICIES, "published"])
@pytest.mark.parametrize("think_s", [0.0, 2.0])
def test_each_turn_comes_once_and_a_replay_of_its_times_is_the_same_run(policy: str, think_s: float) -> None:
    """An ordinary trace of the arrivals that sessions caused has the same latencies to the last digit."""
    assumptions = "splitwise-sim" if policy == "published" else "measured"
    perf = shipped("llama2-70b", "dgx-h100", assumptions)
    rule = Policy("splitwise").as_published() if policy == "published" else Policy(policy)  # type: ignore[arg-type]
    which, given = cluster(rule, perf, 1, None, 1), sessions(150, 60.0, think_s)
    done = run(which, ready(given, alone("llama2-70b", assumptions)))
    came = done.prepared.requests
    assert done.status == "finished" and came.follows is not None and came.delay_s is not None
    assert sorted(places(done, given).tolist()) == list(range(given.requests))
    assert came.prompt_tokens.tolist() == done.requests["prompt_tokens"].tolist()
    assert sorted(came.output_tokens.tolist()) == sorted(given.output_tokens.tolist())
    waits = came.follows >= 0
    after_s = done.requests["last_s"][came.follows[waits]] + came.delay_s[waits]
    assert came.arrival_s[waits].tolist() == after_s.tolist()
    assert (np.diff(came.arrival_s) >= 0.0).all()
    plain = RequestSet(came.arrival_s, came.prompt_tokens, came.output_tokens, came.rate_rps)
    again = run(which, ready(plain, alone("llama2-70b", assumptions)))
    for name in ("arrival_s", "first_s", "last_s", "largest_gap_s", "prompt_at", "token_at", "interrupted", "counted"):
        assert again.requests[name].tolist() == done.requests[name].tolist(), name
    for name in ("used_tokens", "generated_tokens", "prompts_busy_s", "queue_s", "kv_token_s", "iterations"):
        assert again.replicas[name] == pytest.approx(done.replicas[name], rel=1e-12), name
    assert (again.clock["until_s"], again.batch_time_s.tolist()) == (done.clock["until_s"], done.batch_time_s.tolist())


def test_turns_far_apart_are_alone() -> None:
    """The limit of long delays: every turn meets an empty cluster, as a request with a time of its own would."""
    given = sessions(6, 1.0, 1e6)
    apart = replace(given, delay_s=given.delay_s + 1e5 * (1 + np.arange(given.requests)))  # type: ignore[operator]
    done = serve(cluster("mixed", PLAIN), ready(apart))
    for k in np.flatnonzero(done.prepared.requests.follows != -1).tolist():
        row = [(0.0, int(done.requests["prompt_tokens"][k]), int(done.requests["output_tokens"][k]))]
        by_itself = serve(cluster("mixed", PLAIN), row).requests["last_s"][0]
        assert done.requests["last_s"][k] - done.requests["arrival_s"][k] == pytest.approx(by_itself, abs=1e-7)


def test_sessions_without_any_wait_are_an_ordinary_trace() -> None:
    given = sessions(50, 20.0, 1.0, turns=1.0)
    done = serve(cluster("mixed", PLAIN), given)
    plain = RequestSet(given.arrival_s, given.prompt_tokens, given.output_tokens, given.rate_rps)
    assert done.requests["last_s"].tolist() == serve(cluster("mixed", PLAIN), plain).requests["last_s"].tolist()


def test_a_failed_machine_delays_what_waits_for_its_answers() -> None:
    given = sessions(80, 40.0, 1.0)
    which = cluster("split", shipped("llama2-70b", "dgx-h100"), 2, None, 2)
    broken = replace(which, outages=(Outage(0, 5.0, 30.0), Outage(3, 10.0, 15.0)))
    usual, done = (run(each, ready(given, alone("llama2-70b"))) for each in (which, broken))
    assert done.status == "finished" and done.requests["restarts"].sum() > 0
    assert sorted(places(done, given).tolist()) == list(range(given.requests))
    assert done.requests["arrival_s"].mean() > usual.requests["arrival_s"].mean()


def test_turns_whose_answer_never_comes_are_left_unfinished() -> None:
    """The one machine fails for good: what waits for its answers does not arrive, and counts as unfinished."""
    given = sessions(40, 40.0, 1.0)
    which = replace(cluster("mixed", shipped("llama2-70b", "dgx-h100")), outages=(Outage(0, 12.0, None),))
    done = run(which, ready(given, alone("llama2-70b")))
    assert done.status == "stuck"
    ended = np.count_nonzero(~np.isnan(done.requests["last_s"]))
    assert 0 < ended < given.requests
    assert sorted(done.prepared.requests.output_tokens.tolist()) == sorted(given.output_tokens.tolist())
    found = observed_backlog(done)
    assert (found.unfinished, found.arrived) == (given.requests - ended, given.requests)
    assert stability([found])[0] is False


def test_the_measured_window_is_of_the_arrivals_as_they_come() -> None:
    given = replace(sessions(80, 40.0, 3.0), from_s=30.0)
    done = serve(cluster("mixed", PLAIN), given)
    measured = done.requests["arrival_s"] >= 30.0
    assert 0 < np.count_nonzero(measured) < given.requests
    assert done.requests["counted"].tolist() == measured.tolist() == done.latencies.counted.tolist()


def judged(rate: float, seed: int, turns: float = 4.0, think_s: float = 5.0) -> tuple[bool | None, float]:
    """Whether one machine is stable at a rate of requests over its capacity for them, and the growth."""
    perf, reference = shipped("llama2-70b", "dgx-h100"), alone("llama2-70b")
    given = sessions(int(1_200 * rate * CAPACITY_RPS / turns), 1_200.0, think_s, seed, turns)
    found = observed_backlog(run(cluster("mixed", perf), ready(given, reference)))
    return stability([found])[0], found.growth


CAPACITY_RPS = 6.5
"""Conversations per second that one DGX-H100 completes under mixed batching with thousands waiting."""


@pytest.mark.parametrize("seed", range(3))
def test_a_cluster_that_sessions_overload_is_not_stable(seed: int) -> None:
    """Turns wait for answers, so that fewer come than are offered; sessions start faster than they end all the same."""
    stable, growth = judged(1.6, seed)
    assert stable is False
    assert growth == pytest.approx(0.6, abs=0.25)
    assert judged(0.5, seed)[0] is True


def test_sessions_longer_than_the_trace_do_not_tell() -> None:
    assert judged(1.6, 0, turns=40.0, think_s=60.0)[0] is None


def test_sessions_that_start_together_do_not_tell() -> None:
    given = sessions(30, 0.0, 1.0)
    found = observed_backlog(serve(cluster("mixed", PLAIN), given))
    assert stability([found])[0] is None

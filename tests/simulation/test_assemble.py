"""Assembly of a result from runs: values by hand, means over sets, and threads that stop."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from queue import SimpleQueue
from threading import active_count

import numpy as np
import pytest

from provisioner.errors import InputError
from provisioner.perf.assumptions import reference, replica
from provisioner.simulation import serve as serving
from provisioner.simulation.assemble import Observation, Scenario, assemble, observe, percentiles_of
from provisioner.simulation.cluster import Cluster, Outage, Pool
from provisioner.simulation.policy import Policy
from provisioner.simulation.requests import RequestSet
from provisioner.simulation.run import prepare, run
from provisioner.simulation.serve import serve
from provisioner.specs.slo import NAMED_SLOS, SLO, LatencyLimit

H100, ALONE = replica("llama2-70b", "dgx-h100"), reference("llama2-70b")
ONE_MIXED = Cluster((Pool("mixed", H100, 1),), Policy("mixed"))


def apart(count: int = 4, output: int = 11) -> RequestSet:
    """Requests of 1,000 prompt tokens so far apart that none meets another."""
    return RequestSet(
        np.arange(count) * 100.0, np.full(count, 1000), np.full(count, output), rate_rps=0.01, description="apart"
    )


def scenario(make: Callable[[int], RequestSet], sets: int = 1, cluster: Cluster = ONE_MIXED, slo: SLO | None = None):  # type: ignore[no-untyped-def]
    return Scenario(
        design="Baseline-H100",
        cluster=cluster,
        reference=ALONE,
        request_set=make,
        sets=sets,
        expected_requests=4.0,
        percentiles=(50.0, 90.0, 99.0),
        slo=slo or NAMED_SLOS["splitwise"],
        workload="apart",
    )


def observed(requests: RequestSet, cluster: Cluster = ONE_MIXED) -> Observation:
    found = run(cluster, prepare(requests, ALONE))
    return observe(found, percentiles_of(found.latencies, (50.0, 90.0, 99.0)), 0.25)


def test_requests_alone_take_the_time_of_their_iterations() -> None:
    seen = observed(apart())
    prompt_s = float(H100.prompt_s(1000))
    tokens_s = sum(float(H100.decode_s(1, 1001 + k)) for k in range(10))
    assert seen.seconds["ttft"] == pytest.approx((prompt_s,) * 3)
    assert seen.seconds["e2e"] == pytest.approx((prompt_s + tokens_s,) * 3)
    assert seen.seconds["tbt"] == pytest.approx((tokens_s / 10,) * 3)
    assert seen.slowdown["ttft"][0] == pytest.approx(prompt_s / float(ALONE.ttft_s(1000)))
    (pool,) = seen.pools
    # the window ends with the last arrival, at 300 s: three requests are served in it
    assert pool.prompt_busy == pytest.approx(3 * prompt_s / 300.0)
    assert pool.token_busy == pytest.approx(3 * tokens_s / 300.0)
    assert pool.utilization == pytest.approx(pool.prompt_busy + pool.token_busy)
    assert pool.batch_time_share == pytest.approx((1.0 - pool.utilization, pool.utilization))
    assert (pool.mean_batch, pool.mean_waiting, pool.most_waiting) == (1.0, 0.0, 1.0) or pool.most_waiting == 0.0
    assert pool.kv_memory_most == pytest.approx(1011 / H100.kv_capacity_tokens, rel=1e-3)
    assert seen.throughput_rps == pytest.approx(3 / 300.0)
    assert seen.throughput_tokens_per_s == pytest.approx(33 / 300.0)
    assert (seen.requests, seen.measured_requests, seen.moves, seen.preemptions, seen.restarts) == (4, 4, 0, 0, 0)


def test_a_trace_of_one_moment_has_no_shares_of_time() -> None:
    at_once = RequestSet(np.zeros(3), np.full(3, 10), np.full(3, 2), rate_rps=math.inf)
    seen = observed(at_once)
    assert math.isnan(seen.throughput_rps)
    assert seen.pools[0].utilization == 0.0 and seen.pools[0].batch_time_share == (1.0,)
    found = assemble(scenario(lambda _: at_once), [seen])
    assert found.to_dict()["throughput_rps"] is None and found.stable is None


def test_a_percentile_that_no_request_is_beyond_is_said_to_be() -> None:
    rare = replace(scenario(lambda _: apart(60)), percentiles=(50.0, 90.0, 99.0, 99.9))

    def notes(requests: int) -> list[str]:
        run_of = run(rare.cluster, prepare(apart(requests), rare.reference))
        seen = observe(run_of, percentiles_of(run_of.latencies, rare.percentiles), 0.0)
        return [note for note in assemble(rare, [seen]).warnings if "too few" in note]

    few = "not one request is beyond it in a set of"
    assert notes(60) == [f"P99, P99.9: {few} 60 measured: too few to tell it"]
    assert notes(100) == [f"P99.9: {few} 100 measured: too few to tell it"]
    assert notes(1000) == []


def test_one_token_has_no_time_between_tokens() -> None:
    seen = observed(apart(output=1))
    assert seen.seconds["tbt"] == (-math.inf,) * 3
    found = assemble(scenario(lambda _: apart(output=1)), [seen])
    assert found.slo_met is True
    assert all(row["seconds"]["mean"] is None for row in found.to_dict()["latency"] if row["metric"] == "tbt")


def test_sets_are_averaged_and_peaks_are_the_largest() -> None:
    one, other = observed(apart()), observed(apart(output=31))
    found = assemble(scenario(lambda _: apart(), sets=2), [one, other])
    first, second, mean = one.pools[0], other.pools[0], found.pools[0]
    assert mean.utilization == pytest.approx((first.utilization + second.utilization) / 2)
    assert mean.kv_memory_most == max(first.kv_memory_most, second.kv_memory_most)
    assert sum(mean.batch_time_share) == pytest.approx(1.0)
    e2e = next(each for each in found.latency if each.metric == "e2e")
    assert e2e.seconds.values == (one.seconds["e2e"][0], other.seconds["e2e"][0])
    assert e2e.seconds.low is not None and e2e.seconds.low < e2e.seconds.mean < (e2e.seconds.high or 0.0)
    assert found.wall_s == 0.5 and found.sets == 2 and found.requests == 4


def test_a_limit_is_met_at_equality_by_measured_assumptions_only() -> None:
    seen = observed(apart())
    limit = LatencyLimit("ttft", 99.0, seen.seconds["ttft"][2], "seconds")
    exact = SLO("exact", (limit,))
    assert assemble(scenario(lambda _: apart(), slo=exact), [seen]).slo_met is True
    perf, alone = replica("llama2-70b", "dgx-h100", None, "splitwise-sim"), reference("llama2-70b", "splitwise-sim")
    published = Cluster((Pool("mixed", perf, 1),), Policy("mixed").as_published())
    found = run(published, prepare(apart(), alone))
    seen = observe(found, percentiles_of(found.latencies, (50.0, 90.0, 99.0)), 0.0)
    limit = LatencyLimit("ttft", 99.0, seen.seconds["ttft"][2], "seconds")
    strict = scenario(lambda _: apart(), cluster=published, slo=SLO("exact", (limit,)))
    assert assemble(strict, [seen]).slo_met is False


def test_limits_of_both_kinds_on_one_percentile_are_both_judged() -> None:
    limits = (LatencyLimit("ttft", 50.0, 60.0, "seconds"), LatencyLimit("ttft", 50.0, 0.001, "slowdown"))
    found = assemble(scenario(lambda _: apart(), slo=SLO("both", limits)), [observed(apart())])
    assert [each.met for each in found.latency if each.limit is not None] == ["pass", "fail"]
    assert found.slo_met is False


def test_what_waits_for_ever_is_explained() -> None:
    gone = replace(ONE_MIXED, outages=(Outage(0, 150.0),))
    seen = observed(apart(), gone)
    assert (seen.status, seen.held, seen.backlog.unfinished) == ("stuck", 2, 2)
    found = assemble(scenario(lambda _: apart(), cluster=gone), [seen])
    assert not found.stable
    assert found.instability == (
        "2 of 4 requests were left unfinished, 2 because no machine in service could take them"
    )
    assert found.unfinished == 2 and found.slo_met is False


def test_sets_are_served_in_order_whatever_the_number_of_threads() -> None:
    made = scenario(lambda k: apart(output=2 + k), sets=5)
    alone = serve(made, workers=1)
    together = serve(made, workers=3)
    for k, (one, other) in enumerate(zip(alone, together, strict=True)):
        assert one.observation.seconds == other.observation.seconds == observed(apart(output=2 + k)).seconds
        assert one.run is None


def test_runs_are_kept_where_they_are_wanted() -> None:
    made = scenario(lambda _: apart(), sets=2)
    assert [each.run is not None for each in serve(made, keep_requests=True)] == [True, True]
    first, second = serve(made, keep_timeline=True)
    assert first.run is not None and first.run.timeline.size and second.run is None


def test_an_error_in_a_thread_is_raised_and_stops_the_others() -> None:
    def make(k: int) -> RequestSet:
        if k == 1:
            raise InputError("nothing to draw")
        return apart()

    before = active_count()
    with pytest.raises(InputError, match="nothing to draw"):
        serve(scenario(make, sets=50), workers=2)
    assert active_count() <= before + 2


def test_an_interrupt_says_what_was_done(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(SimpleQueue[object]):
        def get(self, block: bool = True, timeout: float | None = None) -> object:
            raise KeyboardInterrupt

    monkeypatch.setattr(serving, "SimpleQueue", Interrupted)
    with pytest.raises(KeyboardInterrupt, match="of 3 request sets done"):
        serve(scenario(lambda _: apart(), sets=3))


def test_a_thread_that_is_not_wanted_stops_at_its_next_pause() -> None:
    watch = serving._Watch(1)
    watch.tell(0, 5.0, 7)
    assert (watch.now_s, watch.done) == ([5.0], [7])
    watch.wanted.clear()
    with pytest.raises(serving._Stopped):
        watch.tell(0, 6.0, 8)

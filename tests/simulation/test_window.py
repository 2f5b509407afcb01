"""Long runs, whose requests are fed in chunks: the same as whole runs, event for event."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from provisioner.options.defaults import POLICIES
from provisioner.simulation import window
from provisioner.simulation.cluster import Outage
from provisioner.simulation.run import Run, StopLimit
from tests.simulation.clusters import Degenerate, Rows, cluster, ready, serve

FEW = 8  # requests that are fed at a time


def perf(capacity: float) -> Degenerate:
    """Transfers take some 0.1 s, so that failures meet them."""
    return Degenerate(
        lambda tokens: 1e-4 * tokens,
        lambda batch, context: 0.01 + 1e-3 * batch + 1e-7 * context,
        kv_capacity_tokens=capacity,
        kv_bytes_per_token=2e5,
    )


def rows(count: int, gap_s: float) -> Rows:
    rng = np.random.default_rng(3)
    at = np.cumsum(rng.exponential(gap_s, count))
    prompts, outputs = rng.integers(1, 1500, count), rng.integers(1, 100, count)
    outputs[5] = 3000  # a long answer at the front holds those behind it
    return list(zip(at.tolist(), prompts, outputs, strict=True))


def both(monkeypatch: pytest.MonkeyPatch, which: object, requests: Rows, **options: object) -> tuple[Run, Run]:
    """The run of whole records, and that of a few at a time."""
    whole = serve(which, ready(requests), **options)  # type: ignore[arg-type]
    monkeypatch.setattr(window, "CHUNK", FEW)
    monkeypatch.setattr(window, "LEAST", 2 * FEW)
    fed = serve(which, ready(requests), **options)  # type: ignore[arg-type]
    assert whole.prepared.records is not None and fed.prepared.records is None
    return whole, fed


def assert_equal(whole: Run, fed: Run) -> None:
    assert fed.status == whole.status and int(fed.clock["events"]) == int(whole.clock["events"])
    for name in window.OUTCOME.names or ():
        assert np.array_equal(fed.requests[name], whole.requests[name], equal_nan=name.endswith("_s")), name
    for name in ("replicas", "batch_time_s", "timeline", "limits_beyond"):
        assert np.array_equal(getattr(fed, name), getattr(whole, name)), name
    for metric in ("ttft", "tbt", "e2e", "gap"):
        for one, other in zip(whole.latencies.both(metric), fed.latencies.both(metric), strict=True):
            assert np.array_equal(one, other)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("gap_s", [0.5, 0.02])  # calm, and a backlog of hundreds
def test_requests_fed_in_chunks_have_the_same_run(policy: str, gap_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    which = cluster(policy, perf(12_000.0), 2, perf(12_000.0), 2)
    assert_equal(*both(monkeypatch, which, rows(700, gap_s), timeline=True))


@pytest.mark.parametrize("policy", POLICIES)
def test_machines_that_fail_find_the_requests_in_the_window(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    outages = Outage(0, 5.0, 9.0), Outage(1, 7.0, 30.0), Outage(3, 12.0, 20.0)
    which = cluster(policy, perf(12_000.0), 4, perf(12_000.0), 2, *outages)
    whole, fed = both(monkeypatch, which, rows(500, 0.05))
    assert_equal(whole, fed)
    assert fed.requests["restarts"].sum() > 0


def test_a_run_that_is_stopped_has_the_rest_unfinished(monkeypatch: pytest.MonkeyPatch) -> None:
    which = cluster("strict", perf(12_000.0), 1, perf(12_000.0), 1)
    stop = (StopLimit("ttft", "seconds", 1.0, 20),)
    whole, fed = both(monkeypatch, which, rows(500, 0.02), stop=stop)
    assert whole.status == "rejected"
    assert_equal(whole, fed)


def test_memory_is_that_of_the_requests_in_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    monkeypatch.setattr(window.Window, "closed", lambda self: sizes.append(self.world["ring"] + 1) or self.outcomes)
    monkeypatch.setattr(window, "CHUNK", FEW)
    monkeypatch.setattr(window, "LEAST", FEW)
    for count in (200, 2000):
        serve(cluster("mixed", perf(1e9), 4), ready([(0.5 * k, 100, 10) for k in range(count)]))
    assert sizes == [2 * FEW, 2 * FEW]


@pytest.mark.slow
def test_a_day_at_70_requests_a_second_is_simulated_in_1_5_gb(tmp_path: Path) -> None:
    trace, rng, count = tmp_path / "day.csv", np.random.default_rng(0), 6_048_000
    at = np.cumsum(rng.exponential(1 / 70.0, count))
    prompts, outputs = np.minimum(rng.lognormal(7.0, 0.7, count).astype(int) + 1, 7000), rng.integers(1, 60, count)
    with trace.open("w", encoding="utf-8") as file:
        file.write("arrival_s,prompt_tokens,output_tokens\n")
        for part in np.array_split(np.arange(count), 100):
            columns = (values[part].tolist() for values in (at, prompts, outputs))
            file.writelines(f"{when:.4f},{prompt},{output}\n" for when, prompt, output in zip(*columns, strict=True))
    code = (
        "import resource, sys; from provisioner import simulate;"
        "s = simulate(design='splitwise-hh', prompt_machines=22, token_machines=4, trace=sys.argv[1]);"
        "print(s.requests, s.stable, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(trace)], capture_output=True, text=True, check=True)
    requests, stable, peak_kib = done.stdout.split()
    assert (int(requests), stable) == (count, "True")
    assert 1024 * int(peak_kib) < 1.5e9

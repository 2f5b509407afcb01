"""Time of the simulator, ``pytest tests/benchmarks/simulator.py -n 0 -s``; docs/reference/performance.md has results.

Not part of the tests: the file's name keeps it out. ``-m slow`` runs the large cluster. Columns beside the times are in
``--benchmark-json FILE`` under ``extra_info``.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from provisioner.perf.curves import Assumptions
from provisioner.simulation.measure import percentiles
from provisioner.simulation.policy import Policy
from provisioner.simulation.requests import RequestSet, drawn, from_trace
from provisioner.simulation.run import Prepared, Run, run
from provisioner.specs import catalog
from provisioner.specs.traces import read_trace
from tests.simulation.clusters import alone, cluster, ready, shipped

ROOT = Path(__file__).parents[2]
TRACE = ROOT.parent / "shared" / "reference" / "published-simulator-runs" / "coding-70rps-120s.csv"
ROUNDS = {"rounds": 20, "iterations": 1, "warmup_rounds": 2}
METRICS = ("ttft", "tbt", "e2e")


@lru_cache
def coding(rate_rps: float = 70.0, duration_s: float = 120.0, workload: str = "coding") -> RequestSet:
    """Two minutes of coding at 70 requests/s, or another rate for another time."""
    return drawn(catalog.workload(workload), rate_rps, duration_s, np.random.default_rng(1))


def measured(done: Run) -> list[tuple[float, ...]]:
    """All nine percentiles, in s and as slowdowns."""
    both = [done.latencies.both(metric) for metric in METRICS]  # type: ignore[arg-type]
    return [percentiles(values, (50, 90, 99)) for pair in both for values in pair]


def timed(benchmark: BenchmarkFixture, which: Any, requests: Prepared, rounds: dict[str, int] | None = None) -> Run:
    """Time a run with its percentiles; median of twenty rounds."""

    def once() -> Run:
        done = run(which, requests)
        measured(done)
        return done

    done: Run = benchmark.pedantic(once, **(rounds or ROUNDS))
    assert done.status == "finished"
    benchmark.extra_info["requests"] = int(done.requests.size)
    benchmark.extra_info["events"] = int(done.clock["events"])
    if benchmark.stats:
        benchmark.extra_info["us_per_request"] = 1e6 * benchmark.stats.stats.median / done.requests.size
    return done


@pytest.mark.parametrize(("prompts", "tokens"), [(27, 3), (32, 8)])
def test_the_published_trace_on_thirty_machines(benchmark: BenchmarkFixture, prompts: int, tokens: int) -> None:
    """8,502 requests, 27 + 3 (near saturation) and 32 + 8 machines, the published rules, percentiles included."""
    if not TRACE.is_file():
        pytest.skip(f"no trace at {TRACE}")
    requests = ready(from_trace(read_trace(str(TRACE))), alone("bloom-176b", "splitwise-sim"))
    machine = shipped("bloom-176b", "dgx-h100", "splitwise-sim")
    timed(benchmark, cluster(Policy("splitwise").as_published(), machine, prompts, machine, tokens), requests)


@pytest.mark.parametrize("policy", ["splitwise", "split", "mixed", "chunked"])
def test_each_policy_with_measured_curves(benchmark: BenchmarkFixture, policy: str) -> None:
    """The same requests per second and machines enough."""
    machine = shipped("bloom-176b", "dgx-h100")
    sizes = (28, 4) if policy in ("splitwise", "split") else (52, 1)
    timed(benchmark, cluster(policy, machine, sizes[0], machine, sizes[1]), ready(coding(), alone("bloom-176b")))


@pytest.mark.parametrize("machines", [10, 100, 1000])
@pytest.mark.parametrize("policy", ["splitwise", "mixed"])
def test_cost_per_request_by_machines(benchmark: BenchmarkFixture, machines: int, policy: str) -> None:
    """About 30,000 requests at the same load per machine: ``us_per_request`` may grow as the logarithm at most."""
    machine = shipped("llama2-70b", "dgx-h100")
    rate_rps = 3.0 * machines if policy == "splitwise" else 1.5 * machines
    requests = ready(coding(rate_rps, 30_000 / rate_rps), alone("llama2-70b"))
    tokens = machines // 5 if policy == "splitwise" else 1
    timed(
        benchmark,
        cluster(policy, machine, machines - tokens if policy == "splitwise" else machines, machine, tokens),
        requests,
        {"rounds": 5, "iterations": 1, "warmup_rounds": 1},
    )


@pytest.mark.parametrize("backlog", [24_000, 96_000])
@pytest.mark.parametrize("policy", ["splitwise", "split", "mixed", "chunked"])
@pytest.mark.parametrize("assumptions", ["measured", "splitwise-sim"])
def test_cost_per_request_by_backlog(
    benchmark: BenchmarkFixture, assumptions: Assumptions, policy: str, backlog: int
) -> None:
    """One machine of a role, and requests that come a thousand a second: ``us_per_request`` may double at most."""
    machine = shipped("bloom-176b", "dgx-h100", assumptions)
    requests = ready(coding(1_000.0, backlog / 1_000.0), alone("bloom-176b", assumptions))
    which = cluster(policy, machine)

    def once() -> Run:
        return run(which, requests)

    done = benchmark.pedantic(once, rounds=5, iterations=1, warmup_rounds=1)
    benchmark.extra_info.update(requests=int(done.requests.size), events=int(done.clock["events"]), status=done.status)
    if benchmark.stats:
        benchmark.extra_info["us_per_request"] = 1e6 * benchmark.stats.stats.median / done.requests.size


LARGE = """
import resource
from time import perf_counter
from tests.benchmarks.simulator import coding, measured
from tests.simulation.clusters import alone, cluster, ready, shipped
from provisioner.simulation.run import compile_simulator, run
compile_simulator()
machine = shipped("llama2-70b", "dgx-h100")
began = perf_counter()
done = run(cluster("splitwise", machine, 800, machine, 200), ready(coding(3000.0, 600.0), alone("llama2-70b")))
measured(done)
assert done.status == "finished"
peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
print(perf_counter() - began, done.wall_s, done.requests.size, peak_gb)
"""


@pytest.mark.slow
def test_a_thousand_machines_for_ten_minutes(benchmark: BenchmarkFixture) -> None:
    """3,000 requests/s: time from drawing the requests to the percentiles, and the peak memory of the process."""

    def once() -> list[float]:
        command = [sys.executable, "-c", LARGE]
        said = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True, timeout=600).stdout
        return [float(each) for each in said.split()]

    total_s, loop_s, requests, peak_gb = benchmark.pedantic(once, rounds=1, iterations=1)
    benchmark.extra_info.update(total_s=total_s, loop_s=loop_s, requests=requests, peak_gb=peak_gb)
    print(
        f"\n{requests:,.0f} requests in {total_s:.1f} s, of which the event loop {loop_s:.1f} s; peak {peak_gb:.2f} GB"
    )


def hashing() -> None:
    """Work that needs no lock, to see what the machine itself gives to a second thread just now."""
    sha256(bytes(20_000_000)).digest()


def throughput(work: Callable[[], object], threads: int, runs: int = 16) -> float:
    """Runs per second on a number of threads."""
    with ThreadPoolExecutor(threads) as executor:
        began = perf_counter()
        list(executor.map(lambda _: work(), range(runs)))
        return runs / (perf_counter() - began)


def test_independent_runs_on_two_threads(benchmark: BenchmarkFixture) -> None:
    """Throughput of two threads over one's (``two_threads``): the event loop lets go of the interpreter's lock.

    ``two_threads_hashing`` is the same of work that nothing holds up: below 1.9, something else uses the cores.
    """
    machine = shipped("bloom-176b", "dgx-h100")
    here = cluster("splitwise", machine, 28, machine, 4)
    requests = ready(coding(), alone("bloom-176b"))

    def work() -> None:
        measured(run(here, requests))

    work()
    ratios = []
    for each in (work, hashing):
        one, two = (max(throughput(each, threads) for _ in range(4)) for threads in (1, 2))
        ratios.append(two / one)
    benchmark.extra_info.update(two_threads=round(ratios[0], 2), two_threads_hashing=round(ratios[1], 2))
    print(f"\ntwo threads: {ratios[0]:.2f} times the throughput of one; hashing {ratios[1]:.2f} times")
    benchmark.pedantic(lambda: throughput(work, 2), rounds=5, iterations=1)

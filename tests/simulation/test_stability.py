"""Stability against queues with a known load, clusters whose batches fill, and clusters without hope."""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from provisioner import api
from provisioner.perf.assumptions import reference, replica
from provisioner.results.simulation import Simulation
from provisioner.simulation.measure import Latencies
from provisioner.simulation.requests import drawn, sets
from provisioner.simulation.stability import MAX_GROWTH, Backlog, backlog, stability
from provisioner.specs import catalog
from tests.oracles.cases import Case
from tests.oracles.simulation import Requests, simulate_mixed, simulate_split

NAN = math.nan


def run(arrival_s: np.ndarray, e2e_s: np.ndarray, output: np.ndarray, alone_s: np.ndarray, warm_up: float) -> Latencies:
    end = arrival_s + e2e_s
    counted = arrival_s >= warm_up * arrival_s[-1]
    return Latencies(arrival_s, end, end, 0 * end, output, output - 1.0, alone_s, alone_s, alone_s, counted)


def first_come(arrival_s: np.ndarray, service_s: np.ndarray) -> Latencies:
    """One server with given service times, in order of arrival."""
    work = np.cumsum(service_s)
    done_s = work + np.maximum.accumulate(arrival_s - work + service_s)
    return run(arrival_s, done_s - arrival_s, np.full(arrival_s.size, 7), service_s, 0.1)


def served(arrival_s: np.ndarray, service_s: float) -> Latencies:
    """One server with a fixed service time, in order of arrival."""
    return first_come(arrival_s, np.full(arrival_s.size, service_s))


def one_server(load: float, seconds: float = 120.0, service_s: float = 0.1) -> Latencies:
    """Evenly spaced arrivals: waits grow by exactly load - 1."""
    return served(np.arange(1, int(seconds * load / service_s) + 1) * service_s / load, service_s)


@pytest.mark.parametrize("load", [0.5, 1.0, 1.02, 1.05, 1.5, 20.0])
def test_growth_is_the_overload(load: float) -> None:
    seen = backlog(one_server(load))
    assert seen.growth == pytest.approx(max(load - 1.0, 0.0), abs=0.01 * load)
    assert stability([seen])[0] is (load - 1.0 <= MAX_GROWTH)


def test_no_order_of_service_hides_growth() -> None:
    """One request of two waits to the end: late arrivals have a small mean E2E, and yet half of them are left."""
    arrival_s = np.arange(1.0, 1001.0) * 0.1
    e2e_s = np.where(np.arange(1000) % 2 == 0, 0.1, 101.0 - arrival_s + np.arange(1000) * 0.1)
    seen = backlog(run(arrival_s, e2e_s, np.full(1000, 3), np.full(1000, 0.1), 0.1))
    assert seen.growth == pytest.approx(1.0, rel=0.02) and stability([seen])[0] is False


@pytest.mark.parametrize(
    ("load", "least", "most"), [(0.8, 0.97, 1.0), (0.9, 0.8, 1.0), (1.1, 0.0, 0.1), (1.3, 0.0, 0.0)]
)
def test_poisson_arrivals_at_one_server_are_told(load: float, least: float, most: float) -> None:
    """M/D/1: shares of runs of 300 s that are called stable, over 100 seeds."""
    rng, count = np.random.default_rng(7), int(300.0 * load / 0.1)
    answers = Counter(
        stability([backlog(served(np.cumsum(rng.exponential(0.1 / load, count)), 0.1))])[0] for _ in range(100)
    )
    assert least <= answers[True] / 100 <= most


@pytest.mark.parametrize("random", [False, True])
@pytest.mark.parametrize(("seconds", "number"), [(20.0, 2), (120.0, 1), (60.0, 5)])
def test_chance_is_not_taken_for_overload(random: bool, seconds: float, number: int) -> None:
    """M/D/1 and M/M/1 below, near and above their capacity: at most 3 % of 100 answers below it are "not stable"."""
    rng = np.random.default_rng(11)

    def one(load: float) -> Backlog:
        count = int(seconds * load / 0.1)
        service_s = rng.exponential(0.1, count) if random else np.full(count, 0.1)
        return backlog(first_come(np.cumsum(rng.exponential(0.1 / load, count)), service_s))

    for load, least, most in ((0.5, 0, 3), (0.9, 0, 3), (0.97, 0, 3), (2.0, 95, 100)):
        answers = Counter(stability([one(load) for _ in range(number)])[0] for _ in range(100))
        assert least <= answers[False] <= most, load
        assert load < 1.0 or not answers[True]


def test_sets_are_judged_by_their_mean() -> None:
    def of(growth: float, requests: float = 80.0, early: float = 0.0, waiting: float | None = None) -> Backlog:
        waits = growth if waiting is None else waiting
        return Backlog(growth, early, waits, requests, 35.0, 99, 0, 1000, 108.0, 30.0)

    assert stability([of(0.05), of(0.0), of(0.03)]) == (True, "")
    assert stability([of(0.05), of(0.02), of(0.03)])[0] is False
    assert stability([of(0.9, requests=9.0)])[0] is True  # a few requests are chance
    assert stability([of(0.05, early=0.15), of(0.06, early=0.2)])[0] is None
    assert stability([of(0.05, waiting=0.01)])[0] is None  # batches fill
    found, reason = stability([of(0.05, requests=50.0)])  # one deviation is no proof, more sets are
    assert found is None and reason.endswith(
        "grow, maybe by chance; arrivals for 4 min or more, or 2 request sets, would tell"
    )
    assert stability([of(0.05, requests=50.0)] * 2)[0] is False


def test_requests_left_unfinished_are_not_stable() -> None:
    whole = one_server(0.5)
    last_s = whole.last_s.copy()
    last_s[-2:] = NAN
    cut = replace(whole, last_s=last_s)
    assert stability([backlog(whole), backlog(cut)]) == (False, "2 of 1,200 requests were left unfinished")
    assert stability([backlog(cut, closed_loop=True)])[0] is False


def test_a_closed_loop_cannot_grow_and_a_short_window_is_said_to_be_too_short() -> None:
    assert stability([backlog(one_server(3.0, seconds=20.0), closed_loop=True)])[0] is True
    short = replace(one_server(3.0, seconds=20.0, service_s=5.0), first_s=one_server(3.0, 20.0, 5.0).arrival_s)
    known, reason = stability([backlog(short)])
    assert known is None and reason.startswith("too short to tell: ") and reason.endswith("37 s or more would tell")
    at_once = run(np.zeros(50), np.arange(50.0), np.full(50, 3), np.ones(50), 0.0)
    assert stability([backlog(at_once)])[0] is None


def test_a_steady_delay_is_told_in_a_short_window() -> None:
    """60 answers of 25 s, a second apart: as many end as begin, though five times 25 s never pass."""
    arrival_s = np.arange(60.0)
    seen = backlog(run(arrival_s, np.full(60, 25.0), np.full(60, 1000), np.full(60, 25.0), 0.0))
    assert stability([seen]) == (True, "") and seen.in_system_at_end == 25


def test_a_trace_as_it_is_is_judged_without_its_filling() -> None:
    """An empty cluster answers the first requests faster, which is no growth."""
    arrival_s = np.linspace(0.0, 120.0, 2000)
    e2e_s = 1.0 + 5.0 * np.minimum(arrival_s / 12.0, 1.0)
    seen = backlog(run(arrival_s, e2e_s, np.full(2000, 3), np.ones(2000), 0.0))
    assert seen.growth == pytest.approx(0.0, abs=1e-3)


def test_requests_in_the_system_at_the_last_arrival_are_counted() -> None:
    seen = backlog(run(np.array([0.0, 10.0, 20.0]), np.array([21.0, 5.0, 1.0]), np.full(3, 2), np.ones(3), 0.0))
    assert seen.in_system_at_end == 2


# -- clusters


def lengths(path: Path) -> str:
    """A file of 4,000 requests with answers of 289 tokens on average, up to 1,024."""
    rng = np.random.default_rng(0)
    prompt, output = (
        np.clip(rng.lognormal(math.log(mean) - 0.5 * sigma**2, sigma, 4000), 1, 1024).round().astype(int)
        for mean, sigma in ((294, 0.8), (296, 0.7))
    )
    rows = (f"{0.02 * k:.2f},{p},{o}" for k, (p, o) in enumerate(zip(prompt, output, strict=True)))
    path.write_text("\n".join(["arrival_s,prompt_tokens,output_tokens", *rows]) + "\n")
    return str(path)


FILLING = {"model": "llama2-70b", "dtype": "fp8", "tensor_parallel": 2, "engine": "provisioner-0.1", "slo": "batch"}


@pytest.mark.parametrize(
    ("rate_rps", "duration_s", "stable"),
    [(45.0, None, True), (57.0, 120.0, None), (57.0, None, False), (90.0, 120.0, False)],
)
def test_a_machine_whose_batch_fills_is_run_until_it_is_told(
    tmp_path: Path, rate_rps: float, duration_s: float | None, stable: bool | None
) -> None:
    asked = {"workload": lengths(tmp_path / "a.csv"), "rate_rps": rate_rps, "duration_s": duration_s}
    found = api.simulate(design="baseline-h100", mixed_machines=1, **FILLING, **asked)
    assert found.stable is stable
    assert found.load.endswith("for 2 min") is (duration_s is not None or stable is True)
    assert found.instability.startswith({True: "", None: "too short to tell", False: "requests wait"}[stable])
    if stable is False:
        assert found.throughput_rps == pytest.approx(51.0, rel=0.05)  # the room for KV caches binds


def test_a_short_run_does_not_call_a_stable_machine_unstable(tmp_path: Path) -> None:
    """Its batches fill in some sets until they end, though nobody waits; it serves this rate for half an hour."""
    asked = {"workload": lengths(tmp_path / "a.csv"), "rate_rps": 54.0, "design": "baseline-h100", **FILLING}
    short = [api.simulate(mixed_machines=1, duration_s=240.0, seed=seed, **asked) for seed in range(4)]
    assert all(each.stable is not False for each in short)
    assert all(each.instability.endswith("would tell (duration_s, sets)") for each in short if each.stable is None)
    assert api.simulate(mixed_machines=1, duration_s=1800.0, **asked).stable is True


def test_a_cluster_that_is_about_to_lend_a_machine_is_not_called_unstable() -> None:
    """One token machine is too few until a prompt machine is lent to it, which takes longer than these sets."""
    asked = {"design": "splitwise-hh", "prompt_machines": 2, "token_machines": 1, "workload": "conversation"}
    fixed = {"model": "llama2-70b", "policy": "splitwise", "tensor_parallel": 8, "slo": "batch", "rate_rps": 14.0}
    assert api.simulate(**asked, **fixed, duration_s=120.0, sets=3).stable is None
    assert api.simulate(**asked, **fixed).stable is True


def simulate(path: Path, answers: int, gap_s: float, **asked: object) -> Simulation:
    rows = (f"{k * gap_s},500,{answers}" for k in range(60))
    path.write_text("\n".join(["arrival_s,prompt_tokens,output_tokens", *rows]) + "\n")
    return api.simulate(pools=["mixed:dgx-h100:8=1"], slo="batch", **asked)


def test_throughput_is_what_is_offered_if_the_cluster_keeps_up(tmp_path: Path) -> None:
    found = simulate(tmp_path / "a.csv", 1000, 1.0, trace=str(tmp_path / "a.csv"), model="llama-3.1-70b")
    assert found.stable is True and found.throughput_rps == pytest.approx(1.0, abs=1e-9)
    assert found.throughput_tokens_per_s == pytest.approx(1000.0)


def test_hopeless_clusters_are_told_in_short_runs_and_show_no_offered_rate(tmp_path: Path) -> None:
    found = api.simulate(design="baseline-h100", mixed_machines=1, rate_rps=200, duration_s=5)
    assert found.stable is False and found.throughput_rps < 0.05 * found.rate_rps
    rows = (f"{0.1 * k:.1f},8000,1000" for k in range(400))
    (tmp_path / "b.csv").write_text("\n".join(["arrival_s,prompt_tokens,output_tokens", *rows]) + "\n")
    sizes = {"design": "splitwise-hh", "prompt_machines": 2, "token_machines": 1, "policy": "split"}
    link = {"network": "ethernet-10", "rate_rps": 1, "duration_s": 60, "workload": str(tmp_path / "b.csv")}
    found = api.simulate(model="llama2-70b", slo="batch", **sizes, **link)  # 2.6 GB of KV cache a second
    assert found.stable is False and found.instability.startswith("KV caches wait for links ever longer")
    assert found.throughput_rps == pytest.approx(0.875e9 / (8000 * 327_680), rel=0.05)


@pytest.mark.slow
def test_a_capacity_is_that_of_long_runs(tmp_path: Path) -> None:
    limits = {"ttft_p99": "2s", "tbt_p99": "200ms"}
    asked = {"designs": ["baseline-h100"], "mixed": 1, "additions": False, "workload": lengths(tmp_path / "a.csv")}
    default, long = (api.capacity(limits=limits, **asked, **FILLING, **by) for by in ({}, {"duration_s": 600.0}))
    assert default.rate_rps == pytest.approx(long.rate_rps, rel=0.03)


@pytest.mark.slow
def test_commands_agree_on_either_side_of_a_limit(tmp_path: Path) -> None:
    """The rate that a machine holds is that of a comparison within one machine; around it, verdicts turn as one."""
    asked = {"workload": lengths(tmp_path / "a.csv"), "limits": {"ttft_p99": "2s", "tbt_p99": "200ms"}, **FILLING}
    held_rps = api.capacity(designs=["baseline-h100"], mixed=1, additions=False, **asked).rate_rps
    best = api.compare(designs=["baseline-h100"], same="machines", budget=1, **asked).designs[0].plan
    assert best is not None and best.rate_rps == pytest.approx(held_rps, rel=0.01)
    for factor, holds in ((0.97, True), (1.03, False)):
        rate = {"rate_rps": factor * held_rps}
        simulated = api.simulate(design="baseline-h100", mixed_machines=1, sets=5, **asked, **rate)
        assert simulated.stable is holds
        assert (api.plan(designs=["baseline-h100"], **asked, **rate).totals.machines == 1) is holds


CLUSTERS = [
    Case("llama2-70b", "coding", "dgx-h100", "dgx-h100", 4, 1, 10.0),
    Case("llama2-70b", "conversation", "dgx-a100", "dgx-a100", 14, 12, 10.0),
    Case("bloom-176b", "coding", "dgx-h100", "dgx-h100", 12, 2, 10.0),
    Case("llama2-70b", "coding", "dgx-h100", None, 10, 1, 10.0),
]


@pytest.mark.parametrize("case", CLUSTERS, ids=lambda case: f"{case.workload}-{case.prompts}")
@pytest.mark.parametrize(("load", "stable"), [(0.6, True), (0.85, True), (1.15, False)])
def test_five_sets_tell_overload(case: Case, load: float, stable: bool) -> None:
    rate = case.rate_rps * load / max(case.analytic().loads)
    workload, perf, alone = (
        catalog.workload(case.workload),
        replica(case.model, case.prompt_machine),
        reference(case.model),
    )
    seen = []
    set_s = 240.0 if case.workload == "conversation" else 120.0  # answers up to 90 s long
    for each in sets(lambda rng: drawn(workload, rate, set_s, rng), 11, 5):
        requests = Requests(each.arrival_s, each.prompt_tokens, each.output_tokens)
        if case.token_machine is None:
            said = simulate_mixed(requests, perf, case.prompts)
        else:
            said = simulate_split(requests, perf, replica(case.model, case.token_machine), case.prompts, case.tokens)
        alone_s = alone.e2e_s(each.prompt_tokens, each.output_tokens)
        seen.append(backlog(run(each.arrival_s, said.e2e_s, each.output_tokens, alone_s, 0.1)))
    assert stability(seen)[0] is stable

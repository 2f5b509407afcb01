"""Simulations as users ask for them: every option changes the answer where it should, and the same is the same."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from provisioner import InputError, SimulateOptions, Simulation, simulate
from provisioner.errors import UnknownNameError

HH: dict[str, Any] = {"design": "splitwise-hh", "prompt_machines": 18, "token_machines": 3, "duration_s": 20.0}


@cache
def _asked(options: str) -> Simulation:
    return simulate(**eval(options))


def ask(**changes: Any) -> Simulation:
    """A simulation of 18 + 3 machines for 20 s, but for some options."""
    return _asked(repr({**HH, **changes}))


def same(found: Simulation) -> dict[str, Any]:
    """The values of a simulation, but for the time that it took."""
    return {name: value for name, value in found.to_dict().items() if name not in ("wall_s", "question", "command")}


def p99(found: Simulation, metric: str) -> float:
    return next(each.seconds.mean for each in found.latency if each.metric == metric and each.percentile == 99.0)


def test_the_same_options_give_the_same_result() -> None:
    first, second = simulate(sets=3, **HH), simulate(SimulateOptions(sets=3, **HH))
    assert same(first) == same(second)


def test_more_sets_keep_the_first_ones() -> None:
    two, three = ask(sets=2), ask(sets=3)
    for few, many in zip(two.latency, three.latency, strict=True):
        assert few.seconds.values == many.seconds.values[:2]
        assert few.seconds.low is not None and few.seconds.low <= few.seconds.mean


@pytest.mark.parametrize(
    "changes",
    [
        {"workload": "conversation"},
        {"model": "bloom-176b"},
        {"rate_rps": 60.0},
        {"prompt_machines": 17},
        {"token_machines": 2},
        {"design": "splitwise-ha"},
        {"prompt_tensor_parallel": 4},
        {"token_tensor_parallel": 4},
        {"tensor_parallel": 4},
        {"failures": ("prompt:3@5s-10s",)},
        {"duration_s": 30.0},
        {"sets": 2},
        {"warm_up": 0.0},
        {"cool_down": 0.2},
        {"cv": 3.0},
        {"independent": True},
        {"duration_s": None, "rates_rps": (40.0,)},
        {"duration_s": None, "in_flight": 100},
        {"percentiles": (95.0,)},
        {"policy": "split", "prompt_machines": 15},
        {"assumptions": "splitwise-sim"},
        {"seed": 1},
    ],
    ids=lambda changes: " ".join(changes),
)
def test_an_option_changes_the_answer(changes: dict[str, Any]) -> None:
    changed, plain = same(ask(**changes)), same(ask())
    assert changed["latency"] != plain["latency"]


BUSY: dict[str, Any] = {"prompt_machines": 12, "token_machines": 1, "rate_rps": 60.0, "policy": "splitwise"}


@pytest.mark.parametrize(
    "threshold",
    [{"max_pending_tokens": 500}, {"batch_tokens": 512}, {"batch_requests": 4}, {"max_preemptions": 1}],
    ids=lambda threshold: " ".join(threshold),
)
def test_a_threshold_changes_a_busy_cluster(threshold: dict[str, int]) -> None:
    found = ask(**BUSY, **threshold)
    assert same(found)["latency"] != same(ask(**BUSY))["latency"]
    assert all(found.thresholds[name] == value for name, value in threshold.items())


def test_links_change_transfers() -> None:
    """All KV caches go to two machines, several at once."""
    busy = {"model": "bloom-176b", "policy": "split", "token_machines": 2, "rate_rps": 40.0}
    busy |= {"assumptions": "splitwise-sim", "prompt_machines": 30}
    shared, apart = ask(**busy, share_links=True), ask(**busy, share_links=False)
    assert p99(shared, "gap") > p99(apart, "gap")
    assert (shared.thresholds["share_links"], apart.thresholds["share_links"]) == (True, False)


def test_a_transfer_without_room_waits_for_its_retry() -> None:
    full = {"model": "bloom-176b", "policy": "split", "token_machines": 1, "rate_rps": 25.0}
    at_once, later = ask(**full), ask(**full, transfer_retry_s=5.0)
    assert p99(later, "gap") > p99(at_once, "gap")


def test_the_published_mode_has_its_own_thresholds_unless_overridden() -> None:
    published = ask(assumptions="splitwise-sim")
    assert (published.thresholds["transfer_retry_s"], published.thresholds["share_links"]) == (1.0, False)
    own = ask(assumptions="splitwise-sim", transfer_retry_s=0.5, share_links=True)
    assert (own.thresholds["transfer_retry_s"], own.thresholds["share_links"]) == (0.5, True)


def test_the_policy_is_that_of_the_design() -> None:
    assert (ask().policy, ask(assumptions="splitwise-sim").policy) == ("strict", "splitwise")
    baseline = simulate(design="baseline-h100", mixed_machines=21, duration_s=10.0)
    assert (baseline.policy, [pool.role for pool in baseline.pools]) == ("chunked", ["mixed"])
    mixed = simulate(design="baseline-h100", mixed_machines=21, duration_s=10.0, policy="mixed")
    assert mixed.policy == "mixed" and same(mixed)["latency"] != same(baseline)["latency"]


def test_limits_decide_whether_the_slo_is_met() -> None:
    loose, tight = ask(slo="batch", limits={"ttft_p99": "60s"}), ask(slo="batch", limits={"ttft_p99": "1ms"})
    assert (loose.slo_met, tight.slo_met, ask(slo="batch").slo_met) == (True, False, None)
    (judged,) = (each for each in tight.latency if each.limit is not None)
    assert (judged.metric, judged.percentile, judged.met) == ("ttft", 99.0, "fail")


@pytest.mark.parametrize("policy", ["splitwise", "split"])
def test_pools_of_several_types_share_the_load(policy: str) -> None:
    found = simulate(
        pools=("prompt:dgx-h100=10", "prompt:dgx-a100=14", "token:dgx-a100=2", "token:dgx-h100:4=1"),
        policy=policy,
        duration_s=20.0,
    )
    assert found.design == "Splitwise-(H+A)(A+H)"
    assert [(pool.role, pool.machine, pool.tensor_parallel, pool.replicas) for pool in found.pools] == [
        ("prompt", "dgx-h100", 8, 10),
        ("prompt", "dgx-a100", 8, 14),
        ("token", "dgx-a100", 8, 2),
        ("token", "dgx-h100", 4, 2),
    ]
    assert all(pool.utilization > 0.2 for pool in found.pools)


@pytest.mark.parametrize("policy", ["mixed", "chunked"])
def test_mixed_machines_of_two_types_share_the_load(policy: str) -> None:
    found = simulate(pools=("mixed:dgx-h100=12", "mixed:dgx-a100=20"), policy=policy, duration_s=20.0)
    assert found.design == "Baseline-(H+A)"
    assert all(pool.utilization > 0.5 for pool in found.pools)
    assert found.stable


def test_pools_are_named_as_designs_are() -> None:
    pools = ("prompt:dgx-h100=18", "token:dgx-h100=3")
    named = simulate(pools=pools, duration_s=20.0)
    assert named.design == "Splitwise-HH"
    assert same(named)["latency"] == same(ask())["latency"]


def test_a_machine_that_fails_restarts_its_requests_and_slows_the_rest() -> None:
    failed = ask(failures=("token:1@5s-15s", "token:2@5s-15s"))
    assert failed.restarts > 0 and failed.unfinished == 0
    assert p99(failed, "gap") > p99(ask(), "gap")
    late = ask(failures=("prompt:1@3600s",))
    assert late.restarts == 0 and "no effect" in " ".join(late.warnings)
    assert p99(late, "e2e") == p99(ask(), "e2e")


def test_shares_of_time_add_up() -> None:
    for pool in ask(sets=2).pools:
        assert sum(pool.batch_time_share) == pytest.approx(1.0)
        assert 1.0 - pool.batch_time_share[0] == pytest.approx(pool.utilization, abs=1e-6)
        assert pool.prompt_busy + pool.token_busy + pool.mixed_busy == pytest.approx(pool.utilization)
        assert 0.0 <= pool.kv_memory_mean <= pool.kv_memory_most <= 1.0
        assert pool.mean_waiting <= pool.most_waiting
        assert pool.energy_kwh is None


def test_throughput_is_the_rate_of_a_cluster_that_keeps_up() -> None:
    found = ask(duration_s=60.0)
    assert found.throughput_rps == pytest.approx(70.0, rel=0.06)
    closed = ask(duration_s=None, in_flight=100, requests=5000)
    little = 100 / (closed.throughput_rps * sum(each.seconds.mean for each in closed.latency if each.metric == "e2e"))
    assert closed.stable and closed.throughput_rps > 20 and 0.0 < little < 1.0


def test_files_are_checked_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("the work had started")

    monkeypatch.setattr("provisioner.simulation.serve.run", never)
    with pytest.raises(InputError, match=r"records .*none/r\.csv: the folder .*none does not exist"):
        simulate(records=str(tmp_path / "none" / "r.csv"), **HH)


def test_progress_is_told_of_what_is_written(tmp_path: Path) -> None:
    told: list[str] = []
    simulate(records=str(tmp_path / "r.csv"), progress=told.append, **HH)
    assert told[-1].startswith("writing ")
    assert (tmp_path / "r.csv").stat().st_size > 100_000


def test_what_cannot_be_understood() -> None:
    with pytest.raises(UnknownNameError, match="unknown option 'prompts': did you mean prompt_machines"):
        simulate(prompts=3)
    with pytest.raises(InputError, match="give options or keywords, not both"):
        simulate(SimulateOptions(), design="splitwise-hh")
    with pytest.raises(InputError, match="pools: must be a name or several, got 5"):
        simulate(pools=5)
    with pytest.raises(InputError, match=r"prompt_machines: must be a whole number of machines, 1 or more, got 2\.5"):
        simulate(**{**HH, "prompt_machines": 2.5})
    assert simulate(percentiles=95, **HH).latency[2].percentile == 95.0


def test_a_simulation_shows_itself() -> None:
    found = ask()
    assert str(found).startswith("# Splitwise-HH: 18 dgx-h100 (prompt) + 3 dgx-h100 (token)")
    assert found._repr_html_().startswith('<div class="provisioner">')
    assert len(found.to_frame()) == 12 and len(found.to_frame("pools")) == 2

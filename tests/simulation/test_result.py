"""A simulation as plain values and as data frames."""

import json
import math
from dataclasses import replace

import pytest

from provisioner.simulation.measure import METRICS, interval, verdict
from provisioner.simulation.result import LatencyResult, PoolResult, Simulation
from provisioner.specs.slo import LatencyLimit

TTFT_P99 = LatencyLimit("ttft", 99.0, 6.0, "slowdown")
E2E_P99 = LatencyLimit("e2e", 99.0, 2.0, "seconds")


def latency(metric: str, percentile: float, limit: LatencyLimit | None = None) -> LatencyResult:
    seconds, slowdown = interval([1.0, 2.0, 3.0]), interval([5.0, 5.1, 5.2])
    judged = seconds if limit and limit.kind == "seconds" else slowdown
    met = None if limit is None else verdict(limit.value, judged.values)
    return LatencyResult(metric, percentile, seconds, slowdown, limit, met)


def simulation() -> Simulation:
    limits = {("ttft", 99.0): TTFT_P99, ("e2e", 99.0): E2E_P99}
    return Simulation(
        design="Splitwise-HA",
        pools=(
            PoolResult("prompt", "dgx-h100", 4, 4, 8, 0.7, 0.7, 0.0, 0.0, 0.1, 0.0, (1.0,), 2.0, 9.0, 0.1, 0.4, 40.0),
            PoolResult(
                "token", "dgx-a100", 2, 2, 8, 0.8, 0.0, 0.8, 0.0, 0.0, 9.5, (0.2, 0.8), 0.0, 1.0, 0.3, 0.6, 4e3, 1.5
            ),
        ),
        latency=tuple(latency(m, q, limits.get((m, q))) for m in METRICS for q in (50.0, 90.0, 99.0)),
        model="llama2-70b",
        workload="coding",
        slo="mine",
        slo_met=False,
        stable=True,
        instability="",
        requests=8400.5,
        sets=3,
        rate_rps=70.0,
        throughput_rps=69.5,
        throughput_tokens_per_s=1800.0,
        policy="splitwise",
        assumptions="measured",
        wall_s=0.2,
        moves=3,
        preemptions=2,
        restarts=0,
        unfinished=0,
        sources=("one",),
        warnings=(),
        question={"rate_rps": 70.0},
        seed=0,
        versions={"provisioner": "0.1.0"},
    )


def test_plain_values_hold_every_percentile_twice_and_every_field() -> None:
    said = simulation().to_dict()
    assert json.loads(json.dumps(said, allow_nan=False)) == said
    assert set(said["slowdown"]) == set(said["seconds"]) == set(METRICS)
    assert said["slowdown"]["tbt"] == pytest.approx({"p50": 5.1, "p90": 5.1, "p99": 5.1})
    assert said["seconds"]["gap"]["p99"] == 2.0
    assert set(Simulation.__dataclass_fields__) - {"slo_met"} <= set(said)
    assert said["pools"][1]["batch_time_share"] == [0.2, 0.8] and said["pools"][0]["energy_kwh"] is None


def test_limits_are_judged_in_their_own_kind() -> None:
    slo = simulation().to_dict()["slo"]
    assert slo["name"] == "mine" and slo["met"] is False
    ttft, e2e = slo["limits"]
    assert (ttft["metric"], ttft["percentile"], ttft["kind"], ttft["limit"]) == ("ttft", "p99", "slowdown", 6.0)
    assert ttft["value"] == pytest.approx(5.1) and ttft["met"] == "pass" and ttft["low"] < 5.1 < ttft["high"]
    assert (e2e["kind"], e2e["value"], e2e["met"]) == ("seconds", 2.0, "undecided")


def test_numbers_that_are_not_finite_become_none() -> None:
    never = LatencyResult("e2e", 99.0, interval([1.0, math.inf]), interval([2.0, math.nan]), E2E_P99, "fail")
    said = replace(simulation(), latency=(never,), throughput_rps=math.inf).to_dict()
    assert said["seconds"]["e2e"]["p99"] is None and said["slowdown"]["e2e"]["p99"] is None
    assert said["throughput_rps"] is None and said["slo"]["limits"][0]["value"] is None


def test_frames_have_a_row_per_percentile_and_per_pool() -> None:
    frame = simulation().to_frame()
    assert len(frame) == 12
    row = frame[(frame.metric == "ttft") & (frame.percentile == "p99")].iloc[0]
    assert (row.limit, row.limit_kind, row.met) == (6.0, "slowdown", "pass")
    assert row.slowdown_low < row.slowdown < row.slowdown_high
    assert math.isnan(frame.limit[0]) and frame.limit_kind[0] == ""
    assert str(frame.dtypes["limit"]) == "float64"
    pools = simulation().pools_frame()
    assert pools.role.tolist() == ["prompt", "token"] and pools.mean_batch.tolist() == [0.0, 9.5]
    assert math.isnan(pools.energy_kwh[0]) and "batch_time_share" not in pools


def test_frames_without_intervals_or_rows_can_be_made() -> None:
    one = LatencyResult("ttft", 50.0, interval([1.0]), interval([2.0]))
    assert math.isnan(replace(simulation(), latency=(one,)).to_frame().seconds_low[0])
    empty = replace(simulation(), latency=(), pools=())
    assert empty.to_frame().empty and empty.pools_frame().empty

"""A simulation as plain values and as data frames."""

import json
import math
from dataclasses import replace

import pytest

from provisioner.results.simulation import LatencyResult, SimulatedPool, Simulation
from provisioner.simulation.measure import interval, verdict
from provisioner.specs.metrics import METRICS
from provisioner.specs.roles import RoleName
from provisioner.specs.slo import LatencyLimit

TTFT_P99 = LatencyLimit("ttft", 99.0, 6.0, "slowdown")
E2E_P99 = LatencyLimit("e2e", 99.0, 2.0, "seconds")


def latency(metric: str, percentile: float, limit: LatencyLimit | None = None) -> LatencyResult:
    seconds, slowdown = interval([1.0, 2.0, 3.0]), interval([5.0, 5.1, 5.2])
    judged = seconds if limit and limit.kind == "seconds" else slowdown
    met = None if limit is None else verdict(limit.value, judged.values)
    return LatencyResult(metric, percentile, seconds, slowdown, limit, met)


def pool(
    role: RoleName,
    machine: str,
    replicas: int,
    prompts: float,
    tokens: float,
    batch: float,
    shares: tuple[float, ...],
    energy_kwh: float | None = None,
) -> SimulatedPool:
    return SimulatedPool(
        role=role,
        machine=machine,
        tensor_parallel=8,
        gpus_per_machine=8,
        replicas=replicas,
        utilization=prompts + tokens,
        prompt_busy=prompts,
        token_busy=tokens,
        mixed_busy=0.0,
        mixed_pool_share=0.1,
        mean_batch=batch,
        batch_time_share=shares,
        mean_waiting=2.0,
        most_waiting=9.0,
        kv_memory_mean=0.1,
        kv_memory_most=0.4,
        generated_tokens_per_s=40.0,
        energy_kwh=energy_kwh,
    )


def simulation() -> Simulation:
    limits = {("ttft", 99.0): TTFT_P99, ("e2e", 99.0): E2E_P99}
    return Simulation(
        design="Splitwise-HA",
        pools=(
            pool("prompt", "dgx-h100", 4, 0.7, 0.0, 0.0, (1.0,)),
            pool("token", "dgx-a100", 2, 0.0, 0.8, 9.5, (0.2, 0.8), energy_kwh=1.5),
        ),
        latency=tuple(latency(m, q, limits.get((m, q))) for m in METRICS for q in (50.0, 90.0, 99.0)),
        model="llama2-70b",
        workload="coding",
        slo="mine",
        engine="vllm (an engine)",
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


def test_json_holds_every_field_and_derived_value() -> None:
    said = simulation().to_dict()
    assert json.loads(json.dumps(said, allow_nan=False)) == said
    assert set(Simulation.__dataclass_fields__) - {"currency"} == set(said)  # USD is left out
    assert set(replace(simulation(), currency="EUR").to_dict()) == set(Simulation.__dataclass_fields__)
    assert said["schema_version"] == 2 and said["kind"] == "simulation"
    figures = {(row["metric"], row["percentile"]): row for row in said["latency"]}
    assert [m for m, p in figures if p == 99.0] == list(METRICS)
    assert (
        figures["tbt", 50.0]["slowdown"]["mean"] == pytest.approx(5.1)
        and figures["gap", 99.0]["seconds"]["mean"] == 2.0
    )
    assert said["pools"][1]["batch_time_share"] == [0.2, 0.8] and said["pools"][0]["energy_kwh"] is None
    assert [each["machines"] for each in said["pools"]] == [4, 2]


def test_limits_are_judged_in_their_own_kind() -> None:
    said = simulation().to_dict()
    assert said["slo"] == "mine" and said["slo_met"] is False
    ttft, e2e = (row for row in said["latency"] if row["limit"] is not None)
    assert ttft["limit"] == {"metric": "ttft", "percentile": 99.0, "value": 6.0, "kind": "slowdown"}
    assert ttft["slowdown"]["mean"] == pytest.approx(5.1) and ttft["met"] == "pass"
    assert ttft["slowdown"]["low"] < 5.1 < ttft["slowdown"]["high"]
    assert (e2e["limit"]["kind"], e2e["seconds"]["mean"], e2e["met"]) == ("seconds", 2.0, "undecided")


def test_numbers_that_are_not_finite_become_none() -> None:
    never = LatencyResult("e2e", 99.0, interval([1.0, math.inf]), interval([2.0, math.nan]), E2E_P99, "fail")
    said = replace(simulation(), latency=(never,), throughput_rps=math.inf).to_dict()
    (row,) = said["latency"]
    assert row["seconds"]["mean"] is None and row["slowdown"]["mean"] is None and said["throughput_rps"] is None


def test_frames_have_a_row_per_percentile_and_per_pool() -> None:
    frame = simulation().to_frame()
    assert len(frame) == 3 * len(METRICS)
    row = frame[(frame.metric == "ttft") & (frame.percentile == 99.0)].iloc[0]
    assert (row.limit, row.limit_kind, row.met) == (6.0, "slowdown", "pass")
    assert row.slowdown_low < row.slowdown < row.slowdown_high
    assert math.isnan(frame.limit[0]) and frame.limit_kind[0] == ""
    assert str(frame.dtypes["limit"]) == "float64"
    pools = simulation().to_frame("pools")
    assert pools.role.tolist() == ["prompt", "token"] and pools.mean_batch.tolist() == [0.0, 9.5]
    assert math.isnan(pools.energy_kwh[0]) and "batch_time_share" not in pools


def test_frames_without_intervals_or_rows_can_be_made() -> None:
    one = LatencyResult("ttft", 50.0, interval([1.0]), interval([2.0]))
    assert math.isnan(replace(simulation(), latency=(one,)).to_frame().seconds_low[0])
    empty = replace(simulation(), latency=(), pools=())
    assert empty.to_frame().empty and empty.to_frame("pools").empty

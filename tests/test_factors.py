"""Factors on inputs: each against the same change made in another way."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from provisioner import api
from provisioner.errors import InputError, UnknownNameError
from provisioner.loading.scenario import load_scenario
from provisioner.loading.setting import load_setting
from provisioner.options import PlanOptions, SimulateOptions
from provisioner.planning.setting import Setting
from provisioner.results.plan import Plan

CLUSTER = {"design": "splitwise-hh", "prompt_machines": 8, "token_machines": 1, "rate_rps": 20.0, "duration_s": 20.0}


def setting(scale: Mapping[str, float], **options: Any) -> Setting:
    return load_setting(PlanOptions(scale=scale, tensor_parallel="largest", **options))


def fast(**options: Any) -> Plan:
    return api.plan(fast=True, slo="p99", tensor_parallel="largest", **options)


def test_rate_and_cv_are_those_given() -> None:
    assert fast(rate_rps=35, scale={"rate": 2.0}).machines == fast(rate_rps=70).machines
    assert setting({"cv": 3.0}, cv=1.5).traffic.cv == 4.5
    assert setting({"rate": 2.0}, rate_rps=35).rate_rps == 70.0


def test_prices_and_power_of_one_type_or_of_all() -> None:
    plain = setting({}).prices
    half = setting({"price:dgx-a100": 0.5, "price": 3.0, "power": 2.0}).prices
    assert half.cost_usd_per_h["dgx-a100"] == pytest.approx(1.5 * plain.cost_usd_per_h["dgx-a100"])
    assert half.cost_usd_per_h["dgx-h100"] == pytest.approx(3.0 * plain.cost_usd_per_h["dgx-h100"])
    assert half.power_w == {name: 2.0 * power for name, power in plain.power_w.items()}


def test_limits() -> None:
    plain, tight = setting({}).slo, setting({"slo": 0.5}).slo
    assert [limit.value for limit in tight.limits] == [0.5 * limit.value for limit in plain.limits]
    assert "x 0.5" in tight.name


@pytest.mark.parametrize("assumptions", ["measured", "splitwise-sim"])
def test_times_and_links_of_a_replica_and_not_of_the_reference(assumptions: str) -> None:
    scale = {"prompt-time": 2.0, "decode-time:dgx-a100": 3.0, "link-bandwidth": 0.25}
    plain, changed = setting({}, assumptions=assumptions), setting(scale, assumptions=assumptions)
    tokens = np.array([1.0, 512.0, 3000.0])
    for name, decode in (("dgx-a100", 3.0), ("dgx-h100", 1.0)):
        a, b = plain.replica(name, 8), changed.replica(name, 8)
        np.testing.assert_allclose(b.prompt_s(tokens), 2.0 * a.prompt_s(tokens))
        np.testing.assert_allclose(b.decode_s(tokens, 9.0 * tokens), decode * a.decode_s(tokens, 9.0 * tokens))
        assert b.link_bytes_per_s == 0.25 * a.link_bytes_per_s
        assert b.kv_capacity_tokens == a.kv_capacity_tokens
        if assumptions == "splitwise-sim":  # its mixed iterations follow the prompt curve alone
            np.testing.assert_allclose(b.mixed_s(tokens, 3.0, 99.0), 2.0 * a.mixed_s(tokens, 3.0, 99.0))
    np.testing.assert_array_equal(changed.reference.ttft_s(tokens), plain.reference.ttft_s(tokens))


def test_lengths_of_a_workload_and_of_a_trace(tmp_path: Any) -> None:
    plain, longer = (
        load_scenario(SimulateOptions(**CLUSTER, scale=scale)).request_set(0)
        for scale in ({}, {"output-tokens": 3.0, "prompt-tokens": 0.5})
    )
    assert plain.arrival_s.tolist() == longer.arrival_s.tolist()
    np.testing.assert_allclose(longer.output_tokens.mean(), 3.0 * plain.output_tokens.mean(), rtol=0.03)
    np.testing.assert_allclose(longer.prompt_tokens.mean(), 0.5 * plain.prompt_tokens.mean(), rtol=0.03)
    assert longer.prompt_tokens.min() >= 1
    path = tmp_path / "trace.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens\n0,100,10\n2,301,1\n4,7,30\n")
    cluster = {name: value for name, value in CLUSTER.items() if name not in ("rate_rps", "duration_s")}
    options = SimulateOptions(**cluster, trace=str(path), scale={"rate": 4.0, "output-tokens": 0.5})  # type: ignore[arg-type]
    found = load_scenario(options).request_set(0)
    assert found.arrival_s.tolist() == [0.0, 0.5, 1.0]
    assert (found.prompt_tokens.tolist(), found.output_tokens.tolist()) == ([100, 301, 7], [5, 1, 15])
    assert load_setting(PlanOptions(trace=str(path), scale={"rate": 4.0})).traffic.peak_rps == pytest.approx(
        4.0 * load_setting(PlanOptions(trace=str(path))).traffic.peak_rps
    )


def test_a_simulation_with_slower_decoding_is_that_of_a_slower_curve() -> None:
    plain = api.simulate(**CLUSTER)
    slower = api.simulate(**CLUSTER, scale={"decode-time": 2.0, "prompt-time": 2.0, "link-bandwidth": 0.5, "rate": 0.5})
    ttft, half = (found.latency[0].seconds.mean for found in (plain, slower))
    assert 1.8 * ttft < half < 2.2 * ttft


def test_what_is_refused_and_what_is_said() -> None:
    with pytest.raises(UnknownNameError, match="unknown factor 'prices'"):
        setting({"prices": 2.0})
    with pytest.raises(InputError, match="rate is not an input of a machine type"):
        setting({"rate:dgx-a100": 2.0})
    with pytest.raises(UnknownNameError, match="dgx-a1000"):
        setting({"price:dgx-a1000": 2.0})
    with pytest.raises(InputError, match=r"scale price: must be above 0"):
        setting({"price": 0.0})
    with pytest.raises(InputError, match="scale power: changes no latency"):
        load_scenario(SimulateOptions(**CLUSTER, scale={"power": 2.0}))
    plan = fast(rate_rps=20, scale={"output-tokens": 2.0, "rate": 1.5})
    assert any("a what-if: output-tokens x 2, rate x 1.5" in warning for warning in plan.warnings)
    assert "--rate 20 " in plan.command and "--scale output-tokens=2 --scale rate=1.5" in plan.command
    own = fast(scale={"rate": 0.5})  # the workload's own rate is written out as it was, so its factor is in it
    assert f"--rate {own.rate_rps:g} " in own.command and "rate=" not in own.command


def test_verdicts_are_kept_between_questions_that_differ_in_prices_only() -> None:
    from provisioner.verify.answer import best_plan
    from provisioner.verify.judge import Verdicts

    designs = ("splitwise-hh", "splitwise-ha")
    options = PlanOptions(rate_rps=20, designs=designs, sets=2, duration_s=30, slo="p99", tensor_parallel="largest")
    verdicts = Verdicts()
    first = best_plan(load_setting(options), verdicts=verdicts)
    again = best_plan(load_setting(options), verdicts=verdicts)
    assert first.evidence is not None and again.evidence is not None
    assert first.evidence.runs > 0 and again.evidence.runs == 0
    assert again.pools == first.pools
    dear = dataclasses.replace(options, scale={"price:dgx-h100": 40.0})
    other = best_plan(load_setting(dear), verdicts=verdicts)
    alone = best_plan(load_setting(dear))
    assert (other.design, other.pools) == (alone.design, alone.pools)
    assert other.evidence is not None and alone.evidence is not None
    assert other.evidence.runs < alone.evidence.runs
    slower = best_plan(load_setting(dataclasses.replace(options, scale={"decode-time": 1.2})), verdicts=verdicts)
    assert slower.evidence is not None and slower.evidence.runs > 0


def test_requests_without_times_are_served_at_a_rate_only(tmp_path) -> None:
    file, message = str(tmp_path / "t.csv"), "has lengths only, no times; give workload and rate_rps instead"
    (tmp_path / "t.csv").write_text("prompt_tokens,output_tokens\n10,3\n20,4\n")
    options = {"design": "baseline-h100", "mixed_machines": 1, "model": "llama2-70b"}
    with pytest.raises(InputError, match=message):
        load_scenario(SimulateOptions(trace=file, **options))
    with pytest.raises(InputError, match=message):
        load_setting(PlanOptions(trace=file))
    with pytest.raises(InputError, match="so it has no rate: give one with rate_rps"):
        load_setting(PlanOptions(workload=file))
    assert load_setting(PlanOptions(workload=file, rate_rps=5.0)).rate_rps == 5.0
    assert load_scenario(SimulateOptions(workload=file, rate_rps=5.0, **options)).request_set(0).requests > 0


def test_the_rules_of_reading_reach_the_trace(tmp_path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("timestamp,input_length,output_length\n0.5,10,3\n1,10,0\n20.5,20,4\n")
    with pytest.raises(InputError, match="the unit of its times is not told"):
        load_setting(PlanOptions(workload=str(file)))
    assert load_setting(PlanOptions(workload=str(file), time_unit="s")).rate_rps == pytest.approx(1 / 20)
    with pytest.raises(InputError, match="line 3: output_length: 0 tokens"):
        load_setting(PlanOptions(trace=str(file), time_unit="s", failed_rows="refuse"))


def sessions_file(folder: Path, count: int = 300) -> str:
    """A file of AIPerf sessions of three turns each, one session a second."""
    turn = '{{"session_id": "s{0}", {1}, "input_length": 400, "output_length": {2}}}\n'
    starts = ((f'"timestamp": {1000 * k}', '"delay": 500', '"delay": 2000') for k in range(count))
    rows = (turn.format(k, when, 20 + k % 7) for k, session in enumerate(starts) for when in session)
    (folder / "sessions.jsonl").write_text("".join(rows))
    return str(folder / "sessions.jsonl")


def test_sessions_are_simulated_and_planned_as_they_are(tmp_path) -> None:
    file = sessions_file(tmp_path)
    options = {"design": "baseline-h100", "mixed_machines": 1, "model": "llama2-70b", "slo": "batch"}
    found = api.simulate(trace=file, **options)
    assert found.stable and found.requests == 900
    assert found.load.endswith("as it is; 600 of its requests arrive after the answers before them")
    assert found.throughput_rps == pytest.approx(found.rate_rps, rel=1e-3)
    assert found.rate_rps < 900 / 302.5  # answers take time, in which sessions wait
    faster = api.simulate(trace=file, scale={"rate": 2.0}, **options)
    assert 1.8 * found.rate_rps < faster.rate_rps < 2.0 * found.rate_rps
    plan = api.plan(trace=file, designs="baseline-h100", model="llama2-70b", slo="batch", headroom=0.2, ttft_p90="1s")
    assert plan.evidence is not None and [pool.machines for pool in plan.pools] == [1]
    assert "900 requests, 600 of them after the answers before them, its requests closer" in plan.evidence.rule
    assert any("600 requests wait for answers: rates are of the earliest" in note for note in plan.warnings)


def test_sessions_overload_a_cluster_that_slows_them(tmp_path) -> None:
    """Less arrives than is offered; the rate offered is told all the same, and no plan of the formulas alone."""
    file = sessions_file(tmp_path)
    options = {"design": "baseline-h100", "mixed_machines": 1, "model": "llama2-70b", "slo": "batch"}
    found = api.simulate(trace=file, scale={"rate": 12.0, "output-tokens": 10.0}, **options)
    assert found.stable is not True and found.throughput_rps < 0.8 * found.rate_rps
    with pytest.raises(InputError, match=r"fast: session_id and delay .* unknown to formulas; leave it out, or give"):
        api.plan(trace=file, fast=True)
    with pytest.raises(InputError, match=r"cool_down: session_id and delay .*, so that no end is known"):
        api.simulate(trace=file, cool_down=0.1, **options)
    with pytest.raises(InputError, match=r"session_id and delay .* so it has no rate: give one with rate_rps"):
        api.plan(workload=file)

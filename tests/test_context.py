"""The context served: the longest request unless given, and its place in what fits; the reference of slowdowns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from provisioner import api
from provisioner.errors import InputError
from provisioner.loading.scenario import load_scenario
from provisioner.loading.setting import load_setting
from provisioner.options import PlanOptions, SimulateOptions
from provisioner.perf.assumptions import replica
from provisioner.specs import catalog

TRACE = "arrival_s,prompt_tokens,output_tokens\n" + "".join(f"{k},{100 * (k + 1)},{k + 1}\n" for k in range(30))
"""30 requests, the longest of 3,030 tokens."""
FP8: dict[str, Any] = {"model": "llama-3.1-70b", "dtype": "fp8", "machines": "dgx-h100", "slo": "none"}


@pytest.fixture
def trace(tmp_path: Path) -> str:
    (tmp_path / "t.csv").write_text(TRACE)
    return str(tmp_path / "t.csv")


def degrees(**options: Any) -> list[int]:
    return sorted(key.tensor_parallel for key in load_setting(PlanOptions.of(**FP8, **options)).replicas)


def test_a_degree_is_left_out_only_if_the_longest_request_does_not_fit(trace: str) -> None:
    """One H100 has room for 6,168 tokens of Llama-3.1-70B in FP8 with a KV cache in 16 bits."""
    room = replica(catalog.model("llama-3.1-70b").in_dtype("fp8", "bf16"), "dgx-h100", 1, context_tokens=1)
    assert 4_000 < room.kv_capacity_tokens < 7_000
    assert degrees(trace=trace) == [1, 2, 4, 8]
    assert degrees(trace=trace, context_tokens="4k") == [1, 2, 4, 8]
    assert degrees(trace=trace, context_tokens="7k") == [2, 4, 8]
    assert degrees(workload="conversation", rate_rps=5) == [2, 4, 8]
    setting = load_setting(PlanOptions.of(**FP8, trace=trace))
    assert setting.context_tokens == 3_030 and setting.rests_on["context_tokens"] == 3_030


def test_the_longest_request_of_a_workload_is_the_longest_that_can_be_drawn() -> None:
    for name in ("coding", "conversation"):
        known = catalog.workload(name)
        setting = load_setting(PlanOptions.of(workload=name, fast=True, machines="dgx-h100"))
        assert setting.context_tokens == known.longest_tokens
        scaled = PlanOptions.of(workload=name, machines="dgx-h100", scale="output-tokens=2")
        assert load_setting(scaled).context_tokens == known.scaled(1.0, 2.0).longest_tokens > known.longest_tokens
        simulated = SimulateOptions.of(design="splitwise-hh", prompt_machines=2, token_machines=1, workload=name)
        assert load_scenario(simulated).context_tokens == known.longest_tokens


def test_longer_requests_are_refused_with_their_number(trace: str) -> None:
    counted = (
        r"context_tokens: 10 of the 30 requests of \S+t.csv are longer than 2,020 tokens, the longest 3,030; give 3,030"
    )
    with pytest.raises(InputError, match=counted):
        load_setting(PlanOptions.of(**FP8, trace=trace, context_tokens=2_020))
    with pytest.raises(InputError, match=counted):
        load_scenario(
            SimulateOptions.of(
                design="splitwise-hh", prompt_machines=1, token_machines=1, trace=trace, context_tokens=2_020
            )
        )
    with pytest.raises(InputError, match=r"up to .* % of the requests of coding are longer than 4,096 tokens"):
        load_setting(PlanOptions.of(context_tokens="4K"))
    with pytest.raises(InputError, match=r"131,073 tokens are more than the 131,072 that Llama-3\.1-70B was"):
        load_setting(PlanOptions.of(**FP8, trace=trace, context_tokens=131_073))


@pytest.mark.parametrize("command", ["plan", "simulate"])
def test_every_command_names_one_reference(command: str, trace: str) -> None:
    """A DGX-A100 has no FP8: the next is a DGX-H100, whatever machines are considered."""
    asked: dict[str, Any] = {"model": "llama-3.1-8b", "dtype": "fp8", "trace": trace, "slo": "none"}
    if command == "plan":
        found: Any = api.plan(fast=True, machines="dgx-h200", tensor_parallel=1, **asked)
    else:
        found = api.simulate(design="baseline-h200", mixed_machines=1, **asked)
    assert found.reference == "dgx-h100 at TP 8" and found.context_tokens == 3_030
    assert "slowdowns over dgx-h100 at TP 8 alone" in str(found)
    plain = api.plan(fast=True, machines="dgx-h100", tensor_parallel=8)
    assert plain.reference == "dgx-a100 at TP 8"

"""The compiled loop of engines is the loop in plain Python; reserving and prompts first do what they say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from provisioner.perf.evidence import operators_of
from provisioner.specs.catalog import engine, machine, model
from provisioner.specs.engine import Batch
from tests.oracles.closed_loop import Times, closed_loop
from tests.oracles.engines import Client, Done, simulate

LLAMA = model("llama-3.1-8b")
ENGINE = engine("provisioner-0.1")


def run(
    engine_name: str = "provisioner-0.1",
    capacity: float = 1e9,
    budget: int = 2048,
    output_tokens: int = 120,
    **more: object,
) -> Done:
    of = engine(engine_name)
    batches = (Batch(0, budget, 64),)
    changed = replace(of, scheduling=replace(of.scheduling, batches=batches, **more))
    client = Client(5, 1.0, 0.1)
    return simulate(
        *(LLAMA, "dgx-h100", 1, changed),
        in_flight=32,
        prompt_tokens=3000,
        output_tokens=output_tokens,
        requests=160,
        client=client,
        capacity_tokens=capacity,
    )


@pytest.mark.parametrize(("budget", "capacity"), [(2048, 1e9), (8192, 1e9), (512, 60_000), (2048, 40_000)])
def test_the_loop_is_that_in_plain_python(budget: int, capacity: float) -> None:
    found = run(budget=budget, capacity=capacity)
    times = Times(LLAMA, operators_of(machine("dgx-h100"), ENGINE), 1, ENGINE.execution, budget, 64, 4096)
    plain = closed_loop(
        times,
        concurrency=32,
        prompt_tokens=3000,
        output_tokens=120,
        requests=160,
        budget=budget,
        capacity_tokens=capacity,
        most_running=64,
        admission_s=0.003,
        output_spread=0.1,
    )
    assert found.evictions == pytest.approx(plain.evictions, abs=3)
    assert found.tpot_s == pytest.approx(float(np.mean(plain.tpot_s)), rel=0.01)
    assert found.ttft_s == pytest.approx(float(np.mean(plain.ttft_s)), rel=0.02)


def test_prompts_first_shorten_ttft_and_lengthen_tpot() -> None:
    decode_first, prompt_first = run(budget=512), run(budget=512, order="prompt-first")
    assert prompt_first.ttft_s < decode_first.ttft_s and prompt_first.tpot_s > decode_first.tpot_s


def test_who_reserves_evicts_nothing_and_runs_fewer() -> None:
    grows, reserves = run(capacity=40_000), run(capacity=40_000, admission="reserve")
    assert grows.evictions > 0 == reserves.evictions
    assert reserves.tpot_s < grows.tpot_s and reserves.ttft_s > grows.ttft_s


def test_an_estimate_evicts_fewer_than_none_and_runs_more_than_a_reservation() -> None:
    """The estimate falls until it is too low, and rises again (outputs of 600 tokens)."""
    found = {
        admission: run("sglang", capacity=60_000, admission=admission, output_tokens=600)
        for admission in ("recompute", "estimate", "reserve")
    }
    assert found["recompute"].evictions > 2 * found["estimate"].evictions > 0 == found["reserve"].evictions
    assert found["estimate"].tokens_per_s > found["reserve"].tokens_per_s


def test_the_floor_of_prompts() -> None:
    free, floored = run(), run("provisioner-0.1,prompt_layer_s=0.008")
    assert floored.ttft_s > free.ttft_s and floored.gap_s == pytest.approx(free.gap_s, rel=0.3)

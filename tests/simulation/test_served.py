"""Chunked prefill in a closed loop: an independent simulation with the same times and with summed ones, and vLLM."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import mean, median

import numpy as np
import pytest

import provisioner
from provisioner.perf.assumptions import ReplicaPerf
from provisioner.perf.derived import iteration_s
from provisioner.perf.evidence import operators_of
from tests.oracles.closed_loop import Run, read_runs
from tests.oracles.served import CurveTimes, Loop, apart, loop_of, off, on_gpus, oracle, requests_of, simulate

REPLICAS = {
    "llama-3.1-8b, A100": ("llama-3.1-8b", "dgx-a100", 1, False),
    "llama-3.1-8b, 2 L40S": ("llama-3.1-8b", "l40s-x8", 2, False),
    "mistral-small-24b fp8, 2 H200": ("mistral-small-24b", "dgx-h200", 2, True),
    "qwen2.5-72b, 4 B200": ("qwen2.5-72b", "dgx-b200", 4, False),
    "llama-3.1-70b, 8 H100": ("llama-3.1-70b", "dgx-h100", 8, False),
}
SHAPES = [
    (4, 4096, 128, 8192),
    (32, 1024, 256, 8192),
    (128, 512, 512, 8192),
    (64, 2048, 128, 2048),
    (16, 6000, 64, 4096),
    (8, 256, 2048, 8192),
]
"""Concurrency, prompt and output tokens, budget: single and several prompts an iteration, whole and cut."""


def loops(perf: ReplicaPerf) -> list[Loop]:
    """Made-up loops, none of which can fill the memory."""
    made = [Loop(perf, c, prompt, output, budget, waves=4) for c, prompt, output, budget in SHAPES]
    return [
        loop
        for loop in made
        if loop.concurrency * (loop.prompt_tokens + 1.5 * loop.output_tokens) < perf.kv_capacity_tokens
    ]


@pytest.mark.parametrize("name", REPLICAS)
def test_with_the_same_times_both_give_every_request_the_same_latencies(name: str) -> None:
    perf = on_gpus(*REPLICAS[name])
    assert perf.curve.provenance == ("derived",)
    assert len(loops(perf)) >= 5
    for loop in loops(perf):
        found, expected = simulate(loop), oracle(loop, CurveTimes(perf))
        assert found.evictions == expected.evictions == 0
        np.testing.assert_allclose(found.ttft_s, expected.ttft_s, rtol=1e-6)
        np.testing.assert_allclose(found.tpot_s, expected.tpot_s, rtol=1e-6)


def test_curves_lose_little_against_the_sum_of_operators_for_each_iteration() -> None:
    apart_by = [apart(simulate(loop), oracle(loop)) for which in REPLICAS.values() for loop in loops(on_gpus(*which))]
    tpot, ttft = (np.abs(each) for each in zip(*apart_by, strict=True))
    assert np.median(tpot) < 0.02 and tpot.max() < 0.06
    assert np.median(ttft) < 0.04 and ttft.max() < 0.15


@pytest.mark.parametrize("name", REPLICAS)
def test_the_rule_of_mixed_iterations_is_near_the_sum_of_operators(name: str) -> None:
    perf = on_gpus(*REPLICAS[name])
    tokens, batch, context = np.meshgrid([256, 1024, 2048, 4096, 8000], [1, 8, 64, 128], [512, 2048, 8192])
    gpu = operators_of(perf.machine, perf.engine)
    summed_s = iteration_s(
        perf.model,
        gpu,
        perf.tensor_parallel,
        prompt_tokens=tokens,
        batch=batch,
        context_tokens=batch * context,
        execution=perf.engine.execution,
    )
    off_by = np.abs(perf.mixed_s(tokens, batch, batch * context) / summed_s - 1)
    assert off_by.mean() < 0.015 and off_by.max() < 0.07


def test_several_prompts_in_one_iteration_count_as_one_long_prompt() -> None:
    """The largest simplification: their attention is of all tokens to each other, so TTFT errs upwards."""
    perf = on_gpus(*REPLICAS["llama-3.1-8b, A100"])
    short = Loop(perf, 128, 512, 512, waves=4)
    assert 0.05 < apart(simulate(short), oracle(short))[1] < 0.15
    single = replace(short, concurrency=4, prompt_tokens=4096)
    assert abs(apart(simulate(single), oracle(single))[1]) < 0.03


def test_the_public_simulation_gives_what_one_replica_gives(tmp_path: Path) -> None:
    """Sixteen requests in flight for each of a machine's two replicas; percentiles of those not in the first tenth."""
    loop = Loop(on_gpus("llama-3.1-70b", "dgx-h200", 4, fp8=True), 16, 1024, 512, waves=60)
    lengths = tmp_path / "lengths.csv"
    rows = (
        f"2024-01-01 00:{k // 60:02}:{k % 60:02},{loop.prompt_tokens},{n}"
        for k, n in enumerate(requests_of(loop).output_tokens)
    )
    lengths.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]) + "\n")
    found = provisioner.simulate(
        model="llama-3.1-70b",
        dtype="fp8",
        kv_dtype="fp8",
        reference="dgx-h200",
        pools=("mixed:dgx-h200:4=1",),
        engine=loop.perf.engine.name,
        batch_tokens=loop.budget_tokens,
        workload=str(lengths),
        in_flight=32,
        requests=2000,
    )
    expected = oracle(loop)
    steady = slice(loop.requests // 10, -loop.concurrency)
    for metric, seconds in (("ttft", expected.ttft_s), ("tbt", expected.tpot_s)):
        median_s = next(r.seconds.mean for r in found.latency if (r.metric, r.percentile) == (metric, 50.0))
        assert median_s == pytest.approx(float(np.median(seconds[steady])), rel=0.03)


@pytest.fixture(scope="module")
def served(shared_data: Path) -> list[Run]:
    """All measured runs."""
    path = shared_data / "serving-measurements" / "vllm_closed_loop.csv"
    if not path.is_file():
        pytest.skip(f"{path.name} is not on this machine")
    return read_runs(path)


def errors(runs: list[Run], **changed: float) -> tuple[list[float], list[float]]:
    """Sizes of the relative errors of TPOT and TTFT, with other assumptions of the client."""
    found = [off(simulate(replace(loop_of(this), **changed)), this) for this in runs]  # type: ignore[arg-type]
    return [abs(tpot) for tpot, _ in found], [abs(ttft) for _, ttft in found]


def test_tpot_of_vllm_within_a_tenth_and_ttft_within_a_quarter(served: list[Run]) -> None:
    tpot, ttft = errors(served)
    assert len(served) == 153
    assert mean(tpot) < 0.1 and mean(ttft) < 0.25
    computed = [this for this in served if this.possible]
    tpot, ttft = errors(computed)
    assert mean(tpot) < 0.05 and median(tpot) < 0.04
    assert mean(ttft) < 0.22 and median(ttft) < 0.18
    for group in {this.group for this in computed if not ("Qwen" in this.model and this.fp8)}:
        tpot, ttft = errors([this for this in computed if this.group == group])
        assert mean(tpot) < 0.07 and mean(ttft) < 0.3, group


def test_the_error_of_tpot_does_not_rest_on_the_assumed_client_but_that_of_ttft_does(served: list[Run]) -> None:
    """The number of requests sent is not recorded; all enter at once, and the mean TTFT contains this burst."""
    computed = [this for this in served if this.possible and this.concurrency in (8, 32, 128)]
    for changed in ({"waves": 5}, {"waves": 20}, {"output_spread": 0.05}, {"output_spread": 0.2}):
        assert mean(errors(computed, **changed)[0]) < 0.06, changed
    assert mean(errors(computed, waves=5)[1]) > 0.25
    assert mean(errors(computed, waves=20)[1]) > 0.25

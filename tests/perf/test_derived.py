"""Derived iteration times: an independent sum, physical bounds, laws, and published measurements."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import mean, median

import numpy as np
import pytest

from provisioner.errors import InputError
from provisioner.perf.curves import fit_measured
from provisioner.perf.derived import (
    KERNELS_ALONE,
    SAMPLING_PASSES,
    context_slope_s_per_token,
    derived_points,
    iteration_s,
)
from provisioner.perf.operators import AXES, GpuLimits, GridTable, Operators, gpu_limits, load_operators
from provisioner.perf.points import read_points
from provisioner.specs import catalog
from provisioner.specs.engine import Execution, FusedNorms
from provisioner.specs.kernels import KINDS
from provisioner.specs.model import ModelArchitecture
from provisioner.specs.shipped import data_folder
from tests.oracles.closed_loop import (
    LLAMA_70B,
    QWEN_32B,
    VLLM,
    Run,
    Times,
    closed_loop,
    fit_overhead,
    predict,
    read_runs,
)
from tests.oracles.shapes import architecture

LLAMA_8B = architecture(32, 4096, 32, 8, 128, 14336, 128256)
LLAMA2_70B = architecture(80, 8192, 64, 8, 128, 28672, 32000)
BLOOM_176B = architecture(70, 14336, 112, 112, 128, 57344, 250880, gated=False, rotary=False)
SHAPES = {"8b": LLAMA_8B, "70b": LLAMA_70B, "32b": QWEN_32B, "bloom": BLOOM_176B}
LAYER_WEIGHTS = {  # of one layer's products, by hand: QKV, output, MLP
    "8b": 4096 * (32 + 16) * 128 + 4096 * 4096 + 3 * 4096 * 14336,
    "70b": 8192 * (64 + 16) * 128 + 8192 * 8192 + 3 * 8192 * 28672,
    "32b": 5120 * (64 + 16) * 128 + 8192 * 5120 + 3 * 5120 * 25600,
    "bloom": 4 * 14336 * 14336 + 8 * 14336 * 14336,
}
GPUS = sorted(gpu_limits())


def _ideal() -> Operators:
    """A GPU at its limits: every utilisation is 1."""
    tables = {
        (operator, kind): GridTable(tuple(np.array([1.0, 2.0]) for _ in axes), np.ones((2,) * len(axes)))
        for operator, axes in AXES.items()
        for kind in KINDS[operator]
    }
    return Operators(GpuLimits("ideal", 1e14, 2e14, 1e12, 1e11), tables)


def test_an_iteration_is_the_sum_of_its_operators() -> None:
    """The sum written out a second time for one case, with limits as plain numbers."""
    shape = architecture(3, 1024, 16, 8, 128, 4096, 32000)
    tp, chunk, batch, each = 2, 700, 20, 900
    m, flops, memory, link = chunk + batch, 1e14, 1e12, 1e11

    def product(rows: float, columns: float, depth: float) -> float:
        moved = 2 * (rows * columns + rows * depth + columns * depth)
        return max(2 * rows * columns * depth / flops, moved / memory)

    def prompt(tokens: float) -> float:
        moved = 2 * 2 * tokens * (8 + 4) * 128
        return max(2 * 8 * 128 * tokens * (tokens + 1) / flops, moved / memory)

    layer = product(m, (8 + 2 * 4) * 128, 1024) + product(m, 1024, 8 * 128)
    layer += product(m, 2 * 2048, 1024) + product(m, 1024, 2048)
    layer += 2 * 4 * 2 * m * 1024 / memory  # norms: read and write the sum and its norm
    layer += 2 * 2 * m * 128 * (8 + 4) / memory  # rotation
    layer += 2 * 2 * m * 128 * 2 * 4 / memory  # keys and values to the cache
    layer += 2 * m * 3 * 2048 / memory  # activation
    layer += 2 * 2 * m * 1024 / link
    layer += prompt(chunk)
    layer += (20 * (2 * 2 * each * 4 * 128 + 2 * 2 * 8 * 128)) / memory
    ends = 2 * 2 * 2 * m * 1024 / memory + 2 * m * 1024 / link + product(21, 16000, 1024)
    ends += 2 * 21 * 32000 / link / 2 + SAMPLING_PASSES * 4 * 21 * 32000 / memory
    found = iteration_s(
        shape,
        _ideal(),
        tp,
        prompt_tokens=chunk,
        batch=batch,
        context_tokens=batch * each,
        execution=Execution(0.001, 1e-5),
    )
    assert found.item() == pytest.approx(3 * layer + ends + 0.001 + 21e-5, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "gpu", "tp", "batch", "fused"),
    [
        ("llama-3.1-70b", "h200-sxm-141gb", 4, 64, True),
        ("llama-3.1-70b", "h200-sxm-141gb", 1, 64, False),  # no sums
        ("llama-3.1-70b", "h200-sxm-141gb", 4, 513, False),  # beyond the graphs
        ("llama-3.1-70b", "l40s-48gb", 4, 64, False),  # over PCIe
        ("llama-3.1-8b", "h200-sxm-141gb", 4, 64, False),  # of a small hidden size
        ("qwen3-32b", "h200-sxm-141gb", 4, 64, False),  # another model
    ],
)
def test_norms_that_the_sums_compute_take_no_time_of_their_own(
    name: str, gpu: str, tp: int, batch: int, fused: bool
) -> None:
    shape, operators = catalog.model(name), load_operators(gpu)
    llama = Execution(fused_norms=(FusedNorms(models=("llama",), above_hidden_size=4096),))
    time_s = [
        float(iteration_s(shape, operators, tp, batch=batch, context_tokens=1000 * batch, execution=execution))
        for execution in (Execution(), llama)
    ]
    norms_s = shape.layers * 2 * float(operators.elementwise_s(4 * 2 * batch * shape.hidden_size, "norm"))
    assert time_s[0] - time_s[1] == pytest.approx(norms_s if fused else 0.0, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("name", SHAPES)
def test_iterations_lie_between_the_physical_limit_and_a_few_times_it(gpu: str, name: str) -> None:
    found, shape = load_operators(gpu), SHAPES[name]
    weights = shape.layers * LAYER_WEIGHTS[name]
    prompt_s = iteration_s(shape, found, 1, prompt_tokens=4096).item()
    assert 1 < prompt_s / (2 * weights * 4096 / found.limits.bf16_flops) < 2.6
    decode_s = iteration_s(shape, found, 1, batch=1, context_tokens=1000).item()
    assert 1 < decode_s / (2 * weights / found.limits.memory_bytes_per_s) < 2.4


@pytest.mark.parametrize("gpu", GPUS)
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("dtype", ["bf16", "fp8"])
def test_more_work_takes_longer_and_parts_take_longer_than_the_whole(gpu: str, name: str, dtype: str) -> None:
    """As far as the kernels measured go: on B200 a batch of 8 is up to 15 % faster than one of 1."""
    found = load_operators(gpu)
    shape = replace(SHAPES[name], dtype=dtype)
    for tp in (1, 2, 4, 8):
        prompt_s = iteration_s(shape, found, tp, prompt_tokens=[16, 128, 1024, 4096, 16384])
        assert prompt_s[1] > 0.9 * prompt_s[0] and (np.diff(prompt_s[1:]) > 0).all()
        batch_s = iteration_s(shape, found, tp, batch=[1, 8, 64, 256], context_tokens=1000 * np.array([1, 8, 64, 256]))
        assert (batch_s[1:] > 0.85 * batch_s[:-1]).all() and batch_s[3] > batch_s[0]
        assert (
            np.diff(iteration_s(shape, found, tp, batch=64, context_tokens=64 * np.array([512, 2048, 8192]))) > 0
        ).all()
        mixed_s = iteration_s(shape, found, tp, prompt_tokens=1024, batch=64, context_tokens=64_000)
        apart_s = (
            iteration_s(shape, found, tp, prompt_tokens=1024),
            iteration_s(shape, found, tp, batch=64, context_tokens=64_000),
        )
        assert max(apart_s) < mixed_s < 1.02 * sum(apart_s)


def test_more_gpus_are_faster_over_nvlink_and_hardly_over_pcie() -> None:
    tps = (1, 2, 4, 8)
    h100 = [iteration_s(LLAMA_70B, load_operators("h100-sxm-80gb"), tp, prompt_tokens=4096).item() for tp in tps]
    assert all(more < 0.75 * fewer for fewer, more in pairwise(h100))
    l40s = [iteration_s(LLAMA_70B, load_operators("l40s-48gb"), tp, prompt_tokens=4096).item() for tp in tps]
    assert all(0.75 * fewer < more < fewer for fewer, more in pairwise(l40s))


def test_fp8_weights_and_cache_are_faster_where_they_matter() -> None:
    h100 = load_operators("h100-sxm-80gb")
    small = replace(LLAMA_70B, dtype="fp8")
    assert iteration_s(small, h100, 2, batch=1, context_tokens=500) < 0.75 * iteration_s(
        LLAMA_70B, h100, 2, batch=1, context_tokens=500
    )
    cached = replace(LLAMA_70B, kv_dtype="fp8")
    assert iteration_s(cached, h100, 2, batch=256, context_tokens=4e6) < 0.8 * iteration_s(
        LLAMA_70B, h100, 2, batch=256, context_tokens=4e6
    )


def test_arrays_broadcast_as_numbers_do() -> None:
    found = load_operators("a100-sxm-80gb")
    together = iteration_s(LLAMA_8B, found, 2, prompt_tokens=[[0], [500]], batch=[1, 64], context_tokens=[1000, 64_000])
    one_by_one = [
        [
            iteration_s(LLAMA_8B, found, 2, prompt_tokens=tokens, batch=b, context_tokens=c).item()
            for b, c in ((1, 1000), (64, 64_000))
        ]
        for tokens in (0, 500)
    ]
    np.testing.assert_allclose(together, one_by_one)


@pytest.mark.parametrize(("gpu", "tp"), [("h100-sxm-80gb", 8), ("a100-sxm-80gb", 4), ("l40s-48gb", 1)])
@pytest.mark.parametrize("name", SHAPES)
def test_points_make_a_curve_that_agrees_with_the_sum_between_them(gpu: str, tp: int, name: str) -> None:
    found, shape = load_operators(gpu), SHAPES[name]
    points = derived_points(shape, found, tp, VLLM)
    assert {point.provenance for point in points} == {"derived"}
    kv_bytes = shape.layers * 2 * shape.kv_heads * shape.head_dim * 2
    floor = kv_bytes / (tp * found.limits.memory_bytes_per_s)
    curve = fit_measured(points, ("m", "x", tp), floor)
    assert not curve.refused and curve.axis_context_tokens == 1024
    tokens = np.unique(np.geomspace(20, 16000, 50).astype(int))
    off = curve.prompt_s(tokens) / iteration_s(shape, found, tp, prompt_tokens=tokens, execution=VLLM) - 1
    assert np.abs(off).mean() < 0.02 and np.abs(off).max() < 0.15
    slope = context_slope_s_per_token(shape, found, tp)
    assert 1 <= slope / floor < 1.6
    batch, context = (x.ravel() for x in np.meshgrid([3, 20, 80, 320], [300, 1500, 6000]))
    decode_s = curve.decode(batch) + slope * batch * (context - 1024)
    off = decode_s / iteration_s(shape, found, tp, batch=batch, context_tokens=batch * context, execution=VLLM) - 1
    assert np.abs(off).mean() < 0.05 and np.abs(off).max() < 0.15


@pytest.mark.parametrize("tp", [0, 3, 128])
def test_a_tensor_parallelism_that_does_not_divide_the_model_is_refused(tp: int) -> None:
    with pytest.raises(InputError, match="tensor parallelism: must divide the model's 64 heads"):
        iteration_s(LLAMA_70B, _ideal(), tp, batch=1, context_tokens=100)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [("prompt_tokens", -1, "got -1"), ("batch", [1, float("nan")], "got nan"), ("context_tokens", np.inf, "got inf")],
)
def test_amounts_of_work_that_there_are_none_of_are_refused(name: str, value: object, says: str) -> None:
    work: dict[str, object] = {"prompt_tokens": 10, "batch": 1, "context_tokens": 100, name: value}
    with pytest.raises(InputError, match=f"iteration: {name}: must be 0 or more, {says}"):
        iteration_s(LLAMA_8B, _ideal(), 1, **work)  # type: ignore[arg-type]


class Steady(Times):
    """Iterations of one length, whatever is in them: a stub."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def iteration_s(self, chunks: list[tuple[int, int]], batch: int, context_tokens: np.ndarray) -> np.ndarray:
        return np.full(context_tokens.shape, self.seconds)


def test_the_closed_loop_by_hand() -> None:
    """Two prompts of 10 with a budget of 10 tokens: one prompt an iteration, a decode leaves 9 to the second."""
    both = closed_loop(Steady(1.0), concurrency=2, prompt_tokens=10, output_tokens=4, requests=2, budget=10)
    assert both.ttft_s.tolist() == [1, 3]
    assert both.tpot_s.tolist() == [1, 1]
    alone = closed_loop(Steady(0.5), concurrency=1, prompt_tokens=100, output_tokens=11, requests=3, budget=40)
    assert alone.ttft_s.tolist() == [1.5] * 3 and alone.tpot_s.tolist() == [0.5] * 3
    # room for 21 tokens: the second joins with 10 + 10, leaves at the next token and waits for the first to end
    tight = closed_loop(
        Steady(1.0), concurrency=2, prompt_tokens=10, output_tokens=5, requests=2, budget=100, capacity_tokens=21
    )
    assert tight.evictions >= 1 and tight.tpot_s[1] > tight.tpot_s[0] == 1
    with pytest.raises(ValueError, match="never fits"):
        closed_loop(Steady(1), concurrency=1, prompt_tokens=9, output_tokens=9, requests=1, capacity_tokens=10)


@pytest.fixture(scope="module")
def served(shared_data: Path) -> list[Run]:
    """Measured serving runs that computed their prompts."""
    path = shared_data / "serving-measurements" / "vllm_closed_loop.csv"
    if not path.is_file():
        pytest.skip(f"{path.name} is not on this machine")
    return [run for run in read_runs(path) if run.possible]


def test_tpot_and_ttft_of_vllm_in_a_closed_loop(served: list[Run]) -> None:
    """Every second run; TTFTs of 20 s and more are overflows of the KV cache or a start-up burst."""
    runs = [run for run in served if run.concurrency in (4, 16, 64)]
    assert len(runs) > 50
    found = {run: predict(run) for run in runs}
    tpot = [abs(found[run].tpot_s.mean() / run.tpot_s - 1) for run in runs]
    ttft = [abs(found[run].ttft_s.mean() / run.ttft_s - 1) for run in runs if run.ttft_s < 20]
    assert mean(tpot) < 0.06 and median(tpot) < 0.05
    assert mean(ttft) < 0.25 and median(ttft) < 0.2


def test_the_overhead_of_vllm_is_what_the_other_groups_give(served: list[Run]) -> None:
    """Fitted without a group of (model, TP), the overhead predicts that group's TPOT within 10 %."""
    runs = [run for run in served if run.concurrency in (8, 32, 128) and run.output_tokens == 1024 and run.ttft_s < 2]
    bare = {run: predict(run, KERNELS_ALONE).tpot_s.mean() for run in runs}
    for group in {run.group for run in runs}:
        others = [run for run in runs if run.group != group]
        fitted = fit_overhead(others, np.array([bare[run] for run in others]))
        off = [
            abs((bare[run] + fitted.iteration_s + fitted.sequence_s * run.concurrency) / run.tpot_s - 1)
            for run in runs
            if run.group == group
        ]
        assert mean(off) < 0.1
    fitted = fit_overhead(runs, np.array([bare[run] for run in runs]))
    assert fitted.iteration_s == pytest.approx(VLLM.iteration_s, abs=0.3e-3)
    assert fitted.sequence_s == pytest.approx(VLLM.sequence_s, abs=0.01e-3)


@pytest.mark.parametrize("machine", ["dgx-a100", "dgx-h100"])
@pytest.mark.parametrize(("model", "shape"), [("llama2-70b", LLAMA2_70B), ("bloom-176b", BLOOM_176B)])
def test_decode_of_older_software_is_a_constant_factor_slower(
    machine: str, model: str, shape: ModelArchitecture
) -> None:
    """The Splitwise measurements of 2023: one factor per TP leaves 5 % of the decode time in the mean."""
    gpu = load_operators({"dgx-a100": "a100-sxm-80gb", "dgx-h100": "h100-sxm-80gb"}[machine])
    path = data_folder("hardware_specs") / "curves" / f"{machine}__{model}.csv"
    for tp, points in read_points(path, model=model, machine=machine).items():
        sound = [p for p in points if p.phase == "decode" and not (tp == 2 and p.batch == 64)]
        found = [iteration_s(shape, gpu, tp, batch=p.batch, context_tokens=p.context_tokens).item() for p in sound]
        ratio = np.array([p.latency_s for p in sound]) / np.array(found)
        factor = np.median(ratio)
        assert 1 < factor < 3.2
        assert np.abs(factor / ratio - 1).mean() < 0.05

"""Operator times: limits by hand, interpolation by scipy, laws over every shipped GPU, and damaged tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.interpolate import RegularGridInterpolator

from provisioner.errors import InputError, UnknownNameError
from provisioner.perf import operators
from provisioner.perf.evidence import derived_curves, operators_of, why_not_derived
from provisioner.perf.operators import (
    AXES,
    SMALLEST,
    GpuLimits,
    GridTable,
    Measured,
    NumberType,
    Operators,
    estimate_operators,
    gpu_limits,
    load_operators,
    measured,
    read_table,
)
from provisioner.specs.catalog import SHIPPED, engine
from provisioner.specs.kernels import ANY, KINDS, Take, folder, preferred, table_files
from provisioner.specs.model import ON_SOME_GPUS

GPUS = sorted(gpu_limits())
NUMBER_TYPES: tuple[NumberType, ...] = ("bf16", "fp8", "fp8_block", "nvfp4")
UNIT = GpuLimits("unit", bf16_flops=1e12, fp8_flops=2e12, memory_bytes_per_s=1e10, link_bytes_per_s=1e8)


def _full(utilisation: float) -> dict[tuple[str, str], GridTable]:
    """Tables of one utilisation everywhere."""
    return {
        (operator, kind): GridTable(
            tuple(np.array([1.0, 2.0]) for _ in AXES[operator]), np.full((2,) * len(AXES[operator]), utilisation)
        )
        for operator, kinds in KINDS.items()
        for kind in kinds
    }


HALF = Operators(UNIT, _full(0.5))


def test_interpolation_agrees_with_scipy_in_logarithms() -> None:
    rng = np.random.default_rng(3)
    axes = (np.array([1.0, 3.0, 10.0, 40.0]), np.array([2.0, 5.0]), np.array([1.0, 7.0, 9.0]))
    table = GridTable(axes, rng.uniform(0.01, 1, (4, 2, 3)))
    at = np.exp(rng.uniform(np.log([1, 2, 1]), np.log([40, 5, 9]), (200, 3)))
    second = RegularGridInterpolator(tuple(map(np.log, axes)), np.log(table.utilisation))
    np.testing.assert_allclose(table(*at.T), np.exp(second(np.log(at))), rtol=1e-12)


def test_outside_a_table_the_utilisation_of_its_edge_holds_and_arrays_broadcast() -> None:
    table = GridTable((np.array([1.0, 10.0]), np.array([1.0, 10.0])), np.array([[0.1, 0.2], [0.3, 0.6]]))
    assert table([[0.1], [1e9]], [0.1, 1e9]).tolist() == pytest.approx(np.array([[0.1, 0.2], [0.3, 0.6]]))
    assert table(np.sqrt(10), 1).item() == pytest.approx(np.sqrt(0.1 * 0.3))


@pytest.mark.parametrize(
    ("axes", "utilisation", "says"),
    [
        ([[1, 2]], [0.1, 0.2, 0.3], "each combination"),
        ([[2, 1]], [0.1, 0.2], "rise"),
        ([[0, 1]], [0.1, 0.2], "above 0 and rise"),
        ([[1, 2]], [0.1, 0.0], "utilisation must be above 0"),
        ([[1, 2]], [0.1, float("nan")], "utilisation must be above 0"),
    ],
)
def test_a_table_that_is_none_is_refused(axes: list[list[float]], utilisation: list[float], says: str) -> None:
    with pytest.raises(InputError, match=says):
        GridTable(tuple(np.array(axis, dtype=float) for axis in axes), np.array(utilisation))


def test_times_by_hand() -> None:
    # 2 x 1000 x 2000 x 4000 FLOP at 1 TFLOP/s are 16 ms; at half of that 32 ms; fp8 has twice the peak
    assert HALF.gemm_s(1000, 2000, 4000).item() == pytest.approx(0.032)
    assert HALF.gemm_s(1000, 2000, 4000, "fp8").item() == pytest.approx(0.016)
    assert HALF.gemm_s(1, 1000, 1000).item() == pytest.approx(2 * (2e6 + 2e3 + 2e3) / 1e10)
    assert HALF.gemm_s(1, 1000, 1000, "fp8").item() == pytest.approx(2 * (1e6 + 1e3 + 2e3) / 1e10)
    # 1000 tokens: 500,500 pairs x 8 heads x 128 x 4 FLOP
    assert HALF.prompt_attention_s(1000, 1, 8, 8).item() == pytest.approx(2 * 500_500 * 4096 / 1e12)
    # decode: 10 sequences x 100 tokens x 2 heads x 128 x 2 (K and V) x 2 bytes, queries and results of 4 heads
    assert HALF.decode_attention_s(10, 100, 4, 2).item() == pytest.approx(2 * (1_024_000 + 20_480) / 1e10)
    assert HALF.decode_attention_s(10, 100, 4, 2, kv_kind="fp8").item() == pytest.approx(2 * (512_000 + 20_480) / 1e10)
    assert HALF.all_reduce_s(4, 1e6).item() == pytest.approx(2 * 1e6 / 1e8)
    assert HALF.elementwise_s(1e6).item() == pytest.approx(2e-4)


def test_no_work_takes_no_time() -> None:
    assert HALF.gemm_s(0, 4096, 4096).item() == 0
    assert HALF.prompt_attention_s(0, 1, 8, 8).item() == 0
    assert HALF.prompt_attention_s(100, 0, 8, 8).item() == 0
    assert HALF.decode_attention_s(0, 100, 8, 8).item() == 0
    assert HALF.all_reduce_s(1, 1e6).item() == HALF.all_reduce_s(8, 0).item() == 0
    assert HALF.elementwise_s(0).item() == 0


@pytest.mark.parametrize("gpu", GPUS)
def test_nothing_is_faster_than_its_limit_and_larger_work_takes_longer(gpu: str) -> None:
    found = load_operators(gpu)
    m, n, k = (
        x.ravel() for x in np.meshgrid([1, 7, 64, 300, 2048, 30000], [128, 1280, 9000, 80000], [128, 3000, 28672])
    )
    kinds: tuple[NumberType, ...] = ("bf16", "fp8")
    for kind in kinds:
        time_s = found.gemm_s(m, n, k, kind)
        assert (time_s >= operators.gemm_limit_s(found.limits, kind, m, n, k) * 0.999).all()
        assert (found.gemm_s(2 * m, 2 * n, 2 * k, kind) > 0.9 * time_s).all()
    context = np.array([1, 64, 1000, 5000, 100_000, 1_000_000])
    decode_s = found.decode_attention_s([[1], [9], [500]], context, 8, 2)
    assert (decode_s[1:] > 0.98 * decode_s[:-1]).all() and (decode_s[:, 1:] > 0.98 * decode_s[:, :-1]).all()
    prompt_s = found.prompt_attention_s([100, 1000, 10_000, 100_000], [[1], [4]], 16, 2)
    assert (np.diff(prompt_s, axis=0) > 0).all() and (np.diff(prompt_s, axis=1) > 0).all()
    reduce_s = found.all_reduce_s([[2], [4], [8]], [1e3, 1e5, 1e7, 1e9, 1e11])
    assert (np.diff(reduce_s, axis=1) >= 0).all() and (reduce_s[:, -1] >= 1e11 / found.limits.link_bytes_per_s).all()


@pytest.mark.parametrize("gpu", GPUS)
def test_beyond_a_table_time_grows_with_the_limit_and_below_it_stays(gpu: str) -> None:
    found = load_operators(gpu)
    assert found.gemm_s(2**17, 8192, 8192) / found.gemm_s(2**16, 8192, 8192) == pytest.approx(2, rel=1e-3)
    assert found.all_reduce_s(8, 2e11) / found.all_reduce_s(8, 1e11) == pytest.approx(2)
    assert found.gemm_s(8, 3, 5).item() == found.gemm_s(8, 128, 128).item()
    assert found.elementwise_s(1).item() == found.elementwise_s(1024).item()
    assert found.decode_attention_s(4, 1, 8, 8).item() == found.decode_attention_s(4, 64, 8, 8).item()


def test_more_than_8_kv_heads_count_as_a_larger_batch() -> None:
    found = load_operators("a100-sxm-80gb")
    np.testing.assert_allclose(found.decode_attention_s(3, 700, 16, 16), found.decode_attention_s(6, 700, 8, 8))


def test_what_was_not_measured_is_named() -> None:
    assert load_operators("h100-sxm-80gb").estimated == ()
    assert load_operators("a100-sxm-80gb").estimated == ("gemm fp8", "decode_attention fp8")
    assert load_operators("h200-sxm-141gb").estimated == (
        "prompt_attention",
        "elementwise norm",
        "elementwise activation",
        "elementwise rotary",
    )
    a40 = load_operators("a40-48gb").estimated
    assert "prompt_attention" in a40 and "all_reduce graph" in a40 and "gemm bf16" not in a40


def test_an_estimate_is_the_geometric_mean_at_the_problem_that_takes_as_long() -> None:
    twice = GpuLimits("twice", 2e12, 4e12, 2e10, 2e8)
    tables: dict[str, Measured] = {"a": (UNIT, _full(0.2)), "b": (twice, _full(0.8))}
    mean = estimate_operators(GpuLimits("c", 1e12, 0, 1e10, 1e8), references=tables, lookup=tables.__getitem__)
    assert mean.gemm_s(1, 1000, 1000).item() == pytest.approx((2e6 + 4e3) / 1e10 / 0.4)
    assert len(mean.estimated) == sum(map(len, KINDS.values())) - len(ON_SOME_GPUS)
    ramp = GridTable((np.array([1e3, 1e9]),), np.array([1e-3, 1.0]))
    slow = estimate_operators(
        GpuLimits("slow", 1e12, 0, 5e9, 1e8),
        references=["a"],
        lookup=lambda _: (UNIT, {("elementwise", "norm"): ramp}),
    )
    # half of the bandwidth: 1 MB keeps it busy as long as 2 MB the measured one
    assert slow.elementwise_s(1e6).item() == pytest.approx(1e6 / 5e9 / float(ramp(2e6)))


def test_an_estimate_is_that_of_the_gpu_it_is_like_and_a_link_of_its_own_kind() -> None:
    tables: dict[str, Measured] = {
        "a": (UNIT, _full(0.2)),
        "b": (GpuLimits("b", 1e12, 0, 1e9, 1e8, "pcie"), _full(0.8)),
    }
    gpu = GpuLimits("c", 1e12, 0, 1e9, 1e8)
    alike = estimate_operators(gpu, like="b", references=tables, lookup=tables.__getitem__)
    assert alike.elementwise_s(1e6).item() == pytest.approx(1e-3 / 0.8)
    assert alike.all_reduce_s(2, 1e6).item() == pytest.approx(1e-2 / 0.2)
    lonely = estimate_operators(gpu, references=["b"], lookup=tables.__getitem__)
    with pytest.raises(InputError, match="no measured GPU has a table of all_reduce over nvlink in graph"):
        lonely.all_reduce_s(2, 1e6)


def test_the_same_chip_is_used_before_others() -> None:
    h100, h200 = load_operators("h100-sxm-80gb"), load_operators("h200-sxm-141gb")
    # the same arithmetic, so the same times where that is the limit, and nearly so where launches are
    at = ([30, 100, 3000], 1, 64, 8)
    np.testing.assert_allclose(h200.prompt_attention_s(*at), h100.prompt_attention_s(*at), rtol=0.05)


@pytest.mark.parametrize("gpu", GPUS)
def test_tables_are_compact_and_sensible(gpu: str) -> None:
    files = list((folder() / gpu).glob("*.csv"))
    assert files and all(path.stat().st_size < 25_000 for path in files)
    assert sum(path.stat().st_size for path in files) < 320_000
    for (operator, _), table in measured(gpu)[1].items():
        assert table.utilisation.max() <= 1
        assert all(axis[0] >= least for axis, least in zip(table.axes, SMALLEST[operator].values(), strict=True))


def test_an_unknown_gpu_is_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean h100-sxm-80gb"):
        load_operators("h100-sxm-80g")


def test_a_preference_takes_the_first_named_and_of_an_engine_the_newest() -> None:
    new, old, other = ("vllm", "0.24.0"), ("vllm", "0.9.0"), ("tensorrt-llm", "1.3.0rc20")
    final, one = ("tensorrt-llm", "1.3.0"), ("gpu", "gemm", "fp8")
    for sources, taken in (
        ((("vllm", None),), new),
        ((("vllm", "0.9.0"),), old),
        ((("vllm", "0.1.0"), ("tensorrt-llm", None)), final),
        ((("sglang", None), ANY), new),
        ((("sglang", None),), None),
        ((), None),
    ):
        assert preferred((old, other, new, final), (Take(sources),), *one) == taken
    assert preferred((other,), (Take((ANY,)),), *one) == other
    for special in ({"operator": "gemm fp8"}, {"operator": "gemm"}, {"gpu": "gpu"}):
        first = Take((old,), **special)
        assert preferred((old, new), (first, Take((new,))), *one) == old
        assert preferred((old, new), (first, Take((new,))), "other gpu", "all_reduce", "graph") == new
    assert preferred((old,), (), *one) is None


@pytest.mark.parametrize("name", sorted(SHIPPED.engines))
def test_every_engine_has_curves_wherever_a_model_is_not_refused(name: str) -> None:
    llama = SHIPPED.model("llama-3.1-70b")
    for machine in SHIPPED.whole_machines.values():
        degree = min(machine.gpus, 4)
        for model in (llama.in_dtype(dtype) for dtype in NUMBER_TYPES):
            if why_not_derived(model, machine):
                continue
            found = derived_curves(model, machine, degree, engine(name))
            assert found.prompt.y.min() > 0 and found.decode.y.min() > 0
            says = f"of {' '.join(operators_of(machine, engine(name)).sources.get(('gemm', model.dtype), ()))}"
            assert found.provenance == ("estimated",) or says in found.sources[0]


def test_each_table_says_what_it_was_measured_with() -> None:
    assert load_operators("a100-sxm-80gb").sources["gemm", "bf16"] == ("vllm", "0.14.0")
    assert load_operators("a100-sxm-80gb").sources["elementwise", "norm"] == ("vidur", "2024")
    for (gpu, operator, kind), files in table_files().items():
        assert kind in KINDS[operator]
        for source in files:
            found = load_operators(gpu, (Take((source,), operator, gpu),))
            assert found.sources[operator, kind] == source


def test_products_of_some_gpus_are_measured_or_refused() -> None:
    b200, h100 = load_operators("b200-sxm-180gb"), load_operators("h100-sxm-80gb")
    m, n, k = (x.ravel() for x in np.meshgrid([1, 64, 2048], [1024, 8192], [1024, 28672]))
    for gpu, kind in ((b200, "nvfp4"), (b200, "fp8_block"), (h100, "fp8_block")):
        assert (gpu.gemm_s(m, n, k, kind) >= operators.gemm_limit_s(gpu.limits, kind, m, n, k) * 0.999).all()
        assert f"gemm {kind}" not in gpu.estimated
    # a large product takes 2 x 8192^3 FLOP at 9 PFLOP/s at least, and half of its time in bf16 at most
    large_s = b200.gemm_s(8192, 8192, 8192, "nvfp4").item()
    assert 2 * 8192**3 / 9e15 < large_s < b200.gemm_s(8192, 8192, 8192).item() / 2
    for gpu, kind in ((h100, "nvfp4"), (load_operators("l40s-48gb"), "fp8_block")):
        with pytest.raises(InputError, match=f"no table of gemm in {kind} is taken on {gpu.limits.name}"):
            gpu.gemm_s(m, n, k, kind)


@pytest.mark.parametrize("source", [("vllm", "0.1.0"), ("vlm", None)])
def test_software_without_tables_is_refused_with_the_nearest(source: tuple[str, str | None]) -> None:
    with pytest.raises(InputError, match="software with kernel tables"):
        load_operators("h100-sxm-80gb", (Take((source,)),))


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("bf16_flops", 0, "bf16_flops: must be above 0 FLOP/s"),
        ("memory_bytes_per_s", float("nan"), "memory_bytes_per_s: must be"),
        ("fp8_flops", -1, "fp8_flops: must be 0"),
        ("link", "ethernet", "link: must be nvlink or pcie, got 'ethernet'"),
    ],
)
def test_limits_that_no_gpu_has_are_refused(field: str, value: object, says: str) -> None:
    given: dict[str, object] = dict(bf16_flops=1e12, fp8_flops=0, memory_bytes_per_s=1e9, link_bytes_per_s=1e8)
    with pytest.raises(InputError, match=f"GPU x: {says}"):
        GpuLimits("x", **{**given, field: value})  # type: ignore[arg-type]


GOOD = ["bytes,utilisation", "1000,0.1", "2000,0.2"]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([], "row 1: must be bytes,utilisation"),
        (["kind,utilisation"], "row 1: must be bytes,utilisation"),
        (GOOD[:1], "has no rows"),
        ([*GOOD, "3000"], "row 4: must have 2 fields, has 1"),
        ([*GOOD, "3000,fast"], "could not convert"),
        ([*GOOD, "3000,-0.1"], "numbers must be above 0, got 3000,-0.1"),
        ([*GOOD, "3000,nan"], "numbers must be above 0, got 3000,nan"),
        ([*GOOD, GOOD[1]], "must have each combination of bytes once"),
    ],
)
def test_a_damaged_table_is_refused_in_one_line(tmp_path: Path, lines: list[str], says: str) -> None:
    path = tmp_path / "vllm-1__elementwise__norm.csv"
    path.write_text("".join(f"{line}\n" for line in lines))
    with pytest.raises(InputError) as caught:
        read_table(path, "elementwise")
    assert str(caught.value).startswith(f"hardware_specs/operators/{tmp_path.name}/{path.name}: ")
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.csv: cannot be read"):
        read_table(tmp_path / "x.csv", "gemm")
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="is not a CSV file in UTF-8"):
        read_table(tmp_path / "x.csv", "gemm")

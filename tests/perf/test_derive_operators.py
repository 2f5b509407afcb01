"""The derivation of operator tables: on made-up kernels whose answer is known, and on the public originals."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from provisioner.errors import InputError
from provisioner.perf.operators import AXES, GridTable, all_reduce_limit_s, gemm_limit_s, load_operators
from provisioner.specs.kernels import ANY, Take, folder

ROOT = Path(__file__).resolve().parents[2]
HOST = "kernel that waits for the host: no row is shorter"
HOST_S = 20e-6
SLOW_HOST = "sums over PCIe of one slow host: a ring is taken in place"


@pytest.fixture(scope="module")
def derive() -> ModuleType:
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(ROOT / "hardware_specs")
        return importlib.import_module("derive_operators")


def _utilisation(kind: str, m: Any, n: Any, k: Any) -> Any:
    """The made-up GPU's: rises with every size and differs by type."""
    return {"bf16": 0.8, "fp8": 0.75}[kind] * ((m + 30) / (m + 40)) * (n * k / (n * k + 1e6)) ** 0.2


def _gemms(derive: ModuleType, time_s: Callable[..., Any], kinds: tuple[str, ...] = ("bf16", "fp8")) -> pd.DataFrame:
    sizes = [1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 192, 256, 512, 768, 1024, 2048, 4096, 8192, 32768]
    edges = [128, 256, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 65536]
    m, n, k = (x.ravel().astype(float) for x in np.meshgrid(sizes, edges, edges, indexing="ij"))
    names = {"bf16": "bfloat16", "fp8": "fp8"}
    return pd.concat(
        pd.DataFrame({"gemm_dtype": names[kind], "m": m, "n": n, "k": k, "latency": 1e3 * time_s(kind, m, n, k)})
        for kind in kinds
    )


def _gpu(derive: ModuleType) -> Any:
    return next(gpu for gpu in derive.GPUS if gpu.limits.name == "h100-sxm-80gb")


def _true_time_s(derive: ModuleType) -> Callable[..., Any]:
    limits = _gpu(derive).limits
    return lambda kind, m, n, k: gemm_limit_s(limits, kind, m, n, k) / _utilisation(kind, m, n, k)


def _checked(derive: ModuleType, tmp_path: Path, frame: pd.DataFrame) -> list[Any]:
    gpu = _gpu(derive)
    frame.to_parquet(tmp_path / f"{gpu.aic}__gemm__vllm-0.19.0.parquet")
    bf16, fp8 = derive.aiconfigurator.gemms([tmp_path], gpu, ("vllm", "0.19.0"))[0]
    derive.check(bf16)
    derive.check(fp8, bf16)
    return [bf16, fp8]


def test_a_fit_gives_the_utilisation_back_that_the_kernels_were_made_of(derive: ModuleType, tmp_path: Path) -> None:
    frame = _gemms(derive, _true_time_s(derive))
    frame["latency"] *= np.exp(0.05 * np.random.default_rng(1).standard_normal(len(frame)))
    for rows in _checked(derive, tmp_path, frame):
        assert rows.used.all() and not rows.rules
        table = derive.fit(derive.nodes_of(rows), rows.sizes, rows.utilisation)
        at = np.exp(np.random.default_rng(2).uniform(np.log([1, 200, 200]), np.log([8000, 16000, 16000]), (300, 3))).T
        off = np.abs(table(*at) / _utilisation(rows.kind, *at) - 1)
        assert np.median(off) < 0.03 and off.max() < 0.15
        found = derive.errors(table, rows)
        assert 0.02 < found["error_median"] < found["left_out_median"] < 0.06


def test_a_table_continues_beyond_its_rows_up_to_the_best_of_them(derive: ModuleType) -> None:
    nodes, sizes = 4.0 ** np.arange(5, 16), np.geomspace(4.0**5, 4.0**9, 80)
    table = derive.fit((tuple(nodes),), sizes[:, None], 1e-3 * sizes**0.5)
    assert np.allclose(table.utilisation[:5], 1e-3 * nodes[:5] ** 0.5, rtol=0.02)
    assert np.allclose(table.utilisation[5:], 1e-3 * nodes[4] ** 0.5, rtol=0.02)


def test_what_is_planted_is_found_and_nothing_else(derive: ModuleType, tmp_path: Path) -> None:
    frame = _gemms(derive, _true_time_s(derive)).reset_index(drop=True)

    def plant(kind: str, m: int, n: int, k: int, factor: float) -> int:
        at = frame.index[(frame.gemm_dtype == kind) & (frame.m == m) & (frame.n == n) & (frame.k == k)]
        frame.loc[at, "latency"] *= factor
        return len(at)

    assert plant("bfloat16", 512, 8192, 8192, 6)  # slower than four times the work
    assert plant("bfloat16", 4096, 4096, 4096, 0.3)  # beyond the arithmetic peak
    assert plant("fp8", 8, 4096, 4096, 5)  # slower than bf16, and than a larger product
    assert plant("fp8", 32768, 65536, 65536, 4)  # slower than bf16 only
    bf16, fp8 = _checked(derive, tmp_path, frame)
    assert {rule: found["rows"] for rule, found in bf16.rules.items()} == {
        "beyond the arithmetic peak": 1,
        "slower than a larger problem": 1,
    }
    assert bf16.rules["slower than a larger problem"]["examples"][0].startswith("m 512, n 8192, k 8192: ")
    assert set(bf16.sizes[~bf16.used][:, 0]) == {512, 4096}
    assert fp8.rules["slower than a larger problem"]["rows"] == 1
    wider = "slower than a wider type: the wider type's time is used"
    assert fp8.rules[wider]["rows"] == 1 and fp8.rules[wider]["examples"][0].startswith("m 32768, n 65536, k 65536: 2")
    largest = fp8.sizes[:, 0] * fp8.sizes[:, 1] * fp8.sizes[:, 2] == 32768 * 65536.0**2
    assert fp8.time_s[largest] == bf16.time_s[largest] and fp8.used[largest]


def test_operands_in_the_cache_count_as_read_from_memory(derive: ModuleType, tmp_path: Path) -> None:
    true_s = _true_time_s(derive)

    def cached_s(kind: str, m: Any, n: Any, k: Any) -> Any:
        small = (n * k * 2 < 40e6) & (m <= 16)
        return np.where(small, true_s(kind, m, n, k) / 4, true_s(kind, m, n, k))

    bf16, _ = _checked(derive, tmp_path, _gemms(derive, cached_s))
    rule = "faster than memory sustains (operands in the cache): the sustained rate is used"
    assert bf16.rules[rule]["rows"] > 50
    memory_bound = bf16.limit_s > bf16.compute_s
    cold = memory_bound & (bf16.bytes > derive.COLD_BYTES)
    assert bf16.utilisation[memory_bound].max() <= bf16.utilisation[cold].max() * (1 + 1e-9)


def test_a_kernel_that_does_other_work_is_refused_as_a_whole(derive: ModuleType, tmp_path: Path) -> None:
    true_s = _true_time_s(derive)
    frame = _gemms(derive, lambda kind, m, n, k: true_s(kind, m, n, k) / np.where(m > 4000, 5, 1))
    bf16, _ = _checked(derive, tmp_path, frame)
    assert not bf16.used.any()
    assert bf16.rules["kernel with rows beyond the arithmetic peak"]["rows"] == len(bf16.time_s)


def test_a_kernel_whose_smallest_problem_waits_for_the_host_is_refused_as_a_whole(
    derive: ModuleType, tmp_path: Path
) -> None:
    true_s = _true_time_s(derive)
    bf16, fp8 = _checked(derive, tmp_path, _gemms(derive, lambda *of: np.maximum(true_s(*of), 1.1 * HOST_S)))
    for rows in (bf16, fp8):
        assert not rows.used.any() and rows.rules[HOST]["rows"] == len(rows.time_s)
    bf16, _ = _checked(derive, tmp_path, _gemms(derive, lambda *of: np.maximum(true_s(*of), 0.9 * HOST_S)))
    assert HOST not in bf16.rules


def test_other_software_keeps_narrow_products_that_are_slower_than_wide_ones(
    derive: ModuleType, tmp_path: Path
) -> None:
    true_s = _true_time_s(derive)
    frame = _gemms(derive, lambda kind, *of: true_s(kind, *of) * (4 if kind == "fp8" else 1))
    bf16, fp8 = _checked(derive, tmp_path, frame)
    newer = replace(fp8, source=("vllm", "0.24.0"), time_s=4 * true_s("fp8", *fp8.sizes.T))
    derive.check(newer, bf16)
    assert newer.rules["slower than a wider type: kept"]["rows"] > 100
    assert (newer.time_s > 2 * fp8.time_s).any() and not (newer.time_s < 0.9 * fp8.time_s).any()


@pytest.mark.parametrize("launch_s", [2e-6, 8e-6])
def test_quantization_that_products_count_is_taken_off(derive: ModuleType, tmp_path: Path, launch_s: float) -> None:
    """Planted: a launch and six bytes a number read and written, in fp8 alone; a launch below 5 us is a product's."""
    true_s, memory = _true_time_s(derive), _gpu(derive).limits.memory_bytes_per_s

    def planted_s(kind: str, m: Any, n: Any, k: Any) -> Any:
        return true_s(kind, m, n, k) + 3e-6 + (launch_s + 6 * m * k / memory if kind == "fp8" else 0)

    frame = _gemms(derive, planted_s)
    frame.to_parquet(tmp_path / "h100_sxm__gemm__trtllm-1.3.0rc20.parquet")
    bf16, fp8 = derive.aiconfigurator.gemms([tmp_path], _gpu(derive), ("tensorrt-llm", "1.3.0rc20"))[0]
    before_s = fp8.time_s.copy()
    sys.modules["kernel_rows.rules"].take_off_quantization(fp8, bf16)
    rule = "counts its inputs' quantization: it is taken off"
    assert (rule in fp8.rules) == (launch_s > 5e-6)
    if rule in fp8.rules:
        assert fp8.rules[rule]["rows"] == len(before_s)
        wide = fp8.sizes[:, 1] >= 8192
        m, _, k = fp8.sizes[wide].T
        off_s = (before_s - fp8.time_s)[wide] - launch_s - 6 * m * k / memory
        assert np.abs(off_s / fp8.time_s[wide]).max() < 0.05  # of the narrowest product, in either type
    else:
        assert (fp8.time_s == before_s).all()


def test_files_of_one_name_in_two_folders_are_one_table(derive: ModuleType, tmp_path: Path) -> None:
    gpu, frame = _gpu(derive), _gemms(derive, _true_time_s(derive))
    for folder_name, part in (("a", frame), ("b", frame[frame.gemm_dtype == "fp8"].assign(device="H100"))):
        (tmp_path / folder_name).mkdir()
        part.to_parquet(tmp_path / folder_name / f"{gpu.aic}__gemm__vllm-0.19.0.parquet")
    found, _ = derive.aiconfigurator.gemms([tmp_path / "a", tmp_path / "b"], gpu, ("vllm", "0.19.0"))
    assert sum(len(rows.time_s) for rows in found) == len(frame)


def test_unaligned_rows_are_left_out_and_their_cost_is_reported(derive: ModuleType, tmp_path: Path) -> None:
    gpu, frame = _gpu(derive), _gemms(derive, _true_time_s(derive))
    odd = frame[frame.m.isin([128, 512])].assign(m=lambda f: f.m + 1, latency=lambda f: 1.5 * f.latency)
    pd.concat([frame, odd]).to_parquet(tmp_path / f"{gpu.aic}__gemm__vllm-0.19.0.parquet")
    found, penalty = derive.aiconfigurator.gemms([tmp_path], gpu, ("vllm", "0.19.0"))
    assert penalty == {f"{kind} at {m} + 1 rows": 1.5 for kind in ("bf16", "fp8") for m in (128, 512)}
    assert set(np.unique(found[0].sizes[:, 0])) == set(frame.m)


def test_slower_rows_of_the_same_chip_take_the_lesser_chips_time(derive: ModuleType, tmp_path: Path) -> None:
    bf16, _ = _checked(derive, tmp_path, _gemms(derive, _true_time_s(derive)))
    slow = replace(bf16, time_s=np.where(bf16.sizes[:, 0] == 64, 3, 1) * bf16.time_s)
    derive.check(slow, None, bf16)
    raised = slow.rules["slower than the same chip with less memory bandwidth: that chip's time is used"]
    beaten = slow.rules["slower than a larger problem"]["rows"]
    assert raised["rows"] + beaten > 100
    assert (slow.time_s[slow.used] <= 1.25 * bf16.time_s[slow.used] + derive.LAUNCH_S).all()


def test_a_folder_without_the_sources_is_refused(
    derive: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert derive.main([str(tmp_path), str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "has no kernels of vllm 0.14.0 on a100-sxm-80gb" in error and error.count("\n") == 1
    (tmp_path / "a100_sxm__gemm__vllm-0.14.0.parquet").write_text("no parquet")
    assert derive.main([str(tmp_path), str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "a100_sxm__gemm__vllm-0.14.0.parquet: cannot be read" in capsys.readouterr().err
    with pytest.raises(InputError, match="has no compute__a40__"):
        derive.derive([tmp_path], tmp_path, derive.GPUS[-1:])
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def originals(shared_data: Path) -> tuple[list[Path], Path]:
    names = "aic-kernels", "dense-kernels-2026", "moe-kernels", "vidur-profiles"
    folders = [shared_data / name for name in names]
    for path in folders:
        if not path.is_dir():
            pytest.skip(f"{path.name} is not on this machine")
    return folders[:-1], folders[-1]


def _provenance() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((folder() / "provenance.yaml").read_text(encoding="utf-8"))
    return found


def test_the_originals_give_the_shipped_tables(derive: ModuleType, originals: tuple[list[Path], Path]) -> None:
    """For two GPUs, one of either source; all of them with -m slow."""
    gpus = [gpu for gpu in derive.GPUS if gpu.name in ("a100-sxm-80gb", "a40-48gb")]
    for name, content in derive.derive(*originals, gpus).items():
        if "__" in name:
            assert (folder() / name).read_text(encoding="utf-8") == content


@pytest.mark.slow
def test_the_originals_give_every_shipped_file(derive: ModuleType, originals: tuple[list[Path], Path]) -> None:
    files = derive.derive(*originals)
    assert {str(path.relative_to(folder())) for path in folder().rglob("*") if path.is_file()} == set(files)
    for name, content in files.items():
        assert (folder() / name).read_text(encoding="utf-8") == content, name


def test_times_agree_with_rows_of_the_originals_read_a_second_way(originals: tuple[list[Path], Path]) -> None:
    aic = originals[0][0]
    found = load_operators("h100-sxm-80gb")
    rows = pd.read_parquet(aic / "h100_sxm__gemm__vllm-0.19.0.parquet").query("n >= 1024 and k >= 1024 and m % 16 == 0")
    for kind, source in (("bf16", "bfloat16"), ("fp8", "fp8")):
        of_kind = rows[rows.gemm_dtype == source]
        time_s = found.gemm_s(of_kind.m, of_kind.n, of_kind.k, kind)  # type: ignore[arg-type]
        assert np.median(np.abs(1e3 * time_s / of_kind.latency - 1)) < 0.05
    rows = pd.read_parquet(aic / "h100_sxm__generation_attention__vllm-0.19.0.parquet")
    rows = rows.query("head_dim == 128 and window_size == 0 and step >= 255 and batch_size >= 4")
    for kind, source in (("bf16", "bfloat16"), ("fp8", "fp8")):
        of_kind = rows[rows.kv_cache_dtype == source]
        time_s = found.decode_attention_s(
            of_kind.batch_size,
            of_kind.step + 1,
            of_kind.num_heads,
            of_kind.num_key_value_heads,
            128,
            kind,  # type: ignore[arg-type]
        )
        assert np.median(np.abs(1e3 * time_s / of_kind.latency - 1)) < 0.04
    rows = pd.read_parquet(aic / "h100_sxm__context_attention__vllm-0.19.0.parquet")
    rows = rows.query("head_dim == 128 and window_size == 0 and isl >= 128 and kv_cache_dtype == 'bfloat16'")
    time_s = found.prompt_attention_s(rows.isl, rows.batch_size, rows.num_heads, rows.num_key_value_heads)
    assert np.median(np.abs(1e3 * time_s / rows.latency - 1)) < 0.05
    rows = pd.read_parquet(aic / "h100_sxm__custom_allreduce__vllm-0.19.0.parquet")
    rows = rows.query("backend == 'vllm_graph' and message_size >= 4096")
    time_s = found.all_reduce_s(rows.num_gpus, 2 * rows.message_size)
    assert np.median(np.abs(1e3 * time_s / rows.latency - 1)) < 0.05


def test_products_without_quantization_agree_with_other_software() -> None:
    """Those of a layer of 70B on H200 in decode, of two engines whose rows count it at 10 and at 2 us a product."""
    tables = (("tensorrt-llm", "1.3.0rc20"), ("vllm", "0.19.0"))
    own, other = (load_operators("h200-sxm-141gb", (Take((table, ANY)),)) for table in tables)
    for rows in (4, 16):  # beyond, those of the other have steps
        for n, k in ((10240, 8192), (8192, 8192), (57344, 8192), (8192, 28672), (2560, 8192), (8192, 2048)):
            ratio = float(own.gemm_s(rows, n, k, "fp8") / other.gemm_s(rows, n, k, "fp8"))
            assert 0.85 < ratio < 1.05


def test_the_all_reduce_counts_elements_as_vidurs_bytes_say(originals: tuple[list[Path], Path]) -> None:
    """64 MiB over eight H100 of a DGX: the other source's bytes are twice the elements of this one's."""
    rows = pd.read_csv(originals[1] / "network__h100_dgx__all_reduce.csv")
    rows = rows[(rows.num_workers == 8) & (rows["size"] == 2**26)]
    found_s = load_operators("h100-sxm-80gb").all_reduce_s(8, 2.0**26)
    assert found_s.item() == pytest.approx(rows.all_reduce_ms.median() / 1e3, rel=0.1)


def test_no_row_of_the_originals_is_shipped(originals: tuple[list[Path], Path]) -> None:
    """Times that the tables' nodes stand for are not those of the rows at the same sizes, but for chance."""
    path = originals[0][0] / "h100_sxm__gemm__vllm-0.19.0.parquet"
    rows = pd.read_parquet(path).query("gemm_dtype == 'bfloat16'").set_index(["m", "n", "k"]).latency
    found = load_operators("h100-sxm-80gb")
    table = found.tables["gemm", "bf16"]
    assert isinstance(table, GridTable)
    nodes = pd.MultiIndex.from_product([axis.astype(int) for axis in table.axes], names=rows.index.names)
    shared = rows[rows.index.intersection(nodes)].reset_index()
    off = np.abs(1e3 * found.gemm_s(shared.m, shared.n, shared.k) / shared.latency - 1)
    assert len(shared) > 400 and (off < 1e-3).mean() < 0.1


REFUSED = {
    ("h200-sxm-141gb", "vllm-0.19.0", "prompt_attention bf16"): "kernel with rows beyond the arithmetic peak",
    **{(gpu, "vllm-0.24.0", "gemm fp8_block"): HOST for gpu in ("h100-sxm-80gb", "h200-sxm-141gb", "l40s-48gb")},
    **{
        ("l40s-48gb", software, f"all_reduce {launch}"): SLOW_HOST
        for software in ("vllm-0.14.0", "sglang-0.5.14", "tensorrt-llm-1.3.0rc20")
        for launch in ("graph", "eager")
    },
}


def test_the_provenance_says_what_was_used_refused_and_how_good_it_is() -> None:
    found = _provenance()
    assert [source["licence"] for source in found["sources"]] == ["Apache-2.0", "MIT"]
    for gpu, about in found["gpus"].items():
        assert about["limits"]
        for software, tables in about["tables"].items():
            assert {name.split()[0] for name in tables} <= set(AXES)
            for name, table in tables.items():
                operator, kind = name.split()
                path = folder() / gpu / f"{software}__{operator}__{kind}.csv"
                if "formula" in table:
                    assert software == "pcie-ring-4.0" and path.is_file()
                    continue
                if not table.get("rows_used"):
                    assert REFUSED[gpu, software, name] in table["refused"]
                    assert not path.is_file()
                    continue
                assert path.is_file()
                assert table["error_median"] < 0.09 and table["left_out_median"] < 0.13
                assert table["error_p95"] < 0.36 or operator == "all_reduce"  # of 42 to 63 rows
        errors = about["estimated_from_others"]
        if gpu == "gb200-nvl-186gb":  # its products in bf16 were not measured
            assert errors == {"from": []}
            continue
        assert errors["prompt bf16"]["error_median"] < 0.2 and errors["decode bf16"]["error_median"] < 0.2
        assert gpu not in errors["from"]


def test_an_all_reduce_limit_is_one_pass_over_the_link() -> None:
    assert all_reduce_limit_s(load_operators("h100-sxm-80gb").limits, 450e9).item() == 1

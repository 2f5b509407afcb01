"""Engines: every number has a basis, is in its range, and can be given by hand; what is wrong is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from provisioner.errors import InputError, UnknownNameError
from provisioner.options import PlanOptions
from provisioner.perf.assumptions import replica
from provisioner.perf.evidence import derived_curves
from provisioner.perf.memory import memory_bytes
from provisioner.perf.summary import CurveError, stated_error
from provisioner.specs.catalog import SHIPPED, engine, machine, model, with_own
from provisioner.specs.engine import DEFAULT_ENGINE, Batch
from provisioner.specs.kernels import table_files
from provisioner.specs.shipped import data_folder

pytestmark = pytest.mark.fast
FILES = sorted((data_folder("hardware_specs") / "engines").glob("*.yaml"))


def test_the_default_engine_is_shipped_and_declared() -> None:
    assert DEFAULT_ENGINE in SHIPPED.engines
    assert PlanOptions().engine == DEFAULT_ENGINE


@pytest.mark.parametrize("name", SHIPPED.engines)
def test_every_number_has_a_basis(name: str) -> None:
    each = engine(name)
    assert set(each.basis) == {number for number, _, _ in each.numbers()}
    assert all(len(text) > 8 for text in each.basis.values())
    assert each.sources


@pytest.mark.parametrize("name", SHIPPED.engines)
def test_kernel_tables_are_of_shipped_software(name: str) -> None:
    shipped = {source for files in table_files().values() for source in files}
    for take in engine(name).preference:
        for software, version in take.sources:
            assert software == "any" or any(software == of and version in (None, at) for of, at in shipped)


def test_numbers_by_hand_change_the_curves_and_the_memory() -> None:
    llama, h100 = model("llama-3.1-8b"), machine("dgx-h100")
    own = engine(f"{DEFAULT_ENGINE},iteration_s=0.0013,sequence_s=0.00004")
    without = engine(f"{DEFAULT_ENGINE},iteration_s=0.0003,sequence_s=0.00004")
    longer_s = derived_curves(llama, h100, 1, own).decode.y - derived_curves(llama, h100, 1, without).decode.y
    assert longer_s == pytest.approx(1e-3)
    more = memory_bytes(llama, h100, 1, engine=engine(f"{DEFAULT_ENGINE},batch_tokens=8192"))
    assert more == memory_bytes(llama, h100, 1, batch_tokens=8192)
    whole = memory_bytes(llama, h100, 1, engine=engine(f"{DEFAULT_ENGINE},share=1"))
    assert whole["unused share"] == 0.0
    assert own.name == f"{DEFAULT_ENGINE},iteration_s=0.0013,sequence_s=0.00004"
    assert own.basis["iteration_s"] == "given by hand"


def test_a_time_may_have_its_unit() -> None:
    assert engine("vllm,handover_s=2ms,iteration_s=0.0003").handover.handover_s == 0.002


def test_errors_are_of_the_engine_the_gpu_and_the_type() -> None:
    llama = model("llama-3.1-70b").in_dtype("fp8")
    curve = derived_curves(llama, machine("dgx-h200"), 2)
    found = {
        name: stated_error(curve, "fp8", engine(name), "h200-sxm-141gb") for name in ("provisioner-0.1", "tensorrt-llm")
    }
    (row,) = (e for e in engine("tensorrt-llm").errors if (e.gpu, e.dtype) == ("h200-sxm-141gb", "fp8"))
    assert found["tensorrt-llm"] == CurveError((row.prompt, row.prompt), (row.decode, row.decode))
    assert found["provisioner-0.1"] == stated_error(curve, "fp8") != found["tensorrt-llm"]
    assert stated_error(curve, "fp8", engine("tensorrt-llm"), "l40s-48gb") is None


def test_the_time_of_an_iteration_beyond_the_graphs_has_a_floor() -> None:
    llama, h100 = model("llama-3.1-8b"), machine("dgx-h100")
    floor = engine(f"{DEFAULT_ENGINE},prompt_layer_s=0.0015625,iteration_s=0,sequence_s=0")
    found = derived_curves(llama, h100, 8, floor)
    assert found.prompt_s([512, 768, 1024]).tolist() == pytest.approx([float(found.prompt_s(512)), 0.05, 0.05])
    assert float(found.prompt_s(512)) < 0.01 and float(found.prompt_s(65536)) > 0.05
    assert float(found.decode_s(512, 512 * 1024)) < 0.05


def test_an_engine_has_no_part_in_measured_curves() -> None:
    slow = engine(f"{DEFAULT_ENGINE},iteration_s=0.05")
    measured = replica("llama2-70b", "dgx-h100", 8, engine=slow)
    assert measured.engine == slow
    assert measured.curve is replica("llama2-70b", "dgx-h100", 8).curve


def test_batches_are_by_card() -> None:
    rows = (Batch(0, 2048, 256), Batch(70, 8192, 1024), Batch(0, 2048, 128, ("A100",)))
    scheduling = replace(engine(DEFAULT_ENGINE).scheduling, batches=rows)
    found = [scheduling.batch(gpu, gib) for gpu, gib in (("L4", 24), ("H100 SXM", 80), ("A100 SXM", 80), ("B200", 180))]
    assert found == [rows[0], rows[1], rows[2], rows[1]]


def test_norms_are_in_the_sums_of_models_and_gpus_by_name() -> None:
    found = {
        (name, model, gpu): engine(name).execution.fuses_norms(model, hidden_size, gpu)
        for name in SHIPPED.engines
        for model, hidden_size in (("llama-3.1-70b", 8192), ("llama-3.1-8b", 4096), ("qwen3-32b", 5120))
        for gpu in ("h200-sxm-141gb", "b200-sxm-180gb")
    }
    large_llama = {("tensorrt-llm", "llama-3.1-70b", gpu) for gpu in ("h200-sxm-141gb", "b200-sxm-180gb")}
    of_b200 = {("vllm-2025", model, "b200-sxm-180gb") for model in ("llama-3.1-70b", "llama-3.1-8b", "qwen3-32b")}
    assert {key for key, fuses in found.items() if fuses} == large_llama | of_b200


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vlm", "unknown engine"),
        (f"{DEFAULT_ENGINE},batch_token=3", "did you mean batch_tokens"),
        (f"{DEFAULT_ENGINE},batch_tokens=2.5", "batch_tokens: must be a whole number"),
        (f"{DEFAULT_ENGINE},batch_tokens=0", "batch_tokens: must be from 1 to 1,000,000 tokens"),
        (f"{DEFAULT_ENGINE},share=1.5", "share: must be from 0.1 to 1"),
        (f"{DEFAULT_ENGINE},order=random", "order: must be decode-first or prompt-first"),
        (f"{DEFAULT_ENGINE},admission=estimate", "admission: estimate needs the numbers of an estimate"),
        ("sglang,least_share=0.8", "least_share: must be at most first_share .0.7., got 0.8"),
        (f"{DEFAULT_ENGINE},share", "NAME,NUMBER=VALUE"),
        ("vllm-2025,fused_norms=1", "fused_norms: must be given in a file of an own engine"),
        (f"{DEFAULT_ENGINE},handover_s=fast", "engine .*: handover_s: must be a time with its unit"),
        (f"{DEFAULT_ENGINE},share=1,share=1", "each number once"),
        ("no/such.yaml", "no/such.yaml"),
    ],
)
def test_a_wrong_engine_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises((InputError, UnknownNameError), match=message) as refused:
        engine(text)
    assert "\n" not in str(refused.value)


def _without(content: dict[str, object], *place: str) -> dict[str, object]:
    part = content
    for key in place[:-1]:
        part = part[key]  # type: ignore[assignment]
    del part[place[-1]]
    return content


def _kernels(content: dict[str, object], **changes: object) -> dict[str, object]:
    """The content with an entry for kernel tables of names that are not known."""
    return content | {"kernels": [{"tables": ["vllm"], **changes}]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: _without(c, "basis", "share"), "basis: has no source of share"),
        (lambda c: c["basis"].update(speed="a guess") or c, "basis: unknown number"),
        (lambda c: _without(c, "memory", "share"), "memory.share: is missing"),
        (lambda c: c["execution"].update(iteration_s=0.3) or c, "execution.iteration_s: must be from 0 to 0.1 s"),
        (lambda c: c["execution"].update(iteration_ms=0.3) or c, "execution.iteration_ms: unknown field"),
        (
            lambda c: c["execution"].update(fused_norms=[{"models": ["llama"], "above_hidden_size": -1}]) or c,
            "execution.fused_norms.0.above_hidden_size: must be from 0 to 1,000,000",
        ),
        (lambda c: c["execution"].update(fused_norms=[{}]) or c, "basis: has no source of fused_norms"),
        (lambda c: c["scheduling"].update(batches=[]) or c, "scheduling.batches: must rise from from_gib 0"),
        (
            lambda c: _kernels(c, tables=["vlm"]),
            "kernels.0.tables: unknown software .* 'vlm': did you mean vllm",
        ),
        (
            lambda c: _kernels(c, tables=["vllm-0.1.0"]),
            "kernels.0.tables: unknown software .* 'vllm-0.1.0'",
        ),
        (lambda c: _kernels(c, operator="gem"), "kernels.0.operator: unknown operator 'gem': did you mean gemm"),
        (
            lambda c: _kernels(c, operator="gemm fp9"),
            "kernels.0.operator: unknown operator 'gemm fp9'",
        ),
        (lambda c: _kernels(c, gpu="h100"), "kernels.0.gpu: unknown GPU with kernel tables 'h100'"),
        (
            lambda c: c["scheduling"].update(admission="drop") or c,
            "admission: must be recompute or reserve or estimate",
        ),
        (lambda c: c.update(name="other") or c, "name: must be the file's own"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(tmp_path: Path, change: object, message: str) -> None:
    content = yaml.safe_load(FILES[0].read_text(encoding="utf-8"))
    (tmp_path / "engines").mkdir()
    path = tmp_path / "engines" / FILES[0].name
    path.write_text(yaml.safe_dump(change(content)), encoding="utf-8")  # type: ignore[operator]
    with pytest.raises(InputError, match=message) as refused:
        with_own(str(tmp_path)).engine(FILES[0].stem)
    assert FILES[0].name in str(refused.value) and "\n" not in str(refused.value)


def test_an_engine_of_ones_own(tmp_path: Path) -> None:
    content = yaml.safe_load(FILES[0].read_text(encoding="utf-8")) | {"name": "mine"}
    (tmp_path / "engines").mkdir()
    (tmp_path / "engines" / "mine.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    assert with_own(str(tmp_path)).engine("mine").name == "mine"
    assert engine(str(tmp_path / "engines" / "mine.yaml")).name == "mine"


@pytest.mark.parametrize(
    ("kib", "gb_per_s"), [(256, 8.375), (1024, 10.918), (4096, 11.892), (16384, 12.159), (65536, 12.227)]
)
def test_messages_take_the_handover_beside_the_rate_of_the_link(kib: int, gb_per_s: float) -> None:
    """NIXL over UCX on one port (LMCache, pull request 4161)."""
    size_bytes = 1024 * kib
    took_s = engine("vllm").handover.handover_s + size_bytes / 12.25e9
    assert took_s == pytest.approx(size_bytes / gb_per_s / 1e9, rel=0.015)


@pytest.mark.parametrize("flag", ["", "--max tokens"])
def test_a_flag_is_one_word(flag: str) -> None:
    with pytest.raises(InputError, match="engine vllm: flags: batch_tokens: must be one word"):
        replace(engine("vllm"), flags={"batch_tokens": flag})

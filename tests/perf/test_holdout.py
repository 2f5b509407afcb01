"""The error of the curves in two ways: repeats left out, and whole points left out."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml

from provisioner.errors import InputError, ProvisionerError
from provisioner.perf.assumptions import replica
from provisioner.perf.curves import CurveSet, curve_groups, load_curve_set
from provisioner.perf.evidence import operators_of
from provisioner.perf.provenance import (
    SERVED_RUNS,
    SERVED_TPOT_ERROR,
    SERVED_TTFT_ERROR,
    kernels_provenance,
    load_provenance,
)
from provisioner.perf.summary import HoldOutError, coverage, curve_summary, interpolation_error, machine_curves
from provisioner.specs import catalog
from provisioner.specs.shipped import data_folder
from tests.oracles.closed_loop import predict, read_runs

MEASURED = [group for group in curve_groups() if group[1] != "dgx-h100-capped"]


def _load(group: tuple[str, str, int]) -> CurveSet:
    return load_curve_set(catalog.model(group[0]), catalog.machine(group[1]), group[2])


def _errors(group: tuple[str, str, int], how: str) -> dict[str, HoldOutError]:
    curves = _load(group)
    return {e.axis: e for e in interpolation_error(curves, "repeats" if how == "repeats" else "points")}


def test_repeats_left_out_give_the_papers_error_below_3_percent() -> None:
    """MAPE over all groups, each phase; a single group's prompt curve is up to 4.2 % off.

    There (Llama2-70B, DGX-A100, TP 4) 512 x 4 and 2048 x 1 tokens, one knot, take times 42 % apart.
    """
    errors = [_errors(group, "repeats") for group in MEASURED]
    prompt = [e["prompt: runs"].mape for e in errors]
    decode = [e["decode: runs"].mape for e in errors]
    assert np.mean(prompt) < 0.03 and np.mean(decode) < 0.03
    assert max(decode) < 0.03 and max(prompt) < 0.045


def test_whole_points_left_out_show_several_times_that() -> None:
    repeats = np.mean([_errors(group, "repeats")["prompt: runs"].mape for group in MEASURED])
    points = np.mean([_errors(group, "points")["prompt: tokens"].mape for group in MEASURED])
    assert 2 < points / repeats < 5
    assert 0.07 < points < 0.11


def test_points_left_out_cover_every_axis(group: tuple[str, str, int]) -> None:
    errors = _errors(group, "points")
    batches = len(_load(group).decode.x)
    assert {axis: e.left_out for axis, e in errors.items()} == {
        "prompt: tokens": 7,
        "prompt: beyond the last": 1,
        "decode: batch": batches - 2,
        "decode: batch beyond the last": 1,
        "decode: context": 12,
    }
    for error in errors.values():
        assert error.bias is not None and abs(error.bias) <= error.mape <= error.largest < 0.38


def test_batch_64_predicted_from_16_and_32_by_hand() -> None:
    """Decode grows faster beyond batch 32, so the straight line is 5 to 19 % too fast there."""
    curves = _load(("bloom-176b", "dgx-a100", 8))
    at = {p.batch: p.latency_s for p in curves.kept if p.phase == "decode" and p.context_tokens == 576 * p.batch}
    predicted = at[32] + (at[32] - at[16]) / 16 * 32
    error = _errors(("bloom-176b", "dgx-a100", 8), "points")["decode: batch beyond the last"]
    assert error.bias == pytest.approx(predicted / at[64] - 1, rel=1e-9)
    assert error.bias == pytest.approx(-0.157, abs=1e-3)
    for group in MEASURED:
        bias = _errors(group, "points")["decode: batch beyond the last"].bias
        assert bias is not None and -0.20 < bias < 0.02


def test_stored_errors_of_repeats_come_from_the_single_runs(derive_curves: ModuleType, perf_model_csv: Path) -> None:
    """With other random splits the error is the same within its own noise."""
    runs = derive_curves.read_source(perf_model_csv)
    for group in (("bloom-176b", "dgx-a100", 8), ("llama2-70b", "dgx-h100", 8)):
        again = derive_curves.leave_out_repeats(group, runs[group], seed=7)
        stored = load_provenance().repeats[group]
        assert again.prompt_mape == pytest.approx(stored.prompt_mape, rel=0.2)
        assert again.decode_mape == pytest.approx(stored.decode_mape, rel=0.2)


def test_curves_that_are_not_fitted_have_no_hold_out_error() -> None:
    curves = load_curve_set(catalog.model("bloom-176b"), catalog.machine("dgx-a100"), 8, "splitwise-sim")
    with pytest.raises(InputError, match="measured curves"):
        interpolation_error(curves)


def test_a_damaged_provenance_file_is_refused_by_field(tmp_path: Path) -> None:
    path = tmp_path / "provenance.yaml"
    for content, says in (
        ("title: x\nleave_out_repeats: {groups: []}\n", "provenance.yaml: url: is missing"),
        ("title: [", "cannot be read"),
        ("- 1\n", "does not have the form"),
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=says):
            load_provenance(path)


def test_the_summary_shows_every_group_with_its_evidence() -> None:
    rows = curve_summary()
    assert [(r.curve.model, r.curve.machine, r.curve.tensor_parallel) for r in rows] == list(curve_groups())
    for row in rows:
        assert len(row.curve.points) == 32 and row.curve.sources
        assert [e.axis for e in row.errors_repeats] == ["prompt: runs", "decode: runs"]
        assert len(row.errors_points) == 5
        curve = row.curve
        assert curve.provenance == (("assumed",) if curve.machine == "dgx-h100-capped" else ("measured",))
        assert bool(curve.refused) == ((curve.model, curve.tensor_parallel) == ("llama2-70b", 2))
    assert {r.curve.machine for r in curve_summary(model="bloom-176b")} == {"dgx-a100", "dgx-h100", "dgx-h100-capped"}
    assert len(curve_summary(machine="dgx-h100")) == 4
    with pytest.raises(InputError, match="unknown model"):
        curve_summary("gpt-2")
    assert curve_summary("qwen3-8b") == []
    assert not any(row.own for row in rows)


HEADER = (
    "model,machine,tensor_parallel,phase,prompt_tokens,batch,context_tokens,repeats,latency_s,min_s,max_s,"
    "power_average_fraction,power_peak_fraction,provenance"
)


def _own(folder: Path, points: list[tuple[str, int, int, int, float]]) -> catalog.Catalog:
    """A user's own folder with points of qwen3-8b on a DGX-H100 at TP 2."""
    rows = [
        f"qwen3-8b,dgx-h100,2,{phase},{prompt},{batch},{context},1,{s},{s},{s},,,measured"
        for phase, prompt, batch, context, s in points
    ]
    (folder / "curves").mkdir(parents=True)
    (folder / "curves" / "dgx-h100__qwen3-8b.csv").write_text("\n".join([HEADER, *rows]) + "\n")
    return catalog.with_own(str(folder))


FEW = [("prompt", 512, 1, 0, 0.02), ("prompt", 2048, 1, 0, 0.08)]
FEW += [("decode", 512, batch, 576 * batch, 0.01 + 0.0001 * batch) for batch in (1, 8)]
MORE = [*FEW, ("prompt", 1024, 1, 0, 0.03), ("decode", 512, 4, 4 * 576, 0.0104), ("decode", 512, 1, 1024, 0.0101)]


def test_ones_own_curves_are_told_apart_and_have_the_errors_that_their_points_allow(tmp_path: Path) -> None:
    few, more = (_own(tmp_path / name, points) for name, points in (("few", FEW), ("more", MORE)))
    for own in (few, more):
        (row,) = curve_summary("qwen3-8b", own=own)
        assert (row.own, row.curve.tensor_parallel, row.errors_repeats) == (True, 2, ())
        mine = [each for each in coverage(own.model("qwen3-8b"), own.machine("dgx-h100"), own) if each.own]
        assert [(each.dtype, each.tensor_parallel, each.evidence) for each in mine] == [("bf16", 2, "measured")]
        assert (row.errors_points == ()) == (mine[0].error is None) == (own is few)
    # 1024 tokens between 512 (20 ms) and 2048 (80 ms): 40 ms on the line, 30 ms measured
    (row,) = curve_summary("qwen3-8b", own=more)
    assert row.errors_points[0].mape == pytest.approx(1 / 3)


@pytest.mark.parametrize("machine", ["dgx-h100", "l40s-x8", "a10g-x4", "dgx-a100"])
def test_coverage_is_what_a_replica_can_be_made_of(machine: str) -> None:
    """A replica of a model, number type and degree exists exactly if coverage has a row with room for it."""
    at = catalog.machine(machine)
    for model in catalog.SHIPPED.models.values():
        rows = {(row.dtype, row.tensor_parallel): row for row in coverage(model, at)}
        for dtype in ("bf16", "fp8"):
            for degree in range(1, at.gpus + 1):
                row = rows.get((dtype, degree))
                try:
                    perf = replica(model.in_dtype("fp8" if dtype == "fp8" else "bf16"), at, degree)
                except ProvisionerError as error:
                    assert row is None or (row.kv_capacity_tokens is None and row.reason == str(error))
                else:
                    assert row is not None
                    assert (row.kv_capacity_tokens, row.replicas_per_machine) == (
                        perf.kv_capacity_tokens,
                        perf.replicas_per_machine,
                    )
                    assert row.evidence in perf.curve.provenance


def test_coverage_by_hand() -> None:
    rows = coverage(catalog.model("llama2-70b"), catalog.machine("dgx-h100"))
    kinds = {(row.dtype, row.tensor_parallel): row.evidence for row in rows}
    assert kinds == {("bf16", 1): "derived"} | {("bf16", tp): "measured" for tp in (2, 4, 8)} | {
        ("fp8", tp): "derived" for tp in (1, 2, 4, 8)
    }
    (two,) = (row for row in rows if (row.dtype, row.tensor_parallel) == ("bf16", 2))
    assert two.kv_capacity_tokens == pytest.approx(two.memory_bytes["KV cache"] / (2 * 80 * 8 * 128 * 2))
    assert two.memory_bytes["weights"] == pytest.approx(2 * 68_976_648_192, rel=1e-3)
    assert "llama2-70b does not fit on 1 of the 8 GPUs" in rows[0].reason
    # the errors of points in docs/reference/hardware.md, over 4 of the batch and 12 of the context
    assert two.error is not None
    assert two.error.prompt[0] == two.error.prompt[1] == pytest.approx(0.045, abs=1e-3)
    assert two.error.decode[0] == pytest.approx((4 * 0.030 + 12 * 0.008) / 16, abs=1e-3)


def test_errors_of_estimates_are_the_least_and_the_most_over_gpus_with_kernels() -> None:
    path = data_folder("hardware_specs") / "operators" / "provenance.yaml"
    gpus = yaml.safe_load(path.read_text(encoding="utf-8"))["gpus"]
    found = machine_curves(catalog.machine("b300-x8"))
    assert (found.evidence, found.kernels) == ("estimated", ("b200-sxm-180gb",))
    for dtype, error in found.errors.items():
        for phase, span in (("prompt", error.prompt), ("decode", error.decode)):
            others = [gpu["estimated_from_others"].get(f"{phase} {dtype}") for gpu in gpus.values()]
            medians = sorted(each["error_median"] for each in others if each)
            assert span == (medians[0], medians[-1]) and len(medians) == (6 if dtype == "bf16" else 4)
    for gpu, kernels in kernels_provenance().items():
        stated = gpus[gpu]["tables"]
        by_software = [(software, name) for software, tables in stated.items() for name in tables]
        assert [("-".join(each.software.split()), each.name) for each in kernels.tables] == by_software
        assert sum(each.rows for each in kernels.tables) == sum(
            table["rows"] for tables in stated.values() for table in tables.values()
        )
    assert list(machine_curves(catalog.machine("dgx-a100")).errors) == ["bf16"]


def test_a_table_without_a_used_row_has_no_error() -> None:
    tables = kernels_provenance()["h200-sxm-141gb"].tables
    attention = next(each for each in tables if each.name == "prompt_attention bf16")
    assert attention.software == "vllm 0.19.0"
    assert (attention.rows, attention.rows_used, attention.error_median) == (4380, 0, None)
    assert [refused.rows for refused in attention.refused] == [4380]
    of_2025 = operators_of(catalog.machine("dgx-h200"), catalog.engine("provisioner-0.1"))
    assert "prompt_attention" in of_2025.estimated


def test_a_damaged_provenance_of_kernels_is_refused_by_field(tmp_path: Path) -> None:
    path = tmp_path / "provenance.yaml"
    for content, says in (
        ("gpus: {x: {limits: y, tables: {}}}\n", "provenance.yaml: estimated_from_others: is missing"),
        (
            "gpus: {x: {limits: y, tables: {v-1: {gemm: {rows_used: 1}}}, estimated_from_others: {from: []}}}\n",
            "is missing",
        ),
        (
            "gpus: {x: {limits: y, tables: {}, estimated_from_others: {from: [], prompt: 3}}}\n",
            "does not have the form",
        ),
        ("rules: {}\n", "provenance.yaml: gpus: is missing"),
        ("title: [", "cannot be read"),
        ("- 1\n", "does not have the form"),
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=says):
            kernels_provenance(path)


@pytest.mark.slow
def test_errors_of_served_runs_are_those_of_the_closed_loop(shared_data: Path) -> None:
    path = shared_data / "serving-measurements" / "vllm_closed_loop.csv"
    if not path.is_file():
        pytest.skip(f"{path.name} is not on this machine")
    runs = read_runs(path)
    assert len(runs) == SERVED_RUNS
    found = [(run, predict(run)) for run in runs]
    ttft = np.mean([abs(of.ttft_s.mean() / run.ttft_s - 1) for run, of in found])
    tpot = np.mean([abs(of.tpot_s.mean() / run.tpot_s - 1) for run, of in found])
    assert ttft == pytest.approx(SERVED_TTFT_ERROR, abs=5e-3)
    assert tpot == pytest.approx(SERVED_TPOT_ERROR, abs=2e-3)

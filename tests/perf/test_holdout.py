"""The error of the curves in two ways: repeats left out, and whole points left out."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from provisioner.errors import InputError
from provisioner.perf.curves import CurveSet, curve_groups, load_curve_set
from provisioner.perf.holdout import HoldOutError, interpolation_error
from provisioner.perf.provenance import load_provenance, read_provenance
from provisioner.perf.summary import curve_summary
from provisioner.specs import catalog

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
            read_provenance(path)


def test_the_summary_shows_every_group_with_its_evidence() -> None:
    rows = curve_summary()
    assert [(r.model, r.machine, r.tensor_parallel) for r in rows] == list(curve_groups())
    for row in rows:
        assert row.points == 32 and row.sources
        assert [e.axis for e in row.errors_repeats] == ["prompt: runs", "decode: runs"]
        assert len(row.errors_points) == 5
        assert row.provenance == (("assumed",) if row.machine == "dgx-h100-capped" else ("measured",))
        assert bool(row.refused) == ((row.model, row.tensor_parallel) == ("llama2-70b", 2))
    assert {r.machine for r in curve_summary(model="bloom-176b")} == {"dgx-a100", "dgx-h100", "dgx-h100-capped"}
    assert len(curve_summary(machine="dgx-h100")) == 4
    with pytest.raises(InputError, match="unknown model"):
        curve_summary("gpt-2")

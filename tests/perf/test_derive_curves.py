"""The shipped tables against the public original, recomputed by other means than the script's."""

import csv
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from provisioner.perf.curves import curve_groups
from provisioner.specs.shipped import data_folder

CURVES = data_folder("hardware_specs") / "curves"
HARDWARE = {"dgx-a100": "a100-80gb", "dgx-h100": "h100-80gb", "dgx-h100-capped": "h100-80gb-pcap"}


@pytest.fixture(scope="module")
def original(perf_model_csv: Path) -> pd.DataFrame:
    frame = pd.read_csv(perf_model_csv, float_precision="round_trip")
    frame["key"] = frame.prompt_size * frame.batch_size
    frame["context"] = frame.batch_size * (frame.prompt_size + frame.token_size / 2)
    return frame


def _of_group(frame: pd.DataFrame, group: tuple[str, str, int]) -> pd.DataFrame:
    model, machine, tensor_parallel = group
    wanted = (frame.model == model) & (frame.hardware == HARDWARE[machine])
    return frame[wanted & (frame.tensor_parallel == tensor_parallel)]


def test_all_groups_of_the_original_are_shipped(original: pd.DataFrame) -> None:
    there = original[["model", "hardware", "tensor_parallel"]].drop_duplicates()
    assert {(m, HARDWARE[h], tp) for m, h, tp in curve_groups()} == set(there.itertuples(index=False, name=None))
    assert len(curve_groups()) == 12


def test_shipped_points_are_the_medians_of_the_original(original: pd.DataFrame, group: tuple[str, str, int]) -> None:
    runs = _of_group(original, group)
    shipped = pd.read_csv(CURVES / f"{group[1]}__{group[0]}.csv")
    shipped = shipped[shipped.tensor_parallel == group[2]]
    for phase, column, keys in (
        ("prompt", "prompt_time", ["prompt_size", "batch_size"]),
        ("decode", "token_time", ["prompt_size", "batch_size", "context"]),
    ):
        points = shipped[shipped.phase == phase].rename(
            columns={"prompt_tokens": "prompt_size", "batch": "batch_size", "context_tokens": "context"}
        )
        expected = runs.groupby(keys)[column].agg(["median", "size", "min", "max"]) / [1e3, 1, 1e3, 1e3]
        found = points.set_index(keys)[["latency_s", "repeats", "min_s", "max_s"]].sort_index()
        assert len(found) == len(expected) == {"prompt": 13, "decode": 19}[phase]
        np.testing.assert_allclose(found.to_numpy(), expected.sort_index().to_numpy(), rtol=0, atol=6e-10)


def test_simulator_knots_are_unrounded_medians_over_all_runs_of_a_key(
    original: pd.DataFrame, group: tuple[str, str, int]
) -> None:
    model, machine, tensor_parallel = group
    expected = _of_group(original, group).groupby("key")[["prompt_time", "token_time"]].median() / 1e3
    shipped = pd.read_csv(
        CURVES / "splitwise-sim" / f"{machine}__{model}__tp{tensor_parallel}.csv", float_precision="round_trip"
    )
    assert shipped.batched_tokens.tolist() == expected.index.tolist()
    np.testing.assert_allclose(shipped[["prompt_s", "token_s"]].to_numpy(), expected.to_numpy(), rtol=1e-15, atol=0)


def test_running_the_script_again_gives_the_same_bytes(
    derive_curves: ModuleType, perf_model_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert derive_curves.main([str(perf_model_csv), "--out", str(tmp_path)]) == 0
    assert "19 files" in capsys.readouterr().out
    written = {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    shipped = {p.relative_to(CURVES): p.read_bytes() for p in CURVES.rglob("*") if p.is_file()}
    assert written == shipped


def test_the_capped_machine_is_assumed_1_3_times_the_prompt_and_the_same_tokens(
    original: pd.DataFrame,
) -> None:
    order = ["model", "tensor_parallel", "prompt_size", "batch_size", "token_size"]
    full, capped = (
        original[original.hardware == name].sort_values([*order, "prompt_time"]).reset_index(drop=True)
        for name in ("h100-80gb", "h100-80gb-pcap")
    )
    np.testing.assert_allclose(capped.prompt_time, 1.3 * full.prompt_time, rtol=1e-12)
    np.testing.assert_array_equal(capped.token_time, full.token_time)
    for path in CURVES.glob("*.csv"):
        with path.open() as stream:
            provenance = {row["provenance"] for row in csv.DictReader(stream)}
        assert provenance == {"assumed" if path.stem.startswith("dgx-h100-capped") else "measured"}


def test_power_fractions_are_there_for_the_a100_alone() -> None:
    for path in CURVES.glob("*.csv"):
        power = pd.read_csv(path)[["power_average_fraction", "power_peak_fraction"]]
        assert power.notna().to_numpy().any() == path.stem.startswith("dgx-a100")
        assert not (power <= 0).to_numpy().any()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("model,hardware\n", "row 1: missing column tensor_parallel"),
        ("{head}\n", "has no rows"),
        ("{head}\nm,b200,8,512,1,128,100,50,0,0\n", "row 2: hardware: must be a100-80gb or"),
        ("{head}\nm,a100-80gb,8,512,1,128,-100,50,0,0\n", "row 2: prompt_time: must be above 0 ms, got -100"),
        ("{head}\nm,a100-80gb,8,512,x,128,100,50,0,0\n", "row 2: batch_size: must be a number of sequences"),
    ],
)
def test_a_damaged_original_is_refused_in_one_line(
    derive_curves: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: str,
    message: str,
) -> None:
    source = tmp_path / "perf_model.csv"
    source.write_text(content.replace("{head}", ",".join(derive_curves.SOURCE_COLUMNS)))
    assert derive_curves.main([str(source), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message in error and str(source) in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_binary_or_absent_original_is_refused(derive_curves: ModuleType, tmp_path: Path) -> None:
    binary = tmp_path / "x.csv"
    binary.write_bytes(b"\xff\xfe\x00\x80")
    for source in (binary, tmp_path / "absent.csv"):
        assert derive_curves.main([str(source), "--out", str(tmp_path / "out")]) == 2

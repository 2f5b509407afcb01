from pathlib import Path

import pytest

from provisioner.errors import InputError
from provisioner.perf.points import COLUMNS, KNOT_COLUMNS, CurvePoint, read_knots, read_points

GOOD = {
    "model": "m",
    "machine": "x",
    "tensor_parallel": "8",
    "phase": "decode",
    "prompt_tokens": "512",
    "batch": "2",
    "context_tokens": "1152",
    "latency_s": "0.05",
    "repeats": "5",
    "min_s": "0.049",
    "max_s": "0.052",
    "provenance": "measured",
    "power_average_fraction": "0.7",
    "power_peak_fraction": "",
}


def _file(tmp_path: Path, *rows: dict[str, str], columns: tuple[str, ...] = COLUMNS) -> Path:
    path = tmp_path / "hardware_specs" / "curves" / "x__m.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [",".join(columns), *(",".join(row[c] for c in columns) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_good_row_is_read_as_it_stands(tmp_path: Path) -> None:
    points = read_points(_file(tmp_path, GOOD), model="m", machine="x")
    assert points == {8: (CurvePoint("decode", 512, 2, 1152, 0.05, 5, 0.049, 0.052, "measured", 0.7, None),)}
    assert points[8][0].batched_tokens == 1024
    assert points[8][0].context_per_sequence_tokens == 576


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("latency_s", "-3", "must be above 0 s, got -3"),
        ("latency_s", "0", "must be above 0 s"),
        ("latency_s", "fast", "must be a number of s, got 'fast'"),
        ("latency_s", "nan", "must be a number"),
        ("min_s", "0.06", "must be at most latency_s = 0.05 s"),
        ("max_s", "0.04", "must be at least latency_s = 0.05 s"),
        ("max_s", "inf", "must be a number"),
        ("tensor_parallel", "0", "1 or more"),
        ("prompt_tokens", "1.5", "must be a whole number of tokens"),
        ("batch", "-2", "1 or more"),
        ("repeats", "0", "1 or more"),
        ("context_tokens", "0", "must be above 0 tokens"),
        ("context_tokens", "", "must be a number of tokens"),
        ("phase", "prefill", "must be prompt or decode, got 'prefill'"),
        ("provenance", "guessed", "must be measured or derived or estimated or assumed, got 'guessed'"),
        ("machine", "y", "must be x, got 'y'"),
        ("model", "n", "must be m, got 'n'"),
        ("power_average_fraction", "70", "must be above 0 and below 2 of the TDP, got 70.0"),
    ],
)
def test_a_bad_value_is_refused_with_file_row_and_field(tmp_path: Path, field: str, value: str, says: str) -> None:
    other = {**GOOD, "batch": "4"}
    path = _file(tmp_path, other, {**GOOD, field: value})
    with pytest.raises(InputError) as caught:
        read_points(path, model="m", machine="x")
    message = str(caught.value)
    assert message.startswith(f"hardware_specs/curves/x__m.csv: row 3: {field}: ")
    assert says in message and "\n" not in message


def test_missing_columns_rows_fields_and_repeated_points_are_refused(tmp_path: Path) -> None:
    columns = tuple(c for c in COLUMNS if c not in ("latency_s", "repeats"))
    with pytest.raises(InputError, match=r"x__m\.csv: row 1: missing column latency_s, repeats"):
        read_points(_file(tmp_path, GOOD, columns=columns), model="m", machine="x")
    with pytest.raises(InputError, match=r"row 3: phase: the point 512 x 2 decode \(context 1152\) stands twice"):
        read_points(_file(tmp_path, GOOD, GOOD), model="m", machine="x")
    with pytest.raises(InputError, match="has no rows"):
        read_points(_file(tmp_path), model="m", machine="x")
    short = _file(tmp_path, GOOD)
    short.write_text(short.read_text() + "m,x,8\n")
    with pytest.raises(InputError, match="row 3: must have 14 fields"):
        read_points(short, model="m", machine="x")


def test_a_file_that_is_absent_or_binary_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.csv: cannot be read"):
        read_points(tmp_path / "absent.csv", model="m", machine="x")
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\x80\xff\x00")
    with pytest.raises(InputError, match=r"binary\.csv: is not a CSV file in UTF-8"):
        read_points(binary, model="m", machine="x")


def test_knots_are_checked_in_the_same_way(tmp_path: Path) -> None:
    def knots(*keys: str, token_s: str = "0.05") -> Path:
        rows = [dict(zip(KNOT_COLUMNS, ("m", "x", "8", key, "0.1", token_s, "5"), strict=True)) for key in keys]
        return _file(tmp_path, *rows, columns=KNOT_COLUMNS)

    read = read_knots(knots("128", "256"), model="m", machine="x", tensor_parallel=8)
    assert [k.batched_tokens for k in read] == [128, 256]
    for keys, token_s, says in (
        (("256", "128"), "0.05", "row 3: batched_tokens: must rise from row to row, got 128 after 256"),
        (("128",), "0.05", "must have at least 2 rows, has 1"),
        (("128", "256"), "-1", "row 2: token_s: must be above 0 s, got -1"),
    ):
        with pytest.raises(InputError, match=says):
            read_knots(knots(*keys, token_s=token_s), model="m", machine="x", tensor_parallel=8)
    with pytest.raises(InputError, match="row 2: tensor_parallel: must be 4, got '8'"):
        read_knots(knots("128", "256"), model="m", machine="x", tensor_parallel=4)

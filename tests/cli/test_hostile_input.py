"""Hostile input: files without end, names that no file has, numbers out of range, characters that terminals obey."""

from __future__ import annotations

from pathlib import Path

import pytest

from provisioner import InputError, api
from provisioner.files import MOST_BYTES, check_name, read_text
from provisioner.options import Options, PlanOptions, SimulateOptions, declared
from provisioner.options.imports import CurveImportOptions
from provisioner.options.profiling import ProfileOptions
from tests.cli.conftest import Run

H100 = ("simulate", "--design", "baseline-h100", "--mixed", "1")
CURVES = ("curves", "import", "F", "--model", "llama2-70b", "--machine", "dgx-h100", "--tp", "8")
READERS = [
    ("plan", "--slo", "F"),
    ("plan", "--prices", "F"),
    ("plan", "--trace", "F"),
    ("plan", "--workload", "F"),
    (*H100, "--rates", "F"),
    ("workloads", "F"),
    ("workloads", "import", "F"),
    ("models", "import", "F"),
    CURVES,
]


@pytest.mark.parametrize("arguments", READERS, ids=" ".join)
def test_a_file_without_end_is_refused(
    provision: Run, tmp_path: Path, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("provisioner.files.MOST_BYTES", 1_000_000)
    ended = provision(*("/dev/zero" if each == "F" else each for each in arguments))
    assert ended.code == 2 and "/dev/zero" in ended.error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "option", ["slo", "prices", "specs", "trace", "workload", "write-lp", "out", "model", "solver"]
)
@pytest.mark.parametrize(
    ("name", "problem"),
    [
        (f"{'a' * 256}.csv", "has 260 bytes; a file's may have 255"),
        ("a\udcff.csv", r"must be UTF-8, got b'a\xff.csv'"),
        ("a\0.csv", "has a NUL"),
    ],
)
def test_a_name_that_no_file_can_have_is_refused(
    provision: Run, tmp_path: Path, option: str, name: str, problem: str
) -> None:
    ended = provision("plan", f"--{option}", name)
    assert ended.code == 2
    assert ended.error.startswith(f"--{option}: ") and problem in ended.error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [("workloads",), ("workloads", "import"), ("models", "import"), ("machines",)])
def test_a_subject_that_no_file_can_be_named_is_refused(provision: Run, command: tuple[str, ...]) -> None:
    ended = provision(*command, "a" * 300)
    assert ended.code == 2 and "has 300 bytes" in ended.error


def test_names_and_sizes_of_files(tmp_path: Path) -> None:
    check_name("/".join(["é" * 120] * 9), "--out")
    path = tmp_path / "f.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    assert read_text(path) == "one\ntwo\nthree\n"
    assert read_text(path, path.stat().st_size)
    with pytest.raises(OSError, match=r"too large: 18 bytes; at most 17 bytes are read"):
        read_text(path, 17)
    with path.open("r+b") as file:
        file.truncate(MOST_BYTES + 1)  # a sparse file
    with pytest.raises(OSError, match="too large"):
        read_text(path)
    with pytest.raises(InputError, match="has a NUL"):
        PlanOptions(slo="a\0")


def test_many_rates_are_not_taken_for_the_name_of_a_file(provision: Run) -> None:
    rates = ",".join(["0.5"] * 100)
    assert SimulateOptions.of(rates_rps=rates).rates_rps == (0.5,) * 100
    ended = provision(*H100, "--rates", "a" * 300)
    assert ended.code == 2 and "has 300 bytes" in ended.error
    assert "or a file, got 'none.txt'" in provision(*H100, "--rates", "none.txt").error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(28, "No space left on device", "j.journal"), "j.journal: No space left on device"),
        (MemoryError(), "the memory of this machine is not enough"),
    ],
)
def test_a_machine_at_its_end_is_no_defect(
    provision: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, line: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(api, "plan", fail)
    ended = provision("plan")
    assert (ended.code, ended.error) == (2, line)


S = (*H100, "--rate", "5", "--duration", "1")
RANGES = [
    ((*S, "--batch-tokens", "1e9"), "--batch-tokens: must be from 1 to 1,000,000 tokens, got 1e9"),
    ((*S, "--batch-requests", "1e9"), "--batch-requests: must be from 1 to 100,000 requests"),
    ((*S, "--seeds", "1e9"), "--seeds: must be from 1 to 1,000 request sets"),
    ((*S, "--cv", "1e6"), "--cv: must be from 0 to 100, got 1e6"),
    ((*S, "--seed", "1e300"), "--seed: must be from 0 to 4,294,967,295"),
    ((*S, "--transfer-retry", "1e-300"), "--transfer-retry: must be 0, or from 1 ms to 1 h, got 1e-300"),
    ((*H100, "--rate", "1e9"), "--rate: must be from 1e-06 to 1,000,000 requests/s, got 1e9"),
    ((*H100, "--rates", "5,1e9"), "--rates: must be from 0 to 1,000,000 requests/s, got 1e9"),
    ((*H100, "--rate", "1", "--duration", "1e300"), "--duration: must be from 1e-06 to 31,622,400 s, got 1e300"),
    ((*H100[:-1], "1e9"), "--mixed: must be from 1 to 100,000 machines"),
    (("plan", "--headroom", "1e300"), "--headroom: must be from 0 to 10, got 1e300"),
    (("plan", "--scale", "price=1e300"), "--scale price: must be from 1e-06 to 1,000,000, got 1e300"),
    (("plan", "--stock", "dgx-h100=1e9"), "--stock dgx-h100: must be from 0 to 100,000 machines"),
    (("plan", "--max-cost", "1e300"), "--max-cost: must be from 1e-06 to 1,000,000,000 $/h"),
    (("plan", "--max-power", "1e300"), "--max-power: must be from 1 to 1e+15 W"),
    (("plan", "--cut-margin", "1e300"), "--cut-margin: must be from 1 to 100, got 1e300"),
    (("plan", "--ttft-p99", "1e300s"), "--ttft-p99: must be from 1e-9 to 1e9 s, got '1e300s'"),
    (("plan", "--ttft-p99", "1e-300x"), "--ttft-p99: must be from 1e-9 to 1e9 x"),
    (("plan", "--deadline", "1e9h"), "--deadline: must be from 1e-9 to 1e9 s"),
    (("plan", "--backlog", "1e300", "--within", "8h"), "--backlog: must be from 1 to 1,000,000,000 requests"),
    (("plan", "--rate", "1e-300"), "--rate: must be from 1e-06 to 1,000,000 requests/s"),
]


@pytest.mark.parametrize(("arguments", "message"), RANGES, ids=[message.split(":")[0] for _, message in RANGES])
def test_a_number_out_of_range_is_refused_with_the_range(
    provision: Run, arguments: tuple[str, ...], message: str
) -> None:
    ended = provision(*arguments)
    assert ended.code == 2
    assert ended.error.startswith(message)


@pytest.mark.parametrize("kind", [PlanOptions, SimulateOptions, ProfileOptions, CurveImportOptions])
def test_every_number_has_a_range(kind: type[Options]) -> None:
    for name, option in declared(kind).items():
        if option.kind.number and name != "percentiles":
            with pytest.raises(InputError, match="must be"):
                option.kind.parse(1e300, name)

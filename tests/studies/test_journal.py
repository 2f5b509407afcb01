"""The journal of a long study: what it keeps, and what it refuses."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from provisioner.errors import InputError
from provisioner.options import SimulateOptions
from provisioner.results.grid import PointOutcome
from provisioner.studies.journal import Journal, kept
from provisioner.studies.points import question_of

QUESTION = {"design": "splitwise-hh", "prompt": (1, 2), "scale": {"rate": 2.0}}


def write(path: Path, keys: str, question: dict[str, object] = QUESTION, resume: bool = False) -> dict[str, object]:
    journal = Journal.open(path, question, resume)
    for key in keys:
        journal.add(key, {"value": key * 2})
    journal.close(finished=False)
    return journal.done


def test_points_of_an_earlier_session_are_there(tmp_path: Path) -> None:
    path = tmp_path / "s.csv.journal"
    assert write(path, "abc") == {}
    assert write(path, "de", resume=True) == {key: {"value": key * 2} for key in "abc"}
    assert write(path, "", resume=True) == {key: {"value": key * 2} for key in "abcde"}


@pytest.mark.parametrize("cut", range(1, 30))
def test_a_line_that_was_cut_off_is_dropped_and_written_anew(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "s.csv.journal"
    write(path, "abc")
    path.write_bytes(path.read_bytes()[:-cut])
    assert list(write(path, "cd", resume=True)) == ["a", "b"]
    assert list(write(path, "", resume=True)) == ["a", "b", "c", "d"]
    assert len(path.read_bytes().splitlines()) == 5


def test_a_first_line_that_was_cut_off_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "s.csv.journal"
    write(path, "")
    path.write_bytes(path.read_bytes()[:10])
    assert write(path, "a", resume=True) == {}
    assert list(write(path, "", resume=True)) == ["a"]


def test_it_goes_when_the_study_is_finished(tmp_path: Path) -> None:
    path = tmp_path / "s.csv.journal"
    journal = Journal.open(path, QUESTION, resume=True)  # nothing to resume: a new one
    journal.add("a", 1)
    assert path.is_file()
    journal.close(finished=True)
    assert not path.exists()


def test_what_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s.csv.journal"
    write(path, "a")
    before = path.read_bytes()
    with pytest.raises(InputError, match="go on with resume, or delete it"):
        Journal.open(path, QUESTION, resume=False)
    with pytest.raises(InputError, match=r"another question \(it differs in prompt\)"):
        Journal.open(path, {**QUESTION, "prompt": (1, 3)}, resume=True)
    assert path.read_bytes() == before
    with pytest.raises(InputError, match="cannot be written"):
        Journal.open(tmp_path / "no" / "s.journal", QUESTION, resume=False)


@pytest.mark.parametrize("line", ["[]", "null", "5", '{"key": "a"}', '{"question": []}', '{"question": 5}', "[" * 9999])
def test_a_first_line_that_is_no_question(line: str, tmp_path: Path) -> None:
    path = tmp_path / "s.csv.journal"
    path.write_text(f"{line}\n")
    with pytest.raises(InputError, match="line 1: is not of a journal; delete it"):
        Journal.open(path, QUESTION, resume=True)


@pytest.mark.parametrize(
    "line",
    [
        *("", "[]", '{"key": "a"}', '{"key": "a", "record": 1}', '{"key": "a", "record": {"state": "odd"}}'),
        *('{"key": 5, "record": {"state": "pass"}}', '{"key": [], "record": {"state": "pass"}}'),
    ],
)
def test_a_line_that_is_no_record(line: str, tmp_path: Path) -> None:
    path = tmp_path / "s.csv.journal"
    write(path, "")
    path.write_text(f"{path.read_text()}{line}\n")
    before = path.read_bytes()
    with pytest.raises(InputError, match="line 2: is not of a journal; delete it"):
        Journal.open(path, QUESTION, resume=True, record=PointOutcome)
    assert path.read_bytes() == before


def test_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        for resume in (False, True):
            with pytest.raises(InputError, match=f"{name}: is not a file"):
                Journal.open(tmp_path / name, QUESTION, resume)


def test_one_process_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "s.csv.journal"
    first = Journal.open(path, QUESTION, resume=False)
    first.add("a", 1)
    for resume in (False, True):
        with pytest.raises(InputError, match="another process writes it now"):
            Journal.open(path, QUESTION, resume)
    first.add("b", 2)
    first.close(finished=False)
    assert Journal.open(path, QUESTION, resume=True).done == {"a": 1, "b": 2}


def test_a_disk_that_is_full(tmp_path: Path) -> None:
    """The error is one line, and what was written before is there for the next session."""
    out = str(tmp_path / "s.csv")
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    full = pytest.raises(InputError, match=r"journal: cannot be written: .*; resume goes on from what is in it")
    try:
        with full, kept([out], QUESTION, resume=False) as (_, keep, _):
            keep("a", 1)
            resource.setrlimit(resource.RLIMIT_FSIZE, (Path(f"{out}.journal").stat().st_size + 20, before[1]))
            keep("b", "x" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    with kept([out], QUESTION, resume=True) as (known, _, _):
        assert known == {"a": 1}


def test_every_file_that_a_result_depends_on_is_in_the_question(tmp_path: Path) -> None:
    """A change of any makes it another question; a file that is not read does not."""
    specs, prices = tmp_path / "own", tmp_path / "prices.yaml"
    for name in ("own/models/m.yaml", "own/curves/c.csv", "prices.yaml", "w.yaml", "w.csv", "slo.yaml", "other.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("bins: w.csv\n" if name == "w.yaml" else "1\n")
    options = SimulateOptions(workload=str(tmp_path / "w.yaml"), slo=str(tmp_path / "slo.yaml"), specs=str(specs))

    def question() -> dict[str, object]:
        return question_of("sweep", options, "1", prices=str(prices))

    before = question()
    for name in ("own/models/m.yaml", "own/curves/c.csv", "prices.yaml", "w.yaml", "w.csv", "slo.yaml"):
        (tmp_path / name).write_text("bins: w.csv\n2\n")
        after = question()
        assert after != before, name
        before = after
    (tmp_path / "other.csv").write_text("2\n")
    assert question() == before


@pytest.mark.parametrize("name", ["workload", "trace"])
def test_a_folder_of_a_trace_is_in_the_question(tmp_path: Path, name: str) -> None:
    """One changed file of it makes another question, its own journal in it does not."""
    (tmp_path / "data").mkdir()
    for part in ("0_trace.jsonl", "2_passages.jsonl"):
        (tmp_path / "data" / part).write_text("1\n")
    options = SimulateOptions(**{name: str(tmp_path / "data")})
    before = question_of("sweep", options, "1")
    (tmp_path / "data" / "o.csv.journal").write_text("{}\n")
    assert question_of("sweep", options, "1") == before
    (tmp_path / "data" / "2_passages.jsonl").write_text("2\n")
    assert question_of("sweep", options, "1") != before


def test_numbers_come_back_as_they_were_counted(tmp_path: Path) -> None:
    path, question = str(tmp_path / "s.csv"), {"seed": 0}
    for requests in (172, 172.5):
        with pytest.raises(KeyboardInterrupt), kept([path], question, False, PointOutcome) as (_, keep, _):
            keep("a", dataclasses.asdict(PointOutcome(state="pass", requests=requests)))
            raise KeyboardInterrupt
        with kept([path], question, True, PointOutcome) as (known, _, _):
            assert repr(known["a"].requests) == repr(requests)

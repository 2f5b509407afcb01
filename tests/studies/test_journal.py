"""The journal of a long study: what it keeps, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from provisioner.errors import InputError
from provisioner.studies.journal import Journal

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
    path.write_text(json.dumps({"key": "a"}) + "\n")
    with pytest.raises(InputError, match="line 1: is not of a journal"):
        Journal.open(path, QUESTION, resume=True)
    with pytest.raises(InputError, match="cannot be written"):
        Journal.open(tmp_path / "no" / "s.journal", QUESTION, resume=False)

"""The list of answers that changed since 0.1 names questions that there are, each with its reason."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.questions.asked import QUESTIONS

DATA = Path(__file__).parent / "data"


def test_answers_that_changed_are_of_fixed_questions() -> None:
    rows = [line.split("|")[1:-1] for line in (DATA / "answers_changed.md").read_text().splitlines() if "`" in line]
    listed = [re.findall(r"`([^`]+)`", row[1]) for row in rows if len(row) == 3]
    stored = json.loads((DATA / "answers_0.1.json").read_text())
    assert listed and all(listed)
    for names in listed:
        assert len(set(names)) == len(names)
        assert set(names) <= set(stored) <= set(QUESTIONS)


def test_stored_answers_are_of_fixed_questions() -> None:
    stored = {path.stem: set(json.loads(path.read_text())) for path in sorted(DATA.glob("answers_0*.json"))}
    assert set(stored) == {"answers_0.1", "answers_0.2", "answers_0.2_as_0.1"}
    assert stored["answers_0.2"] == set(QUESTIONS)
    assert stored["answers_0.2_as_0.1"] == stored["answers_0.1"]

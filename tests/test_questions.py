"""The list of answers that changed since 0.1 names questions that there are, each with its reason."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.questions import QUESTIONS

DATA = Path(__file__).parent / "data"


def test_answers_that_changed_are_of_fixed_questions() -> None:
    rows = [line.split("|")[1:-1] for line in (DATA / "answers_changed.md").read_text().splitlines() if "`" in line]
    listed = [re.findall(r"`([^`]+)`", row[1]) for row in rows if len(row) == 3]
    stored = json.loads((DATA / "answers_0.1.json").read_text())
    assert listed and all(listed)
    for names in listed:
        assert len(set(names)) == len(names)
        assert set(names) <= set(QUESTIONS) == set(stored)

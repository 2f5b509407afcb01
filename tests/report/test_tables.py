"""The tables of all results are named in the documentation."""

import re
from pathlib import Path

from provisioner.cli.commands import QUESTIONS
from provisioner.report.views.registry import VIEWS

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "reports.md"
COMMANDS = {question.result.split(".")[1]: question.name for question in QUESTIONS} | {
    "Grid": "sweep",
    "Reproduction": "reproduce",
}


def test_the_page_names_every_table_of_every_command() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (`.*?) \|(.*)\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    named = {command: re.findall(r"`(\w+)`", f"{main} {others}") for command, main, others in rows}
    assert named == {COMMANDS[view.kind.__name__]: list(view.tables) for view in VIEWS}

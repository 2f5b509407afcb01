"""Outputs that pages show, compared with those that the commands print."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict

import pytest

from docs.refresh_outputs import PAGES, ROOT, Shown, refreshed, shown
from provisioner.cli import main

PLACES: dict[str, list[tuple[str, Shown]]] = defaultdict(list)
for page in PAGES:
    for place in shown(page):
        PLACES[place.command].append((page.name, place))

CASES = [
    pytest.param(command, id=command, marks=[pytest.mark.slow] if places[0][1].slow else [])
    for command, places in PLACES.items()
]


def run(command: str) -> int:
    arguments = shlex.split(command)
    assert arguments[0] == "provision"
    try:
        return main(arguments[1:]) or 0
    except SystemExit as end:
        return int(end.code or 0)


def words_and_numbers(text: str) -> tuple[list[str], list[float]]:
    """A text as words, versions left out, and as numbers, which may differ in their last digit."""
    plain = re.sub(r"\b\d+\.\d+\.\d+\S*", "X", text)
    number = r"(?<![\w.])\d[\d,]*(?:\.\d+)?"
    return re.sub(number, "0", plain).split(), [float(each.replace(",", "")) for each in re.findall(number, plain)]


@pytest.mark.parametrize("command", CASES)
def test_shown_output_is_what_the_command_prints(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert run(command) == 0
    output = capsys.readouterr().out
    for page, place in PLACES[command]:
        words, numbers = words_and_numbers(place.part(output))
        shown_words, shown_numbers = words_and_numbers(place.text)
        assert words == shown_words, page
        assert numbers == pytest.approx(shown_numbers, rel=5e-3), page


def test_every_command_has_a_page_or_is_in_the_readme() -> None:
    assert {"plan", "simulate", "sensitivity"} <= {command.split()[1] for command in PLACES}


def test_a_part_of_an_output_is_renewed_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("docs.refresh_outputs._output", lambda command: f"{command}\nsecond\nthird\n")
    page = "<!-- lines 2-2 of output: provision plan -->\n```\nold\n```\n\n<!-- output: provision plan -->\n```\n```\n"
    assert refreshed(page) == page.replace("old\n", "second\n").replace(
        "-->\n```\n```", "-->\n```\nprovision plan\nsecond\nthird\n```"
    )

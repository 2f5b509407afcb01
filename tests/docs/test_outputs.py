"""What the pages show is what their commands print."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from provisioner.cli import main

ROOT = Path(__file__).resolve().parents[2]
SHOWN = re.compile(r"<!-- (slow )?output: (provision .*?) -->\n```\n(.*?)```", re.DOTALL)
CASES = [
    pytest.param(command, shown, id=f"{page.stem}: {command}", marks=[pytest.mark.slow] if slow else [])
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    for slow, command, shown in SHOWN.findall(page.read_text(encoding="utf-8"))
]


def run(command: str) -> int:
    arguments = shlex.split(command)
    assert arguments[0] == "provision"
    try:
        return main(arguments[1:]) or 0
    except SystemExit as end:
        return int(end.code or 0)


def words_and_numbers(text: str) -> tuple[list[str], list[float]]:
    """What is printed as words, versions left out, and as numbers, which may differ in their last digit."""
    plain = re.sub(r"\b\d+\.\d+\.\d+\S*", "X", text)
    number = r"(?<![\w.])\d[\d,]*(?:\.\d+)?"
    return re.sub(number, "0", plain).split(), [float(each.replace(",", "")) for each in re.findall(number, plain)]


@pytest.mark.parametrize(("command", "shown"), CASES)
def test_shown_output_is_what_the_command_prints(
    command: str, shown: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    assert run(command) == 0
    words, numbers = words_and_numbers(capsys.readouterr().out)
    shown_words, shown_numbers = words_and_numbers(shown)
    assert words == shown_words
    assert numbers == pytest.approx(shown_numbers, rel=5e-3)


def test_every_command_has_a_page_or_is_in_the_readme() -> None:
    commands = {param.values[0].split()[1] for param in CASES}  # type: ignore[union-attr]
    assert {"plan", "simulate", "sensitivity"} <= commands

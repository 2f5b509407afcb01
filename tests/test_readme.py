"""The README's commands run and print what it shows."""

import re
import shlex
from pathlib import Path

import pytest

from provisioner.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"<!-- output: (provision .*?) -->\n```\n(.*?)```", README, re.DOTALL)
EXAMPLES = [
    command.split("#")[0].strip()
    for block in re.findall(r"```\n(provision .*?)```", README, re.DOTALL)
    for line in block.splitlines()
    for command in line.split("#")[0].split(";")
]


def run(command: str) -> int:
    arguments = shlex.split(command)
    assert arguments[0] == "provision"
    try:
        return main(arguments[1:]) or 0
    except SystemExit as end:
        return int(end.code or 0)


def words_and_numbers(text: str) -> tuple[list[str], list[float]]:
    """What a plan prints as words, versions left out, and as numbers, which may differ in their last digit."""
    plain = re.sub(r"\b\d+\.\d+\.\d+\S*", "X", text)
    number = r"(?<![\w.])\d[\d,]*(?:\.\d+)?"
    return re.sub(number, "0", plain).split(), [float(each.replace(",", "")) for each in re.findall(number, plain)]


def test_a_plan_and_a_simulation_are_shown() -> None:
    assert [command.split()[1] for command, _ in SHOWN] == ["plan", "simulate"]


@pytest.mark.parametrize(("command", "shown"), SHOWN, ids=[command for command, _ in SHOWN])
def test_shown_output_is_what_the_command_prints(command: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command) == 0
    words, numbers = words_and_numbers(capsys.readouterr().out)
    shown_words, shown_numbers = words_and_numbers(shown)
    assert words == shown_words
    assert numbers == pytest.approx(shown_numbers, rel=5e-3)


@pytest.mark.parametrize("command", EXAMPLES)
def test_example_runs(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(command) == 0, capsys.readouterr().err
    assert capsys.readouterr().out.strip()


def test_first_commands_are_those_that_ci_runs() -> None:
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for command in ("pip install . && provision plan --workload coding --slo p99", "pip install '.[test]' && pytest"):
        assert command in README
        assert command.replace("pip install", "pip install --quiet") in ci

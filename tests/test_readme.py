"""The README's commands run; ``docs/test_outputs.py`` compares what it shows."""

import re
import shlex
from pathlib import Path

import pytest

from provisioner.cli import main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
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

"""Commands that pages list without their output run; ``docs/test_outputs.py`` compares the outputs that are shown."""

import re
from pathlib import Path

import pytest

from tests.docs.test_outputs import run

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = (ROOT / "README.md", ROOT / "docs/how-to/plan.md", ROOT / "docs/how-to/simulate.md")
EXAMPLES = [
    command.split("#")[0].strip()
    for page in PAGES
    for block in re.findall(r"```\n(provision .*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    for line in block.splitlines()
    for command in line.split("#")[0].split(";")
]


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


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150

"""The README: its first commands are those that CI runs, and it is short."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_first_commands_are_those_that_ci_runs() -> None:
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    for command in ("pip install . && provision plan --workload coding --slo p99", "pip install '.[test]' && pytest"):
        assert command in README
        assert command.replace("pip install", "pip install --quiet") in ci


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150

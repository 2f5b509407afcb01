"""Commands that pages list without their output run; ``docs/test_outputs.py`` compares the outputs that are shown."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from docs.refresh_outputs import PAGES, shown
from tests.cli.conftest import Run
from tests.cli.test_catalog_commands import EVERY
from tests.docs.cli_page import examples

ELSEWHERE = {place.command for page in PAGES for place in shown(page)} | {
    " ".join(("provision", *arguments)) for arguments in EVERY
}
"""Commands that run where their output is compared with a page, or with the other commands of the catalogue."""

NEEDS = re.compile(
    r"\.\.\.|config\.json|run-\*\.json|--specs own|m-large|--dask|^provision profile|reproduce \w+ --seeds"
)
"""Commands that need a file or a machine of the reader's, or an hour."""


def listed(page: Path) -> list[str]:
    """Commands in a page's blocks of code, without comments."""
    blocks = re.findall(r"^```\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [line.split("#")[0] for block in blocks for line in block.splitlines() if line.startswith("provision ")]
    return [command.strip() for line in lines for command in line.split(";")]


COMMANDS = sorted(
    {
        command
        for command in [
            *(command for page in PAGES if page.parent.name != "reference" for command in listed(page)),
            *examples(),
        ]
        if command not in ELSEWHERE and not NEEDS.search(command)
    }
)


def cheaper(arguments: list[str]) -> list[str]:
    """Options that leave less work: formulas in place of the proof, one machine type and TP, and few requests."""
    command, *options = arguments
    given = {option.split("=")[0] for option in options}
    added: list[str] = []
    judged = {"--policy", "--batch-tokens", "--attainment", "--survive"}
    simulated = bool(given & judged) or any(option.startswith("--gap-") for option in given)
    if command in ("plan", "compare") and "--fast" not in given and not simulated:
        added.append("--fast")
    if command == "plan":
        added += ["--rate", "20", "--duration", "60s"] if simulated else []
        added += [] if given & {"--tp", "--max-cost"} else ["--tp", "8"]
        chosen = given & {"--machine", "--design", "--stock", "--power-caps", "--max-cost", "--instances"}
        added += [] if chosen else ["--machine", "dgx-h100"]
    if command == "compare" and "--design" not in given:
        added += ["--design", "splitwise-hh", "--design", "baseline-h100"]
    if command == "simulate" and not given & {"--rates", "--in-flight"}:
        added += ["--duration", "40s" if "--fail" in given else "2s"]
    return added


@pytest.mark.parametrize("command", COMMANDS)
def test_example_runs(provision: Run, command: str) -> None:
    arguments = shlex.split(command)[1:]
    ended = provision(*arguments, *cheaper(arguments))
    assert ended.code == 0, ended.err
    assert ended.out.strip()
    said = ("compiling", "comparing", "planning", "simulating", "sweeping", "writing")
    assert all(line.startswith(said) for line in ended.err.splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("command", [command for command in COMMANDS if cheaper(shlex.split(command)[1:])])
def test_example_runs_as_it_is_typed(provision: Run, command: str) -> None:
    ended = provision(*shlex.split(command)[1:])
    assert ended.code == 0, ended.err
    assert ended.out.strip()


def test_the_examples_are_found() -> None:
    assert {"plan", "simulate", "compare"} <= {command.split()[1] for command in COMMANDS}
    assert len(COMMANDS) > 20

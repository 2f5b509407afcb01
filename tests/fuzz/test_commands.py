"""Two thousand command lines drawn by a seed, in one process: none ends in a way in which no command may end.

All values that options have to refuse are tried as well.
``FUZZ_SEED`` draws others, ``FUZZ_CASES`` more or fewer of each command.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.cases import BASES, Case, case, parameters, refusals, shell_text
from tests.fuzz.faults import contents, faults_of_end, faults_of_files, has_result
from tests.fuzz.files import make_all
from tests.fuzz.worker import Worker

pytestmark = pytest.mark.fuzz

SEED = int(os.environ.get("FUZZ_SEED", "0"))
CASES = int(os.environ.get("FUZZ_CASES", "125"))
SHARD = 25


@pytest.fixture(scope="session")
def worker() -> Iterator[Worker]:
    started = Worker()
    yield started
    started.stop()


def failed(case: Case, folder: Path, worker: Worker) -> list[str]:
    """The faults of a case, each with its seed and its command line."""
    folder.mkdir()
    names = make_all(folder, case.arguments)
    before = contents(folder)
    ended = worker.run(case.arguments, folder)
    code = 0 if has_result(ended) else ended.code
    faults = [*faults_of_end(ended, case.arguments, case.must_fail), *faults_of_files(before, folder, code)]
    shutil.rmtree(folder)
    made = f"python -m tests.fuzz.files . {' '.join(map(shell_text, sorted(names)))}\n    " if names else ""
    return [f"seed {case.seed}, case {case.number}: {fault}\n    {made}{case.line}" for fault in faults]


@pytest.mark.parametrize("start", range(0, CASES, SHARD))
@pytest.mark.parametrize("name", parameters())
def test_commands_end_as_commands_may(name: str, start: int, worker: Worker, tmp_path: Path) -> None:
    faults = []
    for number in range(start, min(start + SHARD, CASES)):
        faults += failed(case(name, SEED, number), tmp_path / str(number), worker)
    assert not faults, "\n".join([f"{len(faults)} faults", *faults])


@pytest.mark.parametrize("name", parameters())
def test_wrong_values_are_refused(name: str, worker: Worker, tmp_path: Path) -> None:
    faults = []
    for each in refusals(name):
        faults += failed(each, tmp_path / str(each.number), worker)
    assert not faults, "\n".join([f"{len(faults)} faults", *faults])


def test_questions_to_which_cases_add_are_answered(worker: Worker, tmp_path: Path) -> None:
    for number, (name, line) in enumerate((name, line) for name, lines in BASES.items() for line in lines):
        folder = tmp_path / str(number)
        folder.mkdir()
        make_all(folder, line.split())
        ended = worker.run([*name.split(), *line.split()], folder)
        no_device = name == "profile" and "needs PyTorch" in ended.err
        assert ended.code == 0 or no_device, f"provision {name} {line}: {ended.err}"


def test_every_command_is_tried_often_enough() -> None:
    assert CASES >= 50 and CASES * len(parameters()) >= 2000


def test_a_command_that_does_not_end_is_a_fault(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "slo.yaml")  # that nobody writes to
    monkeypatch.setattr("tests.fuzz.worker.MOST_S", 2.0)
    ended = worker.run(["plan", "--slo", "slo.yaml"], tmp_path)
    assert [fault[:4] for fault in faults_of_end(ended, (), False)] == ["hang"]
    monkeypatch.undo()
    assert worker.run(["machines"], tmp_path).code == 0

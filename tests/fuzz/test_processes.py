"""A hundred processes that are interrupted or killed at a moment drawn by a seed, and then run again.

Files are whole or absent after the first run, and as those of a run that nothing disturbed after the second one.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from tests.fuzz.cases import parameters
from tests.fuzz.faults import contents, faults_of_content, faults_of_end, faults_of_files
from tests.fuzz.files import make_all
from tests.fuzz.test_commands import SEED
from tests.fuzz.worker import MOST_S, ROOT, Ended
from tests.waiting import Clock

pytestmark = pytest.mark.fuzz

CASES: Final = int(os.environ.get("FUZZ_PROCESSES", "100"))
_SHARD: Final = 10
_MOMENTS_S: Final = (0.4, 3.5)

_H100: Final = "--machine dgx-h100 --tp 8"
QUESTIONS: Final = (
    "sweep --design splitwise-hh --prompt 1:8 --token 1:8 --rate 10 --duration 60 --threads 1 --out r.csv --out r.json",
    "sweep --vary rate=1:40:1 --design baseline-h100 --mixed 8 --duration 60 --threads 1 --out r.csv --out r.html",
    "reproduce --only fig-12 --seeds 1 --duration 5 --out r.csv --out r.json",
    "reproduce --only machines --only curves --only transfer --out r.csv --out all/",
    f"plan {_H100} --rate 20 --seeds 2 --duration 30 --slo p90 --out r.json --out r.html --write-lp p.lp",
    "simulate --design splitwise-hh --prompt 2 --token 1 --rate 8 --duration 600 --records q.csv --timeline t.png",
    f"compare --fast --same throughput --rate 5 {_H100} --out r.json --out all/",
    "capacity --design baseline-h100 --mixed 2 --slo p90 --seeds 1 --duration 60 --no-additions --out r.json",
    f"pareto --rate 5 --seeds 1 --duration 30 --slo p90 {_H100} --out r.csv --out r.svg",
    f"sensitivity --fast {_H100} --rate 5 --input rate --out r.json --out r.md",
    "workloads import trace.csv --out w.yaml",
    "models import config.json --name mine --out own2",
    "curves import points.csv --model llama2-70b --machine dgx-h100 --tp 8 --out new",
)
"""Questions of some seconds that write files."""


def _start(line: str, folder: Path, more: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "PYTHONUTF8": "1"}
    # the outputs lie beside the folder of the command, not in it
    out, err = (open(f"{folder}.{name}", "wb") for name in ("out", "err"))  # noqa: SIM115
    with out, err:
        command = [sys.executable, "-m", "provisioner", *line.split(), *more]
        return subprocess.Popen(command, cwd=folder, env=env, stdout=out, stderr=err, stdin=subprocess.DEVNULL)


def _end(process: subprocess.Popen[bytes], folder: Path, most_s: float) -> Ended:
    """The end of a process within a time; None as its code where it had to be killed."""
    code, clock = None, Clock(process.pid)
    while code is None and clock.seconds() <= most_s:
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(1.0)
    if code is None:
        process.kill()
        process.wait()
    out, err = (Path(f"{folder}.{name}").read_text("utf-8", "backslashreplace") for name in ("out", "err"))
    return Ended(code, out, err)


def _folder(top: Path, line: str) -> Path:
    folder = Path(tempfile.mkdtemp(dir=top))
    make_all(folder, line.split())
    return folder


@cache
def _undisturbed(line: str, top: Path) -> dict[str, bytes]:
    """The tables that a question writes when nothing disturbs it."""
    folder = _folder(top, line)
    ended = _end(_start(line, folder), folder, 2 * MOST_S)
    assert ended.code == 0, ended.err
    return {name: content for name, content in contents(folder).items() if name.endswith((".csv", ".yaml"))}


def _faults(line: str, chance: random.Random, top: Path) -> Iterator[str]:
    folder = _folder(top, line)
    before = contents(folder)
    sign = chance.choice((signal.SIGINT, signal.SIGKILL))
    process = _start(line, folder)
    after_s, clock = chance.uniform(*_MOMENTS_S), Clock(process.pid)
    while process.poll() is None and clock.seconds() < after_s:
        time.sleep(0.02)
    process.send_signal(sign)
    ended = _end(process, folder, MOST_S)
    told = f"{sign.name} after {after_s:.2f} s, exit code {ended.code}"
    if sign == signal.SIGINT and ended.code in (130, -signal.SIGINT):
        # Python ends itself by the signal where it came while texts were executed or at the very end; shells say 130
        if "Traceback" in ended.err or not (ended.out or re.search(r"^error: interrupted", ended.err, re.MULTILINE)):
            yield f"{told}: {ended.err[-900:]!r}, stdout {ended.out[-200:]!r}"
        yield from (f"{told}: {fault}" for fault in faults_of_files(before, folder, 0))
    elif ended.code == -signal.SIGKILL and sign == signal.SIGKILL:
        changed = {name: content for name, content in contents(folder).items() if before.get(name) != content}
        whole = {name: content for name, content in changed.items() if not Path(name).name.startswith(".")}
        for name, content in whole.items():
            yield from (f"{told}: {fault}" for fault in faults_of_content(name, content))
    else:
        yield from (f"{told}: {fault}" for fault in faults_of_end(ended, (), False))
    command = max((name for name in parameters() if line.startswith(name)), key=len)
    journal = any(path.suffix == ".journal" for path in folder.rglob("*"))
    more = ("--resume",) if any(each.flag == "--resume" for each in parameters()[command]) else ()
    ended = _end(_start(line, folder, more), folder, 2 * MOST_S)
    told = f"{told}, run again {'with its journal' if journal else ''}"
    yield from (f"{told}: {fault}" for fault in faults_of_end(ended, (), False))
    if ended.code != 0:
        yield f"{told}: exit code {ended.code}: {ended.err[-300:]}"
        return
    after = contents(folder)
    if left := [name for name in after if name.endswith(".journal")]:
        yield f"{told}: {left} are left"
    for name, content in _undisturbed(line, top).items():
        if name not in before and after.get(name) != content:
            yield f"{told}: {name} is not as without the interruption"


@pytest.mark.parametrize("start", range(0, CASES, _SHARD))
def test_processes_lose_nothing(start: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    top = tmp_path_factory.getbasetemp()
    faults = []
    for number in range(start, min(start + _SHARD, CASES)):
        chance = random.Random(f"processes/{SEED}/{number}")
        line = QUESTIONS[number % len(QUESTIONS)] if number < len(QUESTIONS) else chance.choice(QUESTIONS)
        told = f"seed {SEED}, process {number}"
        faults += [f"{told}: {fault}\n    provision {line}" for fault in _faults(line, chance, top)]
    assert not faults, "\n".join([f"{len(faults)} faults", *faults])

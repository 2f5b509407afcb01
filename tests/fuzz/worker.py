"""A process that runs command lines one after the other, and the handle on it that survives its crashes and hangs.

Both outputs go through the descriptors 1 and 2, so that compiled libraries are heard too. A line of JSON in asks for a
command, a line of JSON out says how it ended.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import resource
import select
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.waiting import Clock

ROOT: Final = Path(__file__).resolve().parents[2]
MOST_S: Final = 60.0
"""Time that a command may take, without the time in which others have the processors."""

_STACKS_S: Final = MOST_S - 5.0
_START_S: Final = 300.0  # with the compilation of the simulator
_WARM_UP: Final = ("simulate", "--design", "baseline-h100", "--mixed", "1", "--rate", "5", "--duration", "5")
_MEMORY_BYTES: Final = 6 << 30


@dataclass(frozen=True)
class Ended:
    """The end of a command: exit code (None: it had to be ended, a signal's number below 0), and its output."""

    code: int | None
    out: str
    err: str


class Worker:
    """A worker that is started when it is needed, and again after a crash or a hang."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = tempfile.TemporaryDirectory()

    def run(self, arguments: Sequence[str], folder: Path) -> Ended:
        """Run a command line in a folder."""
        process = self._started()
        if not self._asked(process, {"arguments": list(arguments), "folder": str(folder)}, MOST_S):
            hung = process.poll() is None
            self.stop()
            return Ended(None if hung else process.returncode, *self._outputs())
        return Ended(self._answer["code"], *self._outputs())

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.fuzz.worker", self._folder.name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100", "PYTHONUTF8": "1"},
            )
            assert self._asked(self._process, {"arguments": _WARM_UP, "folder": self._folder.name}, _START_S)
            assert self._answer["code"] == 0, self._outputs()
        return self._process

    def _asked(self, process: subprocess.Popen[bytes], question: dict[str, object], most_s: float) -> bool:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(question).encode() + b"\n")
        process.stdin.flush()
        clock = Clock(process.pid)
        while not select.select([process.stdout], [], [], 1.0)[0]:
            if clock.seconds() > most_s:
                return False
        line = process.stdout.readline()
        if not line:
            process.wait()
            return False
        self._answer = json.loads(line)
        return True

    def _outputs(self) -> tuple[str, str]:
        out, err = (Path(self._folder.name, name).read_bytes() for name in ("out", "err"))
        return out.decode("utf-8", "backslashreplace"), err.decode("utf-8", "backslashreplace")


def _serve(folder: Path) -> None:
    """Run the commands that come on stdin."""
    from provisioner.cli import main

    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("always", RuntimeWarning)
    answers = os.fdopen(os.dup(1), "w")
    files = [os.open(folder / name, os.O_RDWR | os.O_CREAT) for name in ("out", "err")]
    for number, file in enumerate(files, 1):
        os.dup2(file, number)
    faulthandler.enable(sys.stderr)
    for line in sys.stdin:
        asked = json.loads(line)
        for file in files:
            os.ftruncate(file, 0)
            os.lseek(file, 0, os.SEEK_SET)
        os.chdir(asked["folder"])
        faulthandler.dump_traceback_later(_STACKS_S, file=sys.stderr)
        code = 1
        with contextlib.suppress(SystemExit):
            code = main(asked["arguments"])
        faulthandler.cancel_dump_traceback_later()
        sys.stdout.flush()
        sys.stderr.flush()
        print(json.dumps({"code": code}), file=answers, flush=True)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]))

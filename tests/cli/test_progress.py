"""Progress of long work on stderr: a bar on a terminal of any width, lines elsewhere."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

import provisioner
from provisioner.cli import progress as cli_progress
from provisioner.cli.progress import Pace, line, on_stderr
from provisioner.progress import Step, worded

WORK = """
from provisioner.cli import progress
from provisioner.progress import Step

now_s = 0.0
progress.monotonic = lambda: now_s
with progress.on_stderr() as tell:
    for k in range(51):
        tell(Step(f"sweeping\\x1b[31m: {k} of 50 points of a design whose name finds no room here", k, 50))
        now_s += 0.0625
    tell("writing a\\nfile")
"""
INTERRUPTED = """
import sys
from provisioner import api
from provisioner.cli import main, progress as cli_progress
from provisioner.progress import Step

now_s = 0.0
cli_progress.monotonic = lambda: now_s

def simulate(_, progress):
    global now_s
    for k in range(30):
        progress(Step(f"simulating: {k} of 60", k, 60))
        now_s += 0.0625
    raise KeyboardInterrupt

api.simulate = simulate
sys.exit(main(["simulate"]))
"""


def on_a_terminal(script: str, columns: int = 80, **environment: str) -> tuple[int, str, str]:
    """Run a script whose stderr is a terminal: its exit code, its stdout, and what the terminal got."""
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = os.environ | {"PYTHONPATH": str(Path(provisioner.__file__).parents[1]), "TERM": "xterm"} | environment
    running = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=end, stdin=subprocess.DEVNULL, env=env
    )
    os.close(end)
    came = []
    while True:
        try:
            data = os.read(terminal, 4096)
        except OSError:  # the end of a terminal that nobody writes to
            break
        if not data:
            break
        came.append(data.decode())
    os.close(terminal)
    assert running.stdout is not None
    out = running.stdout.read().decode()
    return running.wait(timeout=30), out, "".join(came)


def screen(written: str, columns: int) -> list[str]:
    """The lines that a terminal shows, by carriage return, line feed, and the clearing of a line's rest alone."""
    lines, column = [""], 0
    for part in re.findall(r"\x1b\[K|\r|\n|[^\r\n\x1b]|\x1b", written):
        if part == "\x1b[K":
            lines[-1] = lines[-1][:column]
        elif part == "\r":
            column = 0
        elif part == "\n":
            lines.append("")
        else:
            assert part != "\x1b", "only clears lines"
            assert column < columns, "a line that is too long goes on in the next"
            lines[-1] = lines[-1][:column] + part + lines[-1][column + 1 :]
            column += 1
    return lines


@pytest.mark.parametrize(("columns", "size"), [(80, 20), (40, 13)])
def test_a_bar_appears_advances_and_is_cleared(columns: int, size: int) -> None:
    code, out, written = on_a_terminal(WORK, columns)
    assert (code, out) == (0, "")
    frames = [screen(written[: m.start()], columns) for m in re.finditer(r"\r(?=\x1b\[K)", written)][1:]
    bars = [re.match(r"\[(#*)(\.*)\] +(\d+) %", frame[0]) for frame in frames if frame[0].startswith("[")]
    assert len(bars) >= 5 and all(bars)
    assert bars[0] and bars[0][3] == "32", "nothing in the first second, in which 16 of 50 are done"
    full = [len(bar[1]) for bar in bars if bar]
    assert {len(bar[1] + bar[2]) for bar in bars if bar} == {size}
    assert full == sorted(full) and full[0] < full[-1]
    assert all(len(bar[1]) == int(bar[3]) * size // 100 for bar in bars if bar)
    unfinished = [frame[0] for frame in frames if frame[0].startswith("[") and " 100 %" not in frame[0]]
    assert all(re.search(r" %, \S+ (ms|s|min) left", shown) for shown in unfinished)
    if columns == 80:
        assert any("sweeping\\x1b[31m: " in frame[0] for frame in frames)
    assert screen(written, columns) == [""], "one line, and nothing left of it"


def test_an_interrupt_clears_the_bar_first() -> None:
    code, out, written = on_a_terminal(INTERRUPTED)
    assert (code, out) == (130, "")
    assert "[####" in written
    assert screen(written, 80) == ["error: interrupted", ""]


def test_a_terminal_that_cannot_clear_gets_lines() -> None:
    code, _, written = on_a_terminal(WORK, TERM="dumb")
    assert code == 0 and written.count("\n") == 1
    assert re.match(r"sweeping\\x1b\[31m: \d+ of 50 points", written) and "[#" not in written


def test_short_work_says_nothing_on_a_terminal() -> None:
    assert on_a_terminal(WORK.replace("0.0625", "0.0125"))[1:] == ("", "")


def test_it_is_told_after_a_second_and_every_five(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter([0.0, 0.5, 1.1, 3.0, 6.0, 6.2, 10.0])
    monkeypatch.setattr(cli_progress, "monotonic", lambda: next(now))
    with on_stderr() as tell:
        for text in ("early", "first", "too soon", "too soon", Step("next", 1, 2), "too soon"):
            tell(text)
    assert capsys.readouterr().err == "first\nnext\n"


class Full(io.StringIO):
    """A file on a disk without room."""

    def write(self, _: str) -> int:
        """Fail."""
        raise OSError(28, "No space left on device")


def test_no_stderr_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 100, 10))
    monkeypatch.setattr(cli_progress, "monotonic", lambda: float(next(now)))
    monkeypatch.setattr(sys, "stderr", None)
    with on_stderr() as tell:
        tell("anybody there?")
    monkeypatch.setattr(sys, "stderr", Full())
    with on_stderr() as tell:
        tell("anybody there?")


def test_time_left_is_that_of_the_pace() -> None:
    pace = Pace()
    assert pace.left_s("compiling", 0.0) is None
    assert pace.left_s(Step("a", 10, 100), 2.0) is None  # no pace yet: the first 10 may have been done before
    assert pace.left_s(Step("a", 30, 100), 6.0) == pytest.approx(14.0)  # 5 in a second, 70 left
    assert pace.left_s(Step("a", 30, 100, left_s=3.0), 6.0) is None  # the text says it
    assert pace.left_s(Step("a", 100, 100), 20.0) is None
    assert pace.left_s(Step("b", 0, 4), 21.0) is None  # another work
    assert pace.left_s(Step("b", 1, 4), 31.0) == pytest.approx(30.0)


@pytest.mark.parametrize("columns", [10, 25, 79, 200])
def test_lines_fit(columns: int) -> None:
    for text in ("short", "x" * 300, Step("y" * 300, 1, 3), Step("z", 3, 3), Step("w", 0, 0)):
        assert len(line(text, 3725.0, columns)) <= columns
    assert line(Step("12 of 10 points", 12, 10), None, 79) == f"[{'#' * 20}] 100 %  12 of 10 points"


def test_words_around_a_step_leave_it_one() -> None:
    step = worded(Step("3 of 4", 3, 4, 2.0), "sweeping: ", " points")
    assert isinstance(step, Step)
    assert (str(step), step.share, step.left_s) == ("sweeping: 3 of 4 points", 0.75, 2.0)
    assert type(worded("proving", "planning: ")) is str

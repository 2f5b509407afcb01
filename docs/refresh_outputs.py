"""Outputs of commands that pages show, and a script that renews them: ``python docs/refresh_outputs.py [PAGE...]``.

A command and its output are shown as ``<!-- output: provision ... -->`` and a block of code below it. A part of the
output is ``<!-- lines 1-15 of output: provision ... -->``. The tests compare both; those that begin with
``<!-- slow output:`` are compared with ``pytest -m slow`` only.
"""

from __future__ import annotations

import functools
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
_SHOWN = re.compile(
    r"(?P<head><!-- (?P<slow>slow )?(?:lines (?P<first>\d+)-(?P<last>\d+) of )?"
    r"output: (?P<command>provision .*?) -->\n```\n)(?P<text>.*?)(?=```)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Shown:
    """A command whose output a page shows, whole or from one line to another, the first line being 1."""

    command: str
    text: str
    first: int = 1
    last: int | None = None
    slow: bool = False

    def part(self, output: str) -> str:
        """The part of the command's output that is shown.

        >>> Shown("provision plan", "", first=2, last=3).part("a\\nb\\nc\\nd\\n")
        'b\\nc\\n'
        """
        return "".join(output.splitlines(keepends=True)[self.first - 1 : self.last])


def _of(match: re.Match[str]) -> Shown:
    first, last = match["first"], match["last"]
    return Shown(match["command"], match["text"], int(first or 1), int(last) if last else None, bool(match["slow"]))


def shown(page: Path) -> Iterator[Shown]:
    """Every output that a page shows."""
    return map(_of, _SHOWN.finditer(page.read_text(encoding="utf-8")))


@functools.cache
def _output(command: str) -> str:
    print(command, file=sys.stderr)
    done = subprocess.run(
        [sys.executable, "-m", "provisioner", *shlex.split(command)[1:]], capture_output=True, text=True, cwd=ROOT
    )
    if done.returncode:
        raise SystemExit(f"{command}\n{done.stderr}")
    return done.stdout


def refreshed(text: str) -> str:
    """A page's text with the outputs that its commands print now."""
    return _SHOWN.sub(lambda match: match["head"] + _of(match).part(_output(match["command"])), text)


if __name__ == "__main__":
    for page in [Path(name) for name in sys.argv[1:]] or PAGES:
        before = page.read_text(encoding="utf-8")
        after = refreshed(before)
        if after != before:
            page.write_text(after, encoding="utf-8")

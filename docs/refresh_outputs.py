"""Writes what the commands shown in the pages print now: ``python docs/refresh_outputs.py [PAGE...]``.

A command and its output are shown as ``<!-- output: provision ... -->`` and a block of code below it. The tests compare
them; ``<!-- slow output: ... -->`` is compared with ``pytest -m slow`` only.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHOWN = re.compile(r"<!-- (slow )?output: (provision .*?) -->\n```\n(.*?)```", re.DOTALL)


def pages() -> list[Path]:
    """The pages that show output."""
    return [page for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))) if SHOWN.search(_text(page))]


def _text(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def refreshed(text: str) -> str:
    """A page's text with what its commands print now."""

    def again(match: re.Match[str]) -> str:
        slow, command, _ = match.groups()
        print(command, file=sys.stderr)
        done = subprocess.run(
            [sys.executable, "-m", "provisioner", *shlex.split(command)[1:]], capture_output=True, text=True, cwd=ROOT
        )
        if done.returncode:
            raise SystemExit(f"{command}\n{done.stderr}")
        return f"<!-- {slow or ''}output: {command} -->\n```\n{done.stdout}```"

    return SHOWN.sub(again, text)


if __name__ == "__main__":
    for page in [Path(name) for name in sys.argv[1:]] or pages():
        page.write_text(refreshed(_text(page)), encoding="utf-8")

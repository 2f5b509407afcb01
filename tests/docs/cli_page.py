"""The parts of ``docs/reference/cli.md`` written by hand: examples, and tables of keys and columns."""

from __future__ import annotations

import re
from pathlib import Path

CLI_PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"


def section(title: str) -> str:
    """The text under a heading of the page."""
    return CLI_PAGE.read_text(encoding="utf-8").partition(f"## {title}\n")[2].partition("\n## ")[0]


def documented(title: str) -> list[str]:
    """The names in the first column of the table under a heading."""
    return re.findall(r"^\| `([^`]+)` \|", section(title), flags=re.MULTILINE)


def examples() -> list[str]:
    """The commands under "Examples"."""
    return re.findall(r"```\n(provision .*)\n```", section("Examples"))

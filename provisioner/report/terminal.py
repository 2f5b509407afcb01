"""A report as text: tables within 100 columns, styled for a terminal and plain for a pipe."""

from __future__ import annotations

import io
import textwrap
from typing import TYPE_CHECKING, Final

from provisioner.report.document import Block, Boxes, Code, Document, Facts, Folded, KeyNumbers, Notes, Table

if TYPE_CHECKING:
    from rich.console import Console

MAX_WIDTH: Final = 100
MIN_WIDTH: Final = 40
_INDENT: Final = "  "
_WORDS_WIDTH: Final = 11  # a column of words becomes no narrower than this
_UNBOUNDED: Final = 10_000


def render(document: Document, width: int = MAX_WIDTH, styled: bool = False) -> str:
    """The report as text of at most ``width`` columns (never below 40), with escape codes only if ``styled``."""
    from rich.console import Console

    width = max(width, MIN_WIDTH)
    text = io.StringIO()
    console = Console(
        file=text,
        width=_UNBOUNDED,  # every line is broken, and every table given its width, below
        force_terminal=styled,
        color_system="standard" if styled else None,
        legacy_windows=False,
        markup=False,
        emoji=False,
        highlight=False,
    )
    _print_lines(console, _wrap(document.headline, width), "bold")
    _print_lines(console, _wrap(document.subtitle, width))
    for block in document.blocks:
        console.print()
        _print_lines(console, _wrap(block.title, width), "bold")
        _print_block(console, block, width)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def _wrap(text: str, width: int, first: str = "", rest: str = "") -> list[str]:
    """Lines of a text; a number stays with its per cent sign."""
    glued = text.replace(" %", "\xa0%")
    lines = textwrap.wrap(glued, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
    return [line.replace("\xa0", " ") for line in lines]


def _print_lines(console: Console, lines: list[str], style: str = "") -> None:
    from rich.text import Text

    for line in lines:
        console.print(Text(line, style=style))


def _print_block(console: Console, block: Block, width: int) -> None:
    match block:
        case Table():
            _print_table(console, block, width)
        case Boxes():
            _print_table(console, block.table, width)
        case KeyNumbers():
            _print_facts(console, block.facts(), width)
        case Folded(text=text):
            _print_lines(console, _wrap(text, width, _INDENT, _INDENT))
        case Facts():
            _print_facts(console, block, width)
        case Notes(lines=lines, warning=warning):
            for line in lines:
                wrapped = _wrap(line, width, f"{_INDENT}- ", f"{_INDENT}  ")
                _print_lines(console, wrapped, "yellow" if warning else "")
        case Code(text=text):
            _print_lines(console, textwrap.indent(text, _INDENT).splitlines())


def _print_facts(console: Console, block: Facts, width: int) -> None:
    """Labels in a column of their own; a value that is too long goes on below itself."""
    from rich.text import Text

    column = max(len(label) for label, _ in block.rows) + len(_INDENT)
    hanging = len(_INDENT) + column
    for label, value in block.rows:
        first, *rest = _wrap(value, max(width - hanging, 20)) or [""]
        console.print(Text.assemble(_INDENT, (f"{label:{column}}", "dim"), first))
        _print_lines(console, [" " * hanging + line for line in rest])


def _print_table(console: Console, block: Table, width: int) -> None:
    from rich.box import Box
    from rich.measure import Measurement
    from rich.padding import Padding
    from rich.table import Table as Grid
    from rich.text import Text

    blank = "    "
    rule_below_header = Box("\n".join([blank, blank, " ── ", *[blank] * 5]))
    grid = Grid(
        box=rule_below_header,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        header_style="dim",
        border_style="dim",
    )
    for position, column in enumerate(block.columns):
        longest = max(len(cell) for cell in (column.header, *(row[position] for row in block.rows)))
        grid.add_column(
            Text(column.header),
            justify="right" if column.number else "left",
            no_wrap=not column.words,
            min_width=min(longest, _WORDS_WIDTH) if column.words else longest,
            overflow="fold",
        )
    for position, row in enumerate(block.rows):
        grid.add_row(*(Text(cell) for cell in row), style="bold" if position in block.strong else "")
    indented = Padding(grid, (0, 0, 0, len(_INDENT)), expand=False)
    # a table that cannot be narrow enough goes beyond the edge: a number that is cut would be another number
    needed = Measurement.get(console, console.options, indented).minimum
    console.print(indented, width=max(width, needed))

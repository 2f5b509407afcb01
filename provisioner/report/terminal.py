"""A report as text: tables within 100 columns, styled for a terminal and plain for a pipe."""

import io
import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from provisioner.report.document import Code, Document, Facts, Folded, Notes, Table
from provisioner.specs.units import printable

if TYPE_CHECKING:
    from rich.console import Console

MAX_WIDTH: Final = 100
MIN_WIDTH: Final = 40
_INDENT: Final = "  "
_WORDS_WIDTH: Final = 11  # a column of words becomes no narrower than this
_UNBOUNDED: Final = 10_000

Line = list[tuple[str, str]]  # texts side by side, each with its style


def render(document: Document, width: int = MAX_WIDTH, styled: bool = False) -> str:
    """The report as text of at most ``width`` columns (never below 40), with escape codes only if ``styled``."""
    from rich.console import Console
    from rich.text import Text

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
    for part in _parts(document, width):
        if isinstance(part, Table):
            _print_table(console, part, width)
        else:
            console.print(Text.assemble(*part))
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def _parts(document: Document, width: int) -> Iterator[Line | Table]:
    yield from _wrapped(document.headline, width, "bold")
    yield from _wrapped(document.subtitle, width)
    for block in document.plain():
        yield []
        yield from _wrapped(block.title, width, "bold")
        match block:
            case Table():
                yield block
            case Folded(text=text):
                yield from _wrapped(text, width, "", _INDENT, _INDENT)
            case Facts(rows=rows):
                column = max(len(label) for label, _ in rows) + len(_INDENT)
                hanging = len(_INDENT) + column  # a value that is too long goes on below itself
                for label, value in rows:
                    first, *rest = _wrapped(value, max(width - hanging, 20)) or [[]]
                    yield [(_INDENT, ""), (f"{printable(label):{column}}", "dim"), *first]
                    yield from ([(" " * hanging, ""), *line] for line in rest)
            case Notes(lines=lines, warning=warning):
                for line in lines:
                    yield from _wrapped(line, width, "yellow" if warning else "", f"{_INDENT}- ", f"{_INDENT}  ")
            case Code(text=text):
                yield from ([(line, "")] for line in textwrap.indent(printable(text), _INDENT).splitlines())


def _wrapped(text: str, width: int, style: str = "", first: str = "", rest: str = "") -> list[Line]:
    """Lines of a text; a number stays with its per cent sign."""
    glued = printable(text).replace(" %", "\xa0%")
    lines = textwrap.wrap(glued, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
    return [[(line.replace("\xa0", " "), style)] for line in lines]


def _print_table(console: "Console", block: Table, width: int) -> None:
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
            Text(printable(column.header)),
            justify="right" if column.number else "left",
            no_wrap=not column.words,
            min_width=min(longest, _WORDS_WIDTH) if column.words else longest,
            overflow="fold",
        )
    for position, row in enumerate(block.rows):
        grid.add_row(*(Text(printable(cell)) for cell in row), style="bold" if position in block.strong else "")
    indented = Padding(grid, (0, 0, 0, len(_INDENT)), expand=False)
    # a table that cannot be narrow enough goes beyond the edge: a number that is cut would be another number
    needed = Measurement.get(console, console.options, indented).minimum
    console.print(indented, width=max(width, needed))

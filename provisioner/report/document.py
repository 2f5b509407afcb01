"""What a report says, before it has a format: facts, tables and notes under their titles.

Built once from a result and drawn by ``terminal``, ``markdown`` and ``html``, so that all three say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its header with the unit, and what it holds.

    Numbers are set to the right; words may be broken over several lines, anything else stays on one.
    """

    header: str
    number: bool = False
    words: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """Labels with their values, one to a line."""

    title: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells under columns; ``strong`` are the positions of rows to stand out."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    strong: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Notes:
    """Sentences, one to a bullet; ``warning`` where they ask for attention."""

    title: str
    lines: tuple[str, ...]
    warning: bool = False


@dataclass(frozen=True, slots=True)
class Code:
    """Text to be copied as it is."""

    title: str
    text: str


Block = Facts | Table | Notes | Code


@dataclass(frozen=True, slots=True)
class Document:
    """A report: its headline, a line below it, and blocks in order."""

    headline: str
    subtitle: str
    blocks: tuple[Block, ...]


def table(title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]], strong: Sequence[int] = ()) -> Table:
    """A table without the columns that are empty in every row."""
    used = [k for k in range(len(columns)) if not rows or any(row[k] for row in rows)]
    return Table(
        title,
        tuple(columns[k] for k in used),
        tuple(tuple(row[k] for k in used) for row in rows),
        frozenset(strong),
    )


def listing(
    title: str,
    items: Sequence[T],
    columns: Sequence[tuple[Column, Callable[[T], str]]],
    strong: Callable[[T], bool] = lambda _: False,
) -> Table:
    """A table of one row per item, each column with the text of its cells; without the columns that are empty."""
    rows = [[text(item) for _, text in columns] for item in items]
    return table(title, [column for column, _ in columns], rows, [k for k, item in enumerate(items) if strong(item)])

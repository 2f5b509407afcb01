"""Reports before they have a format: facts, tables and notes under their titles.

Built once from a result and drawn by ``terminal``, ``markdown`` and ``page``, so that all say the same.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import TypeVar

from provisioner.results.cluster import Pool

K = TypeVar("K")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its header with the unit, and the kind of its cells.

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


@dataclass(frozen=True, slots=True)
class KeyNumber:
    """A number of the answer: its label, the number with its unit, and what else there is to say of it."""

    label: str
    value: str
    note: str = ""

    def fact(self) -> tuple[str, str]:
        """The label, and the number with its note in one line."""
        return self.label, f"{self.value}{' ' if self.note.startswith('(') else ', ' if self.note else ''}{self.note}"


@dataclass(frozen=True, slots=True)
class KeyNumbers:
    """The answer in a few numbers: a row of cards on a page, elsewhere facts."""

    rows: tuple[KeyNumber, ...]
    title: str = ""

    def facts(self) -> Facts:
        """The numbers as labels with their values."""
        return Facts(self.title, tuple(number.fact() for number in self.rows))


@dataclass(frozen=True, slots=True)
class Boxes:
    """The pools of a cluster as a table, which a page draws as boxes too: machines with the replicas in them."""

    table: Table
    pools: tuple[Pool, ...]

    @property
    def title(self) -> str:
        """The title of the table."""
        return self.table.title


@dataclass(frozen=True, slots=True)
class Folded:
    """Labels with their values that few will read: folded away on a page, elsewhere in one paragraph."""

    title: str
    rows: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        """All of them in one line."""
        return ", ".join(f"{label} {value}" for label, value in self.rows)


Block = Facts | KeyNumbers | Table | Notes | Code | Boxes | Folded


@dataclass(frozen=True, slots=True)
class Document:
    """A report: its headline, a line below it, and blocks in order."""

    headline: str
    subtitle: str
    blocks: tuple[Block, ...]

    def plain(self) -> list[Facts | Table | Notes | Code | Folded]:
        """The blocks, with cards as facts and boxes as their table."""
        facts = [block.facts() if isinstance(block, KeyNumbers) else block for block in self.blocks]
        return [block.table if isinstance(block, Boxes) else block for block in facts]


def table(title: str, columns: Sequence[Column], rows: Sequence[Sequence[str]], strong: Sequence[int] = ()) -> Table:
    """A table without the columns that are empty in every row."""
    used = [any(cells) for cells in zip(*rows, strict=True)] if rows else [True] * len(columns)
    kept = tuple(tuple(compress(row, used)) for row in rows)
    return Table(title, tuple(compress(columns, used)), kept, frozenset(strong))


def facts(title: str, *rows: tuple[str, str]) -> Facts:
    """Labels with their values, without those whose value is empty."""
    return Facts(title, tuple(row for row in rows if row[1]))


def notes(title: str, lines: Iterable[str], warning: bool = False) -> list[Block]:
    """Notes if there are any; empty lines are left out."""
    listed = tuple(filter(None, lines))
    return [Notes(title, listed, warning)] if listed else []


Rows = tuple[tuple[str, str], ...]


def asked(given: Rows, defaults: Rows, what: str, command: str) -> list[Block]:
    """The inputs of a question: those given, the others folded, and the command that repeats ``what`` it asked for."""
    folded = [Folded("Inputs left at their defaults", defaults)] if defaults else []
    columns = (Column("option"), Column("value", words=True))
    return [Table("Inputs", columns, given), *folded, Code(f"To repeat this {what}", command)]


def listing(
    title: str,
    items: Sequence[T],
    *columns: tuple[Column, Callable[[T], str]],
    strong: Callable[[T], bool] = lambda _: False,
) -> Table:
    """A table of one row per item, each column with the text of its cells; without the columns that are empty."""
    rows = [[text(item) for _, text in columns] for item in items]
    return table(title, [column for column, _ in columns], rows, [k for k, item in enumerate(items) if strong(item)])


def grouped(pairs: Iterable[tuple[K, T]]) -> dict[K, list[T]]:
    """The values of each key, in order.

    >>> grouped([("a", 1), ("b", 2), ("a", 3)])
    {'a': [1, 3], 'b': [2]}
    """
    groups: dict[K, list[T]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups

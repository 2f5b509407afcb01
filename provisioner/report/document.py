"""Reports before they have a format: facts, tables and notes under their titles.

Built once from a result and drawn by ``terminal``, ``markdown`` and ``html``, so that all three say the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

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
class PoolBoxes:
    """A pool of a cluster that is drawn: replicas of ``tensor_parallel`` GPUs, in boxes of whole machines."""

    role: str
    machine: str
    tensor_parallel: int
    replicas: int
    machines: int

    @property
    def letter(self) -> str:
        """The letter of the role, which stands beside its colour."""
        return self.role[:1].upper()

    @property
    def boxes(self) -> tuple[int, ...]:
        """Replicas in each machine that is drawn; a replica on several machines is drawn in each of them.

        >>> PoolBoxes("token", "dgx-h100", 4, 5, 3).boxes
        (2, 2, 1)
        """
        if self.replicas < self.machines:
            return (1,) * min(self.machines, MOST_BOXES)
        full, more = divmod(self.replicas, max(self.machines, 1))
        return tuple(full + (k < more) for k in range(min(self.machines, MOST_BOXES)))

    @property
    def more(self) -> int:
        """Machines that are not drawn."""
        return max(self.machines - MOST_BOXES, 0)

    def __str__(self) -> str:
        return f"{self.machines:,} {self.machine}, {self.replicas:,} replicas at TP {self.tensor_parallel}"


MOST_BOXES: Final = 48
"""Machines of a pool that are drawn one by one."""


@dataclass(frozen=True, slots=True)
class Boxes:
    """A cluster drawn as boxes, pool by pool; where nothing can be drawn, a table."""

    title: str
    pools: tuple[PoolBoxes, ...]

    def table(self) -> Table:
        """The pools as rows."""
        labels = ("machine", "machines", "replicas", "TP")
        columns = (Column("role"), *(Column(label, number=k > 0) for k, label in enumerate(labels)))
        rows = (
            (pool.role, pool.machine, f"{pool.machines:,}", f"{pool.replicas:,}", str(pool.tensor_parallel))
            for pool in self.pools
        )
        return Table(self.title, columns, tuple(rows))


Block = Facts | Table | Notes | Code | Boxes


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

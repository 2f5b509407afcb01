"""The parts of a view, and the blocks that the reports of all results share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from provisioner.report.chart import Chart
from provisioner.report.document import Block, Code, Column, Document, Facts, Notes, Table
from provisioner.report.tables import Row
from provisioner.results.result import Result

R = TypeVar("R", bound=Result)

# Of the versions, those of the program itself and of what runs it.
_PROGRAM: Final = ("provisioner", "python")


@dataclass(frozen=True, slots=True)
class View(Generic[R]):
    """The way in which results of one type are shown.

    ``document(result, inputs)`` is the report, with every input where asked for. ``charts`` are by name, the one that
    answers the question first. ``tables`` are by name, the main one first: what ``--out FILE.csv`` writes.
    """

    kind: type[R]
    document: Callable[[R, bool], Document]
    charts: Callable[[R], Mapping[str, Chart]]
    tables: Mapping[str, Callable[[R], Sequence[Row]]]


def closing(
    *,
    warnings: Sequence[str],
    sources: Sequence[str],
    method: Facts,
    question: Mapping[str, object] | None,
    command: str,
    what: str,
) -> list[Block]:
    """The end of every report: warnings, sources, method, and with a question the inputs to repeat it."""
    blocks: list[Block] = []
    if warnings:
        blocks.append(Notes("Warnings", tuple(warnings), warning=True))
    blocks += [Notes("Sources", tuple(sources)), method]
    if question is not None:
        rows = tuple((name, shown(value)) for name, value in question.items())
        blocks.append(Table("Inputs", (Column("option"), Column("value", words=True)), rows))
        blocks.append(Code(f"To repeat this {what}", command))
    return blocks


def method_facts(title: str, rows: Sequence[tuple[str, str]], versions: Mapping[str, str]) -> Facts:
    """Method of a result, with the versions of the program and its libraries; empty rows are left out."""
    program = [f"{name} {versions[name]}" for name in _PROGRAM if name in versions]
    libraries = [f"{name} {version}" for name, version in versions.items() if name not in _PROGRAM]
    listed = (*rows, ("program", ", ".join(program)), ("libraries", ", ".join(libraries)))
    return Facts(title, tuple(row for row in listed if row[1]))


def shown(value: object) -> str:
    """An option's value as text; "not given" for none."""
    if value is None or value in ((), {}, []):
        return "not given"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{name}={each}" for name, each in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return str(value)

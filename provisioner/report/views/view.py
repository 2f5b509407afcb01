"""The parts of a view, and the blocks that the reports of all results share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Generic, Protocol, TypeVar

from provisioner.options.base import Options
from provisioner.options.command import given_and_defaults
from provisioner.report.chart import Axis, BarChart, Bars, Chart, Rule
from provisioner.report.document import Block, Boxes, Code, Column, Document, Facts, Folded, Notes, Table, listing
from provisioner.report.numbers import NUMBERS, whole
from provisioner.report.tables import Row
from provisioner.results.cluster import Cluster, Pool
from provisioner.results.plan import LatencyFigure
from provisioner.results.result import Result
from provisioner.results.simulation import LatencyResult
from provisioner.specs.criteria import CRITERIA, ObjectiveName

T = TypeVar("T")
L = TypeVar("L", LatencyFigure, LatencyResult)
R = TypeVar("R", bound=Result)

# The versions of the program itself and of its interpreter.
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


class Answer(Protocol):
    """A result with what it rests on."""

    @property
    def kind(self) -> str:
        """The type of the result, as JSON names it."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """Remarks that a reader of the answer has to know."""

    @property
    def sources(self) -> tuple[str, ...]:
        """Data that the answer rests on."""

    @property
    def question(self) -> Mapping[str, object]:
        """The options by name."""

    @property
    def command(self) -> str:
        """The command that asks the same again."""


def closing(answer: Answer, method: Facts, options: type[Options], inputs: bool) -> list[Block]:
    """The end of every report: warnings, sources, method, and with ``inputs`` those and the command to repeat it.

    ``options`` is the class of the question's options: those given are listed, the others folded.
    """
    blocks: list[Block] = []
    if answer.warnings:
        blocks.append(Notes("Warnings", answer.warnings, warning=True))
    blocks += [Notes("Sources", answer.sources), method]
    if inputs:
        given, defaults = given_and_defaults(answer.question, options)
        blocks.append(Table("Inputs", (Column("option"), Column("value", words=True)), given))
        blocks += [Folded("Inputs left at their defaults", defaults)] if defaults else []
        blocks.append(Code(f"To repeat this {answer.kind}", answer.command))
    return blocks


def cluster_boxes(title: str, cluster: Cluster) -> Boxes:
    """A cluster, drawn pool by pool where that is possible."""
    columns: tuple[tuple[Column, Callable[[Pool], str]], ...] = (
        (Column("role"), lambda pool: pool.role),
        (Column("machine"), lambda pool: pool.machine),
        (Column("machines", True), lambda pool: whole(pool.machines)),
        (Column("replicas", True), lambda pool: whole(pool.replicas)),
        (Column("TP", True), lambda pool: whole(pool.tensor_parallel)),
    )
    return Boxes(listing(title, cluster.pools, columns), cluster.pools)


def criteria_columns(
    names: Iterable[ObjectiveName], of: Callable[[T, ObjectiveName], float | None]
) -> list[tuple[Column, Callable[[T], str]]]:
    """A column of a listing for each criterion, with the criterion's value ``of`` an item."""

    def cell(item: T, name: ObjectiveName) -> str:
        value = of(item, name)
        return "" if value is None else NUMBERS[name](value)

    headers = {name: "total" if name == "machines" else CRITERIA[name].shown_unit for name in names}
    return [(Column(header, True), partial(cell, name=name)) for name, header in headers.items()]


def latency_chart(
    how: str,
    case: str,
    latency: Sequence[L],
    *,
    beside_limit: Callable[[L], str],
    slowdown: Callable[[L], float],
    seconds: Callable[[L], str],
) -> BarChart:
    """Each percentile over its limit; without limits, over what the request takes alone on the reference."""
    limited = [each for each in latency if each.limit is not None]
    title = f"{how} latency over {'its limit' if limited else 'that of the same request alone'}: {case}"
    ratios = [each.over_limit for each in limited] if limited else [slowdown(each) for each in latency]
    notes = map(beside_limit, limited) if limited else map(seconds, latency)
    return BarChart(
        title,
        tuple(each.label for each in limited or latency),
        Axis("percentile over its limit (x)" if limited else "slowdown (x)", from_zero=True),
        (Bars("", tuple(None if ratio == -math.inf else ratio for ratio in ratios), tuple(notes)),),
        (Rule(1.0, "limit"),) if limited else (),
    )


def method_facts(title: str, rows: Sequence[tuple[str, str]], versions: Mapping[str, str]) -> Facts:
    """Method of a result, with the versions of the program and its libraries; empty rows are left out."""
    program = [f"{name} {versions[name]}" for name in _PROGRAM if name in versions]
    libraries = [f"{name} {version}" for name, version in versions.items() if name not in _PROGRAM]
    listed = (*rows, ("program", ", ".join(program)), ("libraries", ", ".join(libraries)))
    return Facts(title, tuple(row for row in listed if row[1]))

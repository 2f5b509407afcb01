"""The parts of a view, and the blocks that the reports of all results share."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Generic, TypeVar

from provisioner.options.base import Options
from provisioner.options.command import given_and_defaults
from provisioner.report.chart import Axis, BarChart, Bars, Chart, Rule, Values
from provisioner.report.document import (
    Block,
    Boxes,
    Code,
    Column,
    Document,
    Facts,
    Folded,
    KeyNumber,
    Notes,
    Table,
    listing,
    notes,
)
from provisioner.report.numbers import NUMBERS, whole
from provisioner.report.tables import Cell, Row
from provisioner.results.cluster import Cluster, Pool, Totals
from provisioner.results.plan import LatencyFigure
from provisioner.results.result import Result, ServingResult
from provisioner.results.simulation import LatencyResult
from provisioner.specs.criteria import CRITERIA, ObjectiveName
from provisioner.specs.slo import LatencyLimit
from provisioner.specs.units import format_cost, format_power

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


def closing(
    answer: ServingResult,
    method: Iterable[tuple[str, str]],
    options: type[Options],
    inputs: bool,
    how: str = "computed",
) -> list[Block]:
    """The end of every report: warnings, sources, method, and with ``inputs`` those and the command to repeat it.

    ``method`` has labels with their values; empty ones are left out, versions are added. ``options`` is the class of
    the question's options: those given are listed, the others folded.
    """
    program = (f"{name} {answer.versions[name]}" for name in _PROGRAM if name in answer.versions)
    libraries = (f"{name} {version}" for name, version in answer.versions.items() if name not in _PROGRAM)
    rows = (*method, ("program", ", ".join(program)), ("libraries", ", ".join(libraries)))
    facts = Facts(f"How this was {how}", tuple(row for row in rows if row[1]))
    blocks = [*notes("Warnings", answer.warnings, warning=True), Notes("Sources", answer.sources), facts]
    if inputs:
        given, defaults = given_and_defaults(answer.question, options)
        blocks.append(Table("Inputs", (Column("option"), Column("value", words=True)), given))
        blocks += [Folded("Inputs left at their defaults", defaults)] if defaults else []
        blocks.append(Code(f"To repeat this {type(answer).__name__.lower()}", answer.command))
    return blocks


POOL: Final[tuple[tuple[Column, Callable[[Pool], str]], ...]] = (
    (Column("role"), lambda pool: pool.role),
    (Column("machine"), lambda pool: pool.machine),
    (Column("machines", True), lambda pool: whole(pool.machines)),
    (Column("TP", True), lambda pool: whole(pool.tensor_parallel)),
)
"""The columns with which listings of pools begin."""


def cluster_boxes(title: str, cluster: Cluster) -> Boxes:
    """A cluster, drawn pool by pool where that is possible."""
    columns = (*POOL[:3], (Column("replicas", True), lambda pool: whole(pool.replicas)), POOL[3])
    return Boxes(listing(title, cluster.pools, *columns), cluster.pools)


def bounds(name: str, interval: tuple[float | None, float | None] | None) -> dict[str, Cell]:
    """The columns of an interval, NAME_low and NAME_high."""
    low, high = interval or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def limit_cells(limit: LatencyLimit | None) -> dict[str, Cell]:
    """The columns of a limit, which is of a ``limit_kind``."""
    return {"limit": None if limit is None else limit.value, "limit_kind": "" if limit is None else limit.kind}


def total_numbers(totals: Totals) -> tuple[KeyNumber, ...]:
    """Cost, power and machines of a cluster."""
    return (
        KeyNumber("cost", format_cost(totals.cost_usd_per_h)),
        KeyNumber("power", format_power(totals.power_w)),
        KeyNumber("machines", whole(totals.machines)),
    )


def total_cells(
    totals: Totals | None, names: Sequence[str] = ("cost_usd_per_h", "power_w", "machines")
) -> dict[str, Cell]:
    """The columns of totals, empty without any."""
    return {name: None if totals is None else getattr(totals, name) for name in names}


def criteria_columns(
    names: Iterable[ObjectiveName], of: Callable[[T, ObjectiveName], float | None]
) -> list[tuple[Column, Callable[[T], str]]]:
    """A column of a listing for each criterion, with the criterion's value ``of`` an item."""

    def cell(item: T, name: ObjectiveName) -> str:
        value = of(item, name)
        return "" if value is None else NUMBERS[name](value)

    headers = {name: "total" if name == "machines" else CRITERIA[name].shown_unit for name in names}
    return [(Column(header, True), partial(cell, name=name)) for name, header in headers.items()]


def scaled(name: ObjectiveName, values: Iterable[float | None]) -> Values:
    """Values of a criterion in the unit of its axis."""
    scale = CRITERIA[name].shown_scale
    return tuple(None if value is None else scale * value for value in values)


def latency_chart(
    how: str, case: str, latency: Sequence[L], slowdown: Callable[[L], float], note: Callable[[L], str]
) -> BarChart:
    """Each percentile over its limit; without limits, over what the request takes alone on the reference."""
    limited = [each for each in latency if each.limit is not None]
    title = f"{how} latency over {'its limit' if limited else 'that of the same request alone'}: {case}"
    ratios = [each.over_limit for each in limited] if limited else [slowdown(each) for each in latency]
    shown = limited or latency
    return BarChart(
        title,
        tuple(each.label for each in shown),
        Axis("percentile over its limit (x)" if limited else "slowdown (x)", from_zero=True),
        (Bars("", tuple(None if ratio == -math.inf else ratio for ratio in ratios), tuple(map(note, shown))),),
        (Rule(1.0, "limit"),) if limited else (),
    )

"""The parts of a view, and the blocks that the reports of all results share."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, TypeVar

from provisioner.options.base import Options
from provisioner.options.command import given_and_defaults
from provisioner.options.defaults import PAPER_POLICIES
from provisioner.report.chart import Axis, BarChart, Bars, Chart, Rule, Values
from provisioner.report.document import Block, Boxes, Column, Document, Facts, KeyNumber, Notes, asked, listing
from provisioner.report.numbers import NUMBERS, whole
from provisioner.report.tables import Cell, Row
from provisioner.results.cluster import Cluster, Pool
from provisioner.results.plan import LatencyFigure
from provisioner.results.result import Result, ServingResult
from provisioner.results.simulation import Attained, LatencyResult
from provisioner.specs.criteria import CRITERIA, ObjectiveName
from provisioner.specs.money import in_currency, monthly
from provisioner.specs.roles import RoleName
from provisioner.specs.slo import LatencyLimit
from provisioner.specs.units import format_monthly_cost

Item = Any  # type: ignore[explicit-any]  # plans and the like: their fields have the same names
L = TypeVar("L", LatencyFigure, LatencyResult)
R = TypeVar("R", bound=Result)
Tables = Mapping[str, Callable[[R], Sequence[Row]]]


@dataclass(frozen=True, slots=True)
class View(Generic[R]):
    """The way in which results of one type are shown.

    ``document(result, inputs)`` is the report, with every input where asked for. ``charts`` are by name, the one that
    answers the question first. ``tables`` are by name, the main one first: what ``--out FILE.csv`` writes.
    """

    kind: type[R]
    document: Callable[[R, bool], Document]
    charts: Callable[[R], Mapping[str, Chart]]
    tables: Tables[R]


def report(
    answer: ServingResult,
    headline: str,
    subtitle: str,
    blocks: Iterable[Block],
    method: Iterable[tuple[str, str]],
    options: type[Options],
    inputs: bool,
    how: str = "computed",
) -> Document:
    """The report of an answer: its blocks but for empty ones, then warnings, sources and method.

    ``inputs`` adds the options of the question, of the class ``options``, and the command to repeat it: those given are
    listed, the others folded. ``method`` has labels with their values; versions are added.
    """
    versions = {name: f"{name} {version}" for name, version in answer.versions.items()}
    program = [versions.pop(name) for name in ("provisioner", "python") if name in versions]
    context = f"{answer.context_tokens:,} tokens" if answer.context_tokens else ""
    asked_for = context and answer.question.get("context_tokens") is not None
    rows = (
        *method,
        ("engine", answer.engine),
        ("context", context if asked_for else context and f"{context}, the longest of the requests"),
        ("slowdowns", answer.reference and f"over the same request alone on {answer.reference}"),
        ("program", ", ".join(program)),
        ("libraries", ", ".join(versions.values())),
    )
    told = (*blocks, Notes("Warnings", answer.warnings, warning=True))
    shown = [block for block in told if getattr(block, "rows", True) and getattr(block, "lines", True)]
    shown += [Notes("Sources", answer.sources), Facts(f"How this was {how}", tuple(row for row in rows if row[1]))]
    if inputs:
        shown += asked(*given_and_defaults(answer.question, options), type(answer).__name__.lower(), answer.command)
    return Document(headline, subtitle, tuple(shown))


def over(answer: ServingResult) -> str:
    """The reference of the slowdowns below a title."""
    return f", slowdowns over {answer.reference} alone" if answer.reference else ""


def attainment_numbers(attained: Attained | None) -> list[KeyNumber]:
    """The share of requests within all limits at once, beside the one asked for; none without."""
    if attained is None:
        return []
    bound = "" if attained.at_least is None else f"lower bound {100.0 * attained.at_least:.4g} %, "
    share, asked = (f"{100.0 * each:.4g} %" for each in (attained.share.mean, attained.asked))
    return [KeyNumber("attainment", f"{share} of the requests", f"{bound}{asked} asked for")]


POOL: Final[tuple[tuple[Column, Callable[[Pool], str]], ...]] = (
    (Column("role"), lambda pool: pool.role),
    (Column("machine"), lambda pool: pool.machine),
    (Column("machines", True), lambda pool: whole(pool.machines)),
    (Column("TP", True), lambda pool: whole(pool.tensor_parallel)),
)
"""The columns with which listings of pools begin."""


def degrees(of: Callable[[Item], Cluster | None] = lambda item: item.cluster) -> tuple[Column, Callable[[Item], str]]:
    """The column of a listing with the tensor parallelism of the pools of the cluster ``of`` an item, if it has one."""

    def cell(item: Item) -> str:
        cluster = of(item)
        return "" if cluster is None else cluster.degrees

    return Column("TP", True), cell


def degree_cells(cluster: Cluster | None) -> dict[str, Cell]:
    """The columns of a cluster's tensor parallelism by role: a number, or ``8+4`` if two machine types share one."""
    found: dict[RoleName, list[int]] = {}
    for pool in cluster.pools if cluster is not None else ():
        found.setdefault(pool.role, []).append(pool.tensor_parallel)
    joined = {role: each[0] if len(each) == 1 else "+".join(map(str, each)) for role, each in found.items()}
    return {f"{role}_tensor_parallel": each for role, each in joined.items()}


def scheduler(policy: str) -> tuple[tuple[str, str], ...]:
    """A line if a policy is the paper's, for the facts of an answer: one name and text, or none."""
    return (("scheduler", "the Splitwise paper's; no common engine schedules so"),) if policy in PAPER_POLICIES else ()


def cluster_boxes(title: str, cluster: Cluster) -> Boxes:
    """A cluster, drawn pool by pool where that is possible."""
    columns = (*POOL[:3], (Column("replicas", True), lambda pool: whole(pool.replicas)), POOL[3])
    return Boxes(listing(title, cluster.pools, *columns), cluster.pools)


def bounds(name: str, interval: tuple[float | None, float | None] | None) -> dict[str, Cell]:
    """The columns of an interval, NAME_low and NAME_high."""
    return dict(zip((f"{name}_low", f"{name}_high"), interval or (None, None), strict=True))


def limit_cells(limit: LatencyLimit | None) -> dict[str, Cell]:
    """The columns of a limit, which is of a ``limit_kind``."""
    return {"limit": None if limit is None else limit.value, "limit_kind": "" if limit is None else limit.kind}


def amount(name: ObjectiveName, plan: Item, note: str = "") -> KeyNumber:
    """The value of a criterion of a plan, or of totals; a cost with that of a month."""
    text = whole if name == "machines" else CRITERIA[name].amount
    of_month = format_monthly_cost(plan.of(name)) if name == "cost" else ""
    return KeyNumber(name, text(plan.of(name)), ", ".join(filter(None, (of_month, note))))


def total_cells(totals: object) -> dict[str, Cell]:
    """The columns of a plan's totals, empty without a plan."""
    names = ("machines", "cost_usd_per_h", "cost_usd_per_month", "power_w")
    return {name: getattr(totals, name, None) for name in names}


def criteria_columns(
    names: Iterable[ObjectiveName],
    of: Callable[[Item], object] = lambda item: item,
    more: str = "",
    machines: str = "total",
    of_month: bool = False,
) -> list[tuple[Column, Callable[[Item], str]]]:
    """A column of a listing for each criterion, with its value in the plan or the totals ``of`` an item, if it has any.

    ``more`` is added to the headers; ``machines`` is that of the machines. ``of_month`` adds a month's cost to costs.
    """

    def cell(item: Item, name: ObjectiveName) -> str:
        value = getattr(of(item), CRITERIA[name].field, None)
        return "" if value is None else NUMBERS[name](value)

    def cell_of_month(item: Item) -> str:
        value = getattr(of(item), CRITERIA["cost"].field, None)
        return "" if value is None else f"{monthly(value):,.0f}"

    columns: list[tuple[Column, Callable[[Item], str]]] = []
    for name in names:
        header = machines if name == "machines" else CRITERIA[name].shown_unit
        columns.append((Column(f"{header}{more}", True), partial(cell, name=name)))
        if of_month and name == "cost":
            columns.append((Column(f"{in_currency('$/month')}{more}", True), cell_of_month))
    return columns


def scaled(name: ObjectiveName, plans: Iterable[Item]) -> Values:
    """A criterion of plans in the unit of its axis; None without a plan."""
    scale = CRITERIA[name].shown_scale
    return tuple(None if (value := plan.of(name)) is None else scale * value for plan in plans)


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

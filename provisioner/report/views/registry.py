"""The views of all types of results: a new type is a value, a view and a row in ``VIEWS``."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from provisioner.errors import UnknownNameError
from provisioner.report.chart import Chart
from provisioner.report.document import Document
from provisioner.report.tables import Row
from provisioner.report.views import capacity, comparison, frontier, grid, plan, reproduction, sensitivity, simulation
from provisioner.report.views.view import View
from provisioner.results.result import Result
from provisioner.specs.money import in_currency, shown_in

AnyView = View[Any]  # type: ignore[explicit-any]  # the registry holds views of all types of results

VIEWS: Final[tuple[AnyView, ...]] = (
    capacity.VIEW,
    comparison.VIEW,
    frontier.VIEW,
    grid.VIEW,
    plan.VIEW,
    reproduction.VIEW,
    sensitivity.VIEW,
    simulation.VIEW,
)


def view_of(result: Result) -> AnyView:
    """Return the view of a result."""
    return next(view for view in VIEWS if isinstance(result, view.kind))


def document(result: Result, inputs: bool = False) -> Document:
    """Return the report of a result."""
    with shown_in(result.currency):
        return view_of(result).document(result, inputs)


def charts(result: Result) -> Mapping[str, Chart]:
    """Return the charts of a result by name."""
    with shown_in(result.currency):
        return view_of(result).charts(result)


def rows(result: Result, table: str | None = None) -> Sequence[Row]:
    """Return the rows of a table of a result, the main one without a name."""
    of = view_of(result).tables[table_names(type(result), table)[0]]
    with shown_in(result.currency):
        return [{in_currency(name): cell for name, cell in row.items()} for row in of(result)]


def table_names(kind: type[Result], first: str | None = None) -> tuple[str, ...]:
    """Return the names of the tables of a type of result: one ``first``, by default the main one.

    ``UnknownNameError`` for a name that is not of a table.
    """
    names = tuple(next(view for view in VIEWS if issubclass(kind, view.kind)).tables)
    if first is None:
        return names
    if first not in names:
        raise UnknownNameError("table", first, names)
    return (first, *(name for name in names if name != first))

"""The far side of the door in ``results.result``: every result is shown by the view of its type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from provisioner.errors import UnknownNameError
from provisioner.report.document import Document
from provisioner.report.serialiser import to_json
from provisioner.report.tables import Row, frame
from provisioner.report.views import simulation
from provisioner.report.views.view import View

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from provisioner.report.chart import Chart
    from provisioner.results.result import Result

VIEWS: Final[tuple[View[Any], ...]] = (simulation.VIEW,)
"""The view of every type of result: a new type is a value, a view and a row here."""


def view_of(result: Result) -> View[Any]:
    """Return the view of a result."""
    return next(view for view in VIEWS if isinstance(result, view.kind))


def document(result: Result, inputs: bool = False) -> Document:
    """Return the report of a result."""
    return view_of(result).document(result, inputs)


def charts(result: Result) -> Mapping[str, Chart]:
    """Return the charts of a result by name."""
    return view_of(result).charts(result)


def rows(result: Result, table: str | None = None) -> Sequence[Row]:
    """Return the rows of a table of a result, the main one without a name."""
    tables = view_of(result).tables
    name = next(iter(tables)) if table is None else table
    if name not in tables:
        raise UnknownNameError("table", name, tables)
    return tables[name](result)


class Shown:
    """What results reach through their door; see ``results.result.Reports``."""

    def to_json(self, result: Result) -> str:
        """Return the result as JSON of the published schema."""
        return to_json(result)

    def to_frame(self, result: Result, table: str | None) -> pd.DataFrame:
        """Return a table of the result by name, or its main table."""
        return frame(rows(result, table))

    def html(self, result: Result) -> str:
        """Return the result as HTML that a notebook shows, without network access."""
        from provisioner.report.html import html

        return html(document(result))

    def markdown(self, result: Result) -> str:
        """Return the report as markdown, with every input."""
        from provisioner.report.markdown import markdown

        return markdown(document(result, inputs=True))

    def chart(self, result: Result, name: str | None, axes: object = None) -> object:
        """Return a chart of the result by name, or its first; ``axes`` of matplotlib are refused."""
        from provisioner.report.charts import plotted

        drawn = charts(result)
        if name is not None and not isinstance(name, str):  # the axes were the first parameter in 0.1
            name, axes = None, name
        if name is not None and name not in drawn:
            raise UnknownNameError("chart", name, drawn)
        return plotted(drawn[next(iter(drawn)) if name is None else name], axes)

    def save(self, result: Result, path: str) -> None:
        """Write the result in the format of the path's ending."""
        from provisioner.report.files import check_outputs, write_outputs

        write_outputs(result, check_outputs([path], kind=type(result)))

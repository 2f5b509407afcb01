"""The far side of the door in ``results.result``: every result is shown by the view of its type."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from provisioner.errors import InputError, UnknownNameError
from provisioner.report import files, page, serialiser, tables
from provisioner.report.markdown import markdown as as_markdown
from provisioner.report.views.registry import charts, document, rows
from provisioner.results.result import Result

if TYPE_CHECKING:
    import pandas as pd

to_json = serialiser.to_json
check = files.check_outputs


def to_frame(result: Result, table: str | None) -> "pd.DataFrame":
    """Return a table of the result by name, or its main table."""
    return tables.frame(rows(result, table))


def html(result: Result) -> str:
    """Return the result as HTML that a notebook shows, without network access."""
    return page.html(document(result))


def markdown(result: Result) -> str:
    """Return the report as markdown, with every input."""
    return as_markdown(document(result, inputs=True))


def chart(result: Result, name: str | None, axes: object) -> object:
    """Return a chart of the result by name, or its first; ``axes`` of matplotlib are refused."""
    from provisioner.report.charts import altair_chart

    drawn = charts(result)
    if axes is not None or not isinstance(name, str | None):  # the axes were the first parameter in 0.1
        raise InputError("plot(axes=...): charts are Altair's since 0.2; use plot() and its save()")
    if name is not None and name not in drawn:
        raise UnknownNameError("chart", name, drawn)
    if not drawn:
        raise InputError("this result has no chart")
    return altair_chart(drawn[next(iter(drawn)) if name is None else name])


def save(result: Result, paths: Sequence[str], table: str | None) -> None:
    """Write the result to all files or to none, each in the format of its ending."""
    files.write_outputs(result, check(paths, type(result), table), table)

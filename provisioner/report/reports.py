"""The far side of the door in ``results.result``: every result is shown by the view of its type."""

from __future__ import annotations

from typing import TYPE_CHECKING

from provisioner.errors import InputError, UnknownNameError
from provisioner.report.files import check_outputs, write_outputs
from provisioner.report.markdown import markdown
from provisioner.report.page import html
from provisioner.report.serialiser import to_json
from provisioner.report.tables import frame
from provisioner.report.views.registry import charts, document, rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from provisioner.results.result import Result


class Shown:
    """The services behind the door of results; see ``results.result``."""

    def to_json(self, result: Result) -> str:
        """Return the result as JSON of the published schema."""
        return to_json(result)

    def to_frame(self, result: Result, table: str | None) -> pd.DataFrame:
        """Return a table of the result by name, or its main table."""
        return frame(rows(result, table))

    def html(self, result: Result) -> str:
        """Return the result as HTML that a notebook shows, without network access."""
        return html(document(result))

    def markdown(self, result: Result) -> str:
        """Return the report as markdown, with every input."""
        return markdown(document(result, inputs=True))

    def chart(self, result: Result, name: str | None, axes: object = None) -> object:
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

    def check(self, kind: type[Result], paths: Sequence[str], table: str | None) -> None:
        """Refuse files that a result of this kind cannot be written to."""
        check_outputs(paths, kind, table)

    def save(self, result: Result, paths: Sequence[str], table: str | None) -> None:
        """Write the result to all files or to none, each in the format of its ending."""
        write_outputs(result, check_outputs(paths, type(result), table), table)

"""What the results of all studies have alike: a report and pictures, and how a notebook and a terminal show them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from provisioner.report.chart import Chart
    from provisioner.report.charts import OfflineChart
    from provisioner.report.document import Document


class StudyResult(ABC):
    """The result of a study: rows, plain values, a report and pictures; every file is written from one of them.

    As text it is the report in markdown, in a notebook the report in HTML.
    """

    __slots__ = ()

    @abstractmethod
    def to_frame(self) -> pd.DataFrame:
        """Its rows, as a pandas DataFrame."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values: what ``--json`` prints."""

    @abstractmethod
    def document(self) -> Document:
        """The report with every input."""

    @abstractmethod
    def charts(self) -> tuple[Chart, ...]:
        """The pictures, the one that answers the question first."""

    def plot(self, axes: object = None) -> OfflineChart:
        """Return the first of the charts as one of Altair, which a notebook shows without a network."""
        from provisioner.report.charts import plotted

        return plotted(self.charts()[0], axes)

    def __str__(self) -> str:
        from provisioner.report.markdown import markdown

        return markdown(self.document())

    def _repr_html_(self) -> str:
        from provisioner.report.html import html

        return html(self._shown())

    def _shown(self) -> Document:
        """The report as a notebook shows it."""
        return self.document()

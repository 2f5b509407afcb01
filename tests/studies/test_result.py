"""Behaviour that the results of all studies share."""

from __future__ import annotations

import dataclasses
import pickle
from typing import Any

import pandas as pd
import pytest

from provisioner.errors import InputError
from provisioner.options import SimulateOptions
from provisioner.report.chart import Axis, Chart, LineChart, Series
from provisioner.report.document import Document, Notes
from provisioner.report.files import offered
from provisioner.studies.compare import Comparison
from provisioner.studies.grid import sweep, vary
from provisioner.studies.pareto import Frontier
from provisioner.studies.result import StudyResult

KINDS = (Comparison, Frontier)


@dataclasses.dataclass(frozen=True, slots=True)
class Counted(StudyResult):
    """A result of one number."""

    number: int

    def to_frame(self) -> pd.DataFrame:
        return pd.DataFrame({"number": [self.number]})

    def to_dict(self) -> dict[str, Any]:
        return {"number": self.number}

    def document(self) -> Document:
        return Document(f"Counted <{self.number}>", "to the end", (Notes("Sources", ("fingers",)),))

    def charts(self) -> tuple[Chart, ...]:
        series = (Series("numbers", (1.0, 2.0), (1.0, float(self.number))),)
        return tuple(LineChart(title, Axis("x"), Axis("y"), series) for title in ("first", "second"))


@pytest.mark.parametrize("kind", [*KINDS, Counted])
def test_every_result_is_made_the_same_way(kind: type[StudyResult]) -> None:
    assert issubclass(kind, StudyResult)
    assert kind.__dictoffset__ == 0, "an instance has a dictionary: a class above it is without slots"
    assert not {"plot", "__str__", "_repr_html_"} & set(vars(kind))
    assert not getattr(kind, "__abstractmethods__", ()), "it cannot be made"
    assert offered(kind) == (".csv", ".md", ".json", ".parquet", ".html", ".png", ".svg", ".pdf")


def test_a_result_without_a_report_cannot_be_made() -> None:
    class Silent(StudyResult):
        __slots__ = ()

    with pytest.raises(TypeError, match=r"charts.*document.*to_dict.*to_frame"):
        Silent()  # type: ignore[abstract]


def test_text_is_markdown_and_a_notebook_shows_html() -> None:
    found = Counted(7)
    assert str(found).splitlines()[0] == "# Counted <7>"
    assert "- fingers" in str(found).splitlines()
    assert "Counted &lt;7&gt;" in found._repr_html_() and "<li>fingers</li>" in found._repr_html_()
    assert repr(found) == "Counted(number=7)"


def test_the_first_chart_is_drawn_and_axes_are_refused() -> None:
    spec = Counted(3).plot().to_dict()
    assert spec["title"]["text"] == ["first"]
    assert any([row.get("y") for row in rows] == [1.0, 3.0] for rows in spec["datasets"].values())
    with pytest.raises(InputError, match="use plot"):
        Counted(3).plot(object())


def test_results_are_values() -> None:
    found = Counted(7)
    assert pickle.loads(pickle.dumps(found)) == found != Counted(8)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.number = 8  # type: ignore[misc]


def test_sweeps_survive_pickling_and_show_less_in_a_notebook() -> None:
    options = SimulateOptions(design="baseline-h100", duration_s=5.0, rate_rps=5.0)
    sizes = sweep(options, mixed="2:3")
    inputs = vary(dataclasses.replace(options, mixed_machines=2), name="batch-tokens", values=[512, 2048])
    for found in (sizes, inputs):
        again = pickle.loads(pickle.dumps(found))
        assert type(again) is type(found) and again.to_dict() == found.to_dict() and str(again) == str(found)
        assert "To repeat this" in str(found) and "To repeat this" not in found._repr_html_()

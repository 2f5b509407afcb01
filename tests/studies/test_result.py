"""Behaviour that all results share."""

from __future__ import annotations

import dataclasses
import json
import pickle
from functools import cache

import pytest

from provisioner.api import sweep, vary
from provisioner.errors import InputError
from provisioner.options import SimulateOptions
from provisioner.report.views.registry import VIEWS, table_names
from provisioner.results.grid import Grid
from provisioner.results.result import Result, ServingResult

KINDS = [view.kind for view in VIEWS]


@cache
def grids() -> tuple[Grid, Grid]:
    options = SimulateOptions(design="baseline-h100", duration_s=5.0, rate_rps=5.0)
    inputs = dataclasses.replace(options, mixed_machines=2)
    return sweep(options, mixed="2:3"), vary(inputs, name="batch-tokens", values=[512, 2048])


@pytest.mark.parametrize("kind", KINDS)
def test_every_result_is_made_the_same_way(kind: type[Result]) -> None:
    assert issubclass(kind, Result)
    assert kind.__dictoffset__ == 0, "an instance has a dictionary: a class above it is without slots"
    shared = {name for name in vars(Result) if not name.startswith("__")} | {"__str__"}
    assert not shared & set(vars(kind)) - {"schema_version", "unanswered"}
    fields = {each.name: each for each in dataclasses.fields(kind)}
    assert {"kind", "question", "command", "seed", "versions", "sources"} <= set(fields)
    assert fields["kind"].default == kind.__name__.lower()
    assert table_names(kind)


def test_every_type_of_result_has_one_view() -> None:
    named = {kind.__name__ for base in (Result, ServingResult) for kind in base.__subclasses__()}
    assert sorted(kind.__name__ for kind in KINDS) == sorted(named - {"ServingResult"})


def test_text_is_markdown_and_a_notebook_shows_html() -> None:
    for grid in grids():
        text, html = str(grid), grid._repr_html_()
        assert text.startswith("# ") and "## Sources" in text and "To repeat this" in text
        assert html.startswith("<div") and "<h4>Sources</h4>" in html and "To repeat this" not in html


def test_the_first_chart_is_drawn_and_axes_are_refused() -> None:
    sizes, _ = grids()
    assert "layer" in sizes.plot().to_dict()  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="use plot"):
        sizes.plot(object())  # type: ignore[arg-type]


def test_results_are_values() -> None:
    for grid in grids():
        again = pickle.loads(pickle.dumps(grid))
        assert type(again) is type(grid) and again == grid and str(again) == str(grid)
        assert again.to_dict() == json.loads(grid.to_json())
        with pytest.raises(dataclasses.FrozenInstanceError):
            grid.seed = 8  # type: ignore[misc]

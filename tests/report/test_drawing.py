"""Charts as Vega-Lite: valid, with the numbers that were given, described, and readable without colour."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import vl_convert

from provisioner.errors import InputError
from provisioner.report.chart import Axis, BarChart, Bars, Chart, HeatMap, LineChart
from provisioner.report.chart_text import description, mark_texts, numbers_table
from provisioner.report.charts import altair_chart, charts_file, folded, page_spec, shared_rows
from provisioner.report.numbers import five_digits
from provisioner.report.theme import CELLS, CELLS_ABOVE, CELLS_BELOW, DARK, DASHES, LIGHT, PAGE, SHAPES
from provisioner.results.plan import Plan
from tests.report.charts import CHARTS, EVIL


def values_of(chart: Chart) -> list[float | None]:
    match chart:
        case LineChart():
            return [y for series in chart.series for y in series.y]
        case BarChart():
            return [value for bars in chart.bars for value in bars.values]
        case HeatMap():
            return [value for row in chart.values for value in row]


def drawn_rows(chart: Chart) -> list[dict[str, Any]]:
    """The records of the marks of a chart, in order."""
    tables = altair_chart(chart).to_dict()["datasets"].values()
    return next((list(rows) for rows in tables if "text" in rows[0] and len(rows) == len(values_of(chart))), [])


@pytest.mark.parametrize("name", CHARTS)
def test_every_chart_is_valid_and_holds_its_numbers(name: str) -> None:
    chart = CHARTS[name]
    spec = altair_chart(chart).to_dict()  # checked by the schema of Vega-Lite
    assert vl_convert.vegalite_to_vega(spec)["marks"]
    assert vl_convert.vegalite_to_vega(page_spec(chart))["marks"]
    json.dumps(spec, allow_nan=False)
    known = [value if value is not None and math.isfinite(value) else None for value in values_of(chart)]
    field = "y" if isinstance(chart, LineChart) else "value"
    if any(value is not None or given == math.inf for value, given in zip(known, values_of(chart), strict=True)):
        assert [row[field] for row in drawn_rows(chart)] == known
        assert [row["text"] for row in drawn_rows(chart)] == mark_texts(chart)
    else:
        assert "no values" in json.dumps(spec) or isinstance(chart, HeatMap)


@pytest.mark.parametrize("name", CHARTS)
def test_every_chart_says_its_numbers_in_words_and_as_a_table(name: str) -> None:
    chart = CHARTS[name]
    spec = altair_chart(chart).to_dict()
    assert spec["description"] == description(chart) == page_spec(chart)["description"]
    assert chart.title in spec["description"]
    cells = [cell.removesuffix(" *") for row in numbers_table(chart).rows for cell in row]
    for value, text in zip(values_of(chart), mark_texts(chart), strict=True):
        assert f": {five_digits(value)}" in text
        assert five_digits(value) in cells


def marks(spec: dict[str, Any], of: str) -> Iterator[dict[str, Any]]:
    for layer in spec["layer"]:
        kind = layer["mark"]["type"] if isinstance(layer["mark"], dict) else layer["mark"]
        if kind == of:
            yield layer["encoding"]


def test_curves_and_bars_differ_without_colour() -> None:
    curves, bars = altair_chart(CHARTS["twelve"]).to_dict(), altair_chart(CHARTS["groups"]).to_dict()
    for spec, mark, channels in (
        (curves, "line", ("strokeDash",)),
        (curves, "point", ("shape",)),
        (bars, "bar", ("strokeDash", "fillOpacity")),
    ):
        encoding = next(marks(spec, mark))
        for channel in channels:
            assert encoding[channel]["scale"]["domain"] == encoding["color"]["scale"]["domain"]
        ranges = [encoding[channel]["scale"]["range"] for channel in channels]
        looks = [json.dumps(look) for look in zip(*ranges, strict=True)]
        assert len(set(looks)) >= 7
    assert len(set(map(json.dumps, DASHES))) == len(DASHES) and len(set(SHAPES)) == len(SHAPES)


def test_dashes_do_not_cut_the_shapes_in_a_legend() -> None:
    for points in (True, False):
        encoding = next(marks(altair_chart(replace(CHARTS["twelve"], points=points)).to_dict(), "line"))
        assert {encoding[look]["legend"]["symbolStrokeWidth"] > 0 for look in ("color", "strokeDash")} == {not points}


def test_a_reason_that_is_too_long_for_its_chart_ends_in_dots() -> None:
    chart = BarChart("", ("a", "b"), Axis("cost ($/h)"), (Bars("", (1.0, None), ("", "no plan: " + 40 * "long ")),))
    drawn = [layer["mark"] for layer in altair_chart(chart).to_dict()["layer"]]
    assert {"expr": "width - 5"} in [mark.get("limit") for mark in drawn]


def test_values_are_read_under_the_pointer_and_by_a_reader() -> None:
    for name, mark in (("curves", "point"), ("steps", "point"), ("bars", "bar"), ("grid", "rect")):
        encoding = next(marks(altair_chart(CHARTS[name]).to_dict(), mark))
        assert encoding["tooltip"]["field"] == encoding["description"]["field"] == "text"


def test_a_large_map_stays_small() -> None:
    assert len(json.dumps(page_spec(CHARTS["grid"]))) < 400_000


def test_many_bars_are_folded_into_one_that_is_named() -> None:
    bars = Bars("", tuple(float(k) for k in range(80, 100)), ("note",) * 20)
    chart = BarChart("Costs", tuple(f"design {k}" for k in range(20)), Axis("cost ($/h)"), (bars,))
    assert folded(chart).groups[-1] == "and 9 more from 91"
    assert len(drawn_rows(folded(chart))) == 12
    assert "design 19: 99" in folded(chart).bars[0].notes[-1]
    assert len(numbers_table(chart).rows) == 20
    several = BarChart("Costs", chart.groups, chart.value, (bars, Bars("b", bars.values)))
    assert folded(several) is several


def test_bars_of_a_tornado_share_a_row() -> None:
    chart = CHARTS["tornado"]
    assert isinstance(chart, BarChart) and shared_rows(chart)
    assert "yOffset" not in next(marks(altair_chart(chart).to_dict(), "bar"))
    rows = drawn_rows(chart)
    assert [row["start"] for row in rows] == [523.44] * 8
    assert [row["end"] for row in rows[:4]] == [430.0, 500.0, 523.44, None]
    assert [row["side"] for row in rows[:3]] == ["left", "left", None]  # no number over the other bar of its row
    assert [row["side"] for row in rows[4:7]] == ["right"] * 3
    apart = BarChart("", ("a",), Axis("$/h"), (Bars("less", (110.0,)), Bars("more", (100.0,))), base=100.0)
    assert not shared_rows(apart)


def test_the_colours_of_cells_divide_at_a_limit_and_darken() -> None:
    color = next(marks(altair_chart(CHARTS["grid"]).to_dict(), "rect"))["color"]["scale"]
    assert color["range"] == [*CELLS_BELOW, *CELLS_ABOVE]
    assert color["domain"] == sorted(color["domain"]) and color["domain"][2] == 1.0 < color["domain"][3] < 1.0 + 1e-8
    for scale in (CELLS, (*CELLS_BELOW, *CELLS_ABOVE)):
        lights = [luminance(colour) for colour in scale]
        assert lights == sorted(lights, reverse=True)
    assert luminance(CELLS_BELOW[-1]) - luminance(CELLS_ABOVE[0]) > 0.15


def luminance(colour: str) -> float:
    """Relative luminance by WCAG 2.2: 0 for black, 1 for white."""
    channels = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
_BLINDNESS = {
    "protan": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deutan": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
}


def seen(colour: str, blindness: str) -> tuple[float, ...]:
    linear = [(int(colour[k : k + 2], 16) / 255) ** 2.2 for k in (1, 3, 5)]
    return tuple(
        max(sum(a * b for a, b in zip(row, linear, strict=True)), 0.0) ** (1 / 2.2) for row in _BLINDNESS[blindness]
    )


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_colours_are_apart_and_stand_out_from_the_page(theme: Any) -> None:
    for text in (theme.ink, theme.soft, theme.warn):
        assert contrast(text, theme.paper) > 4.5 and contrast(text, theme.box) > 4.5
    for colour in theme.series:
        assert contrast(colour, theme.paper) >= 3.0
    for blindness in _BLINDNESS:
        for one, other in combinations(theme.series, 2):
            assert math.dist(seen(one, blindness), seen(other, blindness)) > 0.12, (one, other, blindness)
    assert PAGE.variables().keys() == theme.variables().keys()


@pytest.mark.parametrize(("kind", "magic"), [("png", b"\x89PNG"), ("svg", b"<svg"), ("pdf", b"%PDF")])
def test_files_hold_all_charts_and_are_repeated(tmp_path: Path, kind: str, magic: bytes) -> None:
    charts = [CHARTS[name] for name in ("bars", "curves", "names", "no bars")]
    for name in "ab":
        charts_file(charts, kind)(str(tmp_path / name))
    content = (tmp_path / "a").read_bytes()
    assert content.startswith(magic)
    if kind != "pdf":  # its parts have no fixed order
        assert content == (tmp_path / "b").read_bytes()
    if kind == "svg":
        assert all(chart.title in content.decode() for chart in charts)


def test_a_notebook_shows_a_chart_without_scripts() -> None:
    shown = altair_chart(CHARTS["evil"])._repr_mimebundle_()
    assert list(shown) == ["image/svg+xml"]
    assert "<script" not in shown["image/svg+xml"] and "&lt;/script&gt;" in shown["image/svg+xml"]
    assert EVIL not in shown["image/svg+xml"]


def test_axes_are_refused_naming_what_replaces_them(plan: Plan) -> None:
    with pytest.raises(InputError, match=r"plot\(axes=\.\.\.\).*use plot\(\) and its save\(\)"):
        plan.plot(axes=object())


def test_nothing_loads_altair_but_drawing() -> None:
    code = (
        "import sys, provisioner, provisioner.report.files, provisioner.report.page, provisioner.report.timeline\n"
        "print({'altair', 'vl_convert', 'jinja2', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

"""Charts drawn by matplotlib: what is shown is what was given, nothing is cut, and no colour is needed to read it."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
import warnings
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from provisioner.report.chart import Axis, BarChart, Bars, HeatMap, LineChart, Rule, Series
from provisioner.report.draw import draw, edges, figure_file, figure_of
from provisioner.report.palette import ABOVE, BELOW, DARK, LIGHT, PLAIN, colour_at, ink_on, style
from provisioner.report.scales import scale, shades
from tests.report.charts import CHARTS

# Machado, Oliveira and Fernandes (2009), severity 1.0, on linear RGB: protanopia, deuteranopia, tritanopia.
_SEEN_AS = {
    "all": np.eye(3),
    "protan": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deutan": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritan": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def linear(colour: str) -> Any:
    rgb = np.array(to_rgb(colour))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: Any) -> Any:
    """CIE L*a*b* of linear RGB, D65."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ np.clip(rgb, 0, 1)
    f = [t ** (1 / 3) if t > 216 / 24389 else (24389 / 27 * t + 16) / 116 for t in xyz / [0.9505, 1.0, 1.089]]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(one: str, other: str) -> float:
    low, high = sorted(float(np.dot((0.2126, 0.7152, 0.0722), linear(colour))) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("seen_as", _SEEN_AS)
@pytest.mark.parametrize("colours", [LIGHT, DARK])
def test_colours_of_series_are_apart_for_the_colour_blind(colours: tuple[str, ...], seen_as: str) -> None:
    places = [lab(_SEEN_AS[seen_as] @ linear(colour)) for colour in colours]
    assert min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(places, 2)) > 12.0


def test_colours_of_series_stand_out_from_the_page() -> None:
    assert min(contrast(colour, "#ffffff") for colour in LIGHT) > 3.0
    assert min(contrast(colour, "#15181c") for colour in DARK) > 3.0


def test_series_differ_without_colour() -> None:
    looks = [style(k) for k in range(12)]
    assert len({look.mark for look in looks}) == 12
    assert len({look.dashes for look in looks[:7]}) == 7
    assert len({look.hatch for look in looks[:8]}) == len({look.strokes for look in looks[:8]}) == 8
    assert len({(look.dashes, look.light) for look in looks}) == 12


@pytest.mark.parametrize("divided", [False, True])
def test_cells_grow_darker_so_that_black_and_white_keeps_their_order(divided: bool) -> None:
    lightness = [float(lab(linear(colour_at(k / 100, divided)))[0]) for k in range(101)]
    assert all(a > b for a, b in itertools.pairwise(lightness))
    if divided:
        assert lightness[50] - lightness[51] > 12.0
    assert lightness[0] > 95 and lightness[-1] < 12
    assert {colour_at(0.0, True), colour_at(1.0, True), colour_at(0.0, False)} == {BELOW[0], ABOVE[-1], PLAIN[0]}
    assert min(contrast(ink_on(colour_at(k / 100, divided)), colour_at(k / 100, divided)) for k in range(101)) > 4.4


def shown_texts(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]


@pytest.mark.parametrize("name", CHARTS)
def test_nothing_is_cut_and_axis_labels_do_not_run_into_each_other(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "Glyph")
        figure = figure_of([CHARTS[name]])
        figure.canvas.draw()
    wide, high = figure.bbox.width, figure.bbox.height
    for text in shown_texts(figure):
        if text.get_window_extent().width and _is_drawn(text):
            box = text.get_window_extent()
            assert box.x0 > -3 and box.y0 > -3 and box.x1 < wide + 3 and box.y1 < high + 3, text.get_text()
    for axes in figure.axes:
        ticks = [label for label in axes.get_xticklabels() if _is_drawn(label) and not label.get_rotation()]
        boxes = sorted((label.get_window_extent() for label in ticks), key=lambda box: box.x0)
        assert all(a.x1 <= b.x0 for a, b in itertools.pairwise(boxes))


def _is_drawn(text: Text) -> bool:
    """Ticks beyond the ends of an axis exist and are not drawn."""
    axes = text.axes
    if axes is None or text not in [*axes.get_xticklabels(), *axes.get_yticklabels()]:
        return True
    (low, high), at = (
        (sorted(axes.get_xlim()), text.get_position()[0])
        if text in axes.get_xticklabels()
        else (sorted(axes.get_ylim()), text.get_position()[1])
    )
    return bool(text.get_text()) and low <= at <= high


def test_all_charts_fit_into_one_figure(tmp_path: Path) -> None:
    charts = [CHARTS[name] for name in ("curves", "bars", "names")]
    for name in ("a.png", "a.svg", "b.svg"):
        figure_file(charts, name[2:])(str(tmp_path / name))
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    root = ET.parse(tmp_path / "a.svg").getroot()
    texts = {"".join(each.itertext()).strip() for each in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {chart.title for chart in charts} <= texts
    assert {"rate (requests/s)", "no value", "limit", "splitting pays by a tenth"} <= texts


def test_curves_are_those_given_with_gaps() -> None:
    chart = LineChart(
        "t",
        Axis("x (s)"),
        Axis("y (s)"),
        (Series("a", (1.0, 2.0, 3.0, 4.0), (5.0, None, math.inf, 7.0)),),
        (Rule(6.0, "limit"),),
    )
    axes = draw(chart)
    curve = axes.get_lines()[0]
    assert list(curve.get_xdata()) == [1, 2, 3, 4]
    np.testing.assert_array_equal(curve.get_ydata(), [5, math.nan, math.nan, 7])
    legend = axes.figure.legends[0]  # type: ignore[union-attr]
    assert [text.get_text() for text in legend.get_texts()] == ["a", "at the top: unbounded"]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title(loc="left")) == ("x (s)", "y (s)", "t")
    low, high = axes.get_ylim()
    assert low < 5 < 7 < high
    assert "limit" in [text.get_text() for text in axes.texts]


def test_bars_are_as_long_as_their_values() -> None:
    chart = BarChart("t", ("a", "b"), Axis("y (s)", from_zero=True), (Bars("n", (3.0, None)), Bars("m", (1.0, 2.0))))
    axes = draw(chart)
    assert [patch.get_height() for patch in axes.patches] == [3, 1, 2]
    assert len({patch.get_hatch() for patch in axes.patches}) == 2
    assert axes.get_ylim()[0] == 0


def test_a_tornado_has_both_sides_in_one_row() -> None:
    axes = draw(CHARTS["tornado"])
    boxes = [(patch.get_x(), patch.get_width(), patch.get_y()) for patch in axes.patches]
    rows = {round(y, 6) for _, _, y in boxes}
    assert len(rows) == 3  # the fourth input has no values
    assert sorted(round(x + w, 2) for x, w, _ in boxes) == [430.0, 500.0, 523.44, 540.0, 560.0, 600.0]
    assert {x for x, _, _ in boxes} == {523.44}


def test_cells_have_the_colours_of_their_values() -> None:
    values = ((0.5, 1.0), (1.001, None), (math.inf, 2.0))
    chart = HeatMap("t", Axis("x"), Axis("y"), Axis("v (x)"), (1.0, 2.0), (1.0, 2.0, 3.0), values, middle=1.0)
    axes = draw(chart)
    cells = axes.collections[0]
    colours = [to_hex(colour) for colour in cells.get_facecolor()]
    assert len(colours) == 5
    bluish = [linear(colour)[2] > linear(colour)[0] for colour in colours]
    assert bluish == [True, True, False, False, False]  # at the limit is within it
    assert colours[3] == colours[4] == ABOVE[-1]
    names = [text.get_text() for text in axes.figure.legends[0].get_texts()]  # type: ignore[union-attr]
    assert names == ["no value", "unbounded"]


def test_the_outline_goes_around_the_cells_inside() -> None:
    around = {(0, 0), (0, 1), (1, 0), (5, 5)}
    length = sum(abs(a - u) + abs(b - v) for (a, b), (u, v) in edges(frozenset(around)))
    neighbours = sum((r + i, c + j) in around for r, c in around for i, j in ((0, 1), (0, -1), (1, 0), (-1, 0)))
    assert length == 4 * len(around) - neighbours


def test_given_axes_are_drawn_on() -> None:
    axes = Figure().add_subplot()
    for chart in (CHARTS[name] for name in ("curves", "tornado", "names", "no cells")):
        axes.clear()
        assert draw(chart, axes) is axes
    assert axes.figure.legends == []


def test_dollars_are_no_formula() -> None:
    for name in ("tornado", "grid", "evil"):
        figure = figure_of([CHARTS[name]])
        figure.canvas.draw()
        dollars = [text for text in shown_texts(figure) if "$" in text.get_text() and _is_drawn(text)]
        assert dollars
        assert all(text._preprocess_math(text.get_text()) == (text.get_text(), False) for text in dollars)  # type: ignore[attr-defined]


def test_pyplot_is_not_loaded() -> None:
    code = (
        "import sys; from provisioner.report.draw import draw; from tests.report.charts import CHARTS\n"
        "draw(CHARTS['curves']).figure.canvas.draw(); print('matplotlib.pyplot' in sys.modules)"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("values", [[3.0, 9.0], [-4.0, 4.0], [0.001, 0.0012], [7.0], [], [0.0], [1e9, 4e9], [-8.0]])
@pytest.mark.parametrize("logarithmic", [False, True])
@pytest.mark.parametrize("from_zero", [False, True])
def test_scales_hold_every_value_and_go_there_and_back(values: list[float], logarithmic: bool, from_zero: bool) -> None:
    found = scale(Axis("v", logarithmic, from_zero), values)
    places = [found.at(value) for value in sorted(values)]
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in places) and places == sorted(places)
    assert [found.value(place) for place in places] == pytest.approx(sorted(values))
    assert all(-1e-9 <= found.at(tick) <= 1 + 1e-9 for tick in found.ticks)
    assert 1 <= len(found.ticks) <= 12 and len(set(found.labels)) == len(found.labels)
    for tick, label in zip(found.ticks, found.labels, strict=True):
        assert float(label.replace(",", "")) == pytest.approx(tick, rel=1e-4, abs=1e-12)


def test_shades_put_the_limit_in_the_middle() -> None:
    how = shades(CHARTS["grid"])  # type: ignore[arg-type]
    assert (how.at(1.0), how.at(math.inf)) == (0.5, 1.0)
    for value in (0.4, 0.99, 1.01, 17.0, 2000.0):
        assert how.value(how.at(value)) == pytest.approx(value)
    assert [how.at(value) for value in (0.4, 0.99, 1.01, 17.0)] == sorted(how.at(v) for v in (0.4, 0.99, 1.01, 17.0))

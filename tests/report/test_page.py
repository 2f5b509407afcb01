"""The HTML page: whole in one file, everything escaped, and what Chromium makes of it."""

from __future__ import annotations

import json
import math
import re
import time
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from provisioner.planning.plan import Plan
from provisioner.report.chart import BarChart, Chart, HeatMap, LineChart
from provisioner.report.document import Code, Column, Document, Facts, Notes, Table
from provisioner.report.page import page
from provisioner.report.palette import DARK, LIGHT
from provisioner.report.scales import number
from provisioner.report.svg import NARROW, WIDE, svg, tips
from tests.report.browser import CHROMIUM, Browser
from tests.report.charts import CHARTS, EVIL, LONG

_VOID = {"meta", "link"}
_SHAPES = {"path", "rect", "stop"}


class Reader(HTMLParser):
    """The elements of a page with their attributes, its texts, and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in _SHAPES
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]


DOCUMENT = Document(
    "Splitwise-HA: 15 dgx-h100 (prompt) + 2 dgx-a100 (token)",
    "The cheapest plan for coding.",
    (
        Facts("", (("cost", "$523.44/h"), ("sources", "a fact"))),
        Table(
            "Pools", (Column("role"), *(Column(f"number {k}", True) for k in range(20))), (("prompt", *("1.5",) * 20),)
        ),
        Notes("Warnings", ("mind this",), True),
        Notes("Sources", (f"https://example.org/{'a/very/long/address/' * 8}",)),
        Facts("How this was computed", (("seed", "0"),)),
        Code("Map", "\n".join("* " * 80 for _ in range(3))),
        Table("Inputs", (Column("option"), Column("value", words=True)), (("workload", LONG),)),
        Code("To repeat this plan", "provision plan " + "x" * 300),
    ),
)
_EVIL_DOCUMENT = Document(
    EVIL,
    EVIL,
    (
        Facts(EVIL, ((EVIL, EVIL),)),
        Table(EVIL, (Column(EVIL), Column(EVIL, True)), ((EVIL, EVIL),)),
        Notes(EVIL, (EVIL,), True),
        Code(EVIL, EVIL),
        Code("To repeat", EVIL),
    ),
)


@pytest.fixture(scope="module")
def everything() -> str:
    return page(DOCUMENT, list(CHARTS.values()))


def test_the_answer_comes_first_and_what_it_rests_on_last(everything: str) -> None:
    read = Reader(everything)
    assert read.text("h1") == [DOCUMENT.headline] == read.text("title")
    titles = [
        "Pools",
        "Warnings",
        "Map",
        "Pictures",
        "Inputs",
        "Sources",
        "How this was computed",
        "To repeat this plan",
    ]
    assert read.text("h2") == titles
    order = [everything.index(text) for text in (DOCUMENT.subtitle, "$523.44/h</dd>", "number 3", "<figure", "xxxxx")]
    assert order == sorted(order)
    assert read.all("html")[0]["lang"] == "en"
    assert re.fullmatch(r"Made by provisioner \d.*\.", read.text("footer")[0])


def test_nothing_is_loaded_from_anywhere(everything: str) -> None:
    read = Reader(everything)
    loaded = [
        value
        for _, attributes in read.elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data", "poster", "background", "xlink:href")
    ]
    assert loaded == ["data:,"]
    assert not {"iframe", "object", "embed", "img", "form", "base"} & {tag for tag, _ in read.elements}
    assert set(re.findall(r"url\(\s*([^)]?)", everything)) == {"#"}
    assert "@import" not in everything and "fetch(" not in everything and "XMLHttp" not in everything
    policy = next(meta["content"] for meta in read.all("meta") if meta.get("http-equiv"))
    assert policy.startswith("default-src 'none'")


def test_every_text_is_escaped() -> None:
    charts = [CHARTS[name] for name in ("evil", "evil curves", "evil cells")]
    read = Reader(page(_EVIL_DOCUMENT, charts, version=EVIL))
    assert Counter(tag for tag, _ in read.elements)["script"] == len(charts) + 1
    assert "b" not in {tag for tag, _ in read.elements}
    assert EVIL in read.text("h1") and EVIL in read.text("dd") and EVIL in read.text("li") and EVIL in read.text("pre")
    assert [json.loads(text) for text in read.text("script")[:-1]] == [tips(chart) for chart in charts]
    assert not any(name.startswith("on") for _, attributes in read.elements for name in attributes)


def test_ids_are_unique_and_what_is_referred_to_exists(everything: str) -> None:
    ids = Counter(attributes["id"] for _, attributes in Reader(everything).elements if "id" in attributes)
    assert max(ids.values()) == 1
    assert set(re.findall(r"url\(#([^)]+)\)", everything)) <= set(ids)


def values_of(chart: Chart) -> list[list[float | None]]:
    match chart:
        case LineChart():
            return [list(series.y) for series in chart.series]
        case BarChart():
            return [list(bars.values) for bars in chart.bars]
        case HeatMap():
            return [list(row) for row in chart.values]


@pytest.mark.parametrize("name", CHARTS)
@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_every_value_is_drawn_and_says_its_number(name: str, width: int) -> None:
    chart = CHARTS[name]
    read = Reader(svg(chart, width, "p"))
    keys = Counter(attributes["data-k"] for _, attributes in read.elements if "data-k" in attributes)
    assert all(count == 1 for count in keys.values())
    texts = tips(chart)
    for r, row in enumerate(values_of(chart)):
        for c, value in enumerate(row):
            shown = value is not None and not math.isnan(value)
            assert (f"{r} {c}" in keys) == (shown or not isinstance(chart, LineChart))
            assert f": {number(value)}" in texts[r][c]
    svg_attributes = read.all("svg")[0]
    assert svg_attributes["role"] == "img" and chart.title in svg_attributes["aria-label"]
    assert "nan" not in " ".join(v for _, a in read.elements for k, v in a.items() if k != "aria-label")


def test_points_lie_where_their_values_are() -> None:
    chart = CHARTS["twelve"]
    assert isinstance(chart, LineChart)
    places = {
        attributes["data-k"]: tuple(map(float, re.findall(r"[-\d.]+", attributes["transform"])))
        for _, attributes in Reader(svg(chart, WIDE, "p")).elements
        if "data-k" in attributes
    }
    (x0, y0), (x1, y1) = places["0 0"], places["11 11"]
    first, last = chart.series[0], chart.series[11]
    assert first.y[0] is not None and last.y[11] is not None
    for k, series in enumerate(chart.series):
        for i, (x, y) in enumerate(zip(series.x, series.y, strict=True)):
            assert y is not None
            across = (x - first.x[0]) / (last.x[11] - first.x[0])
            up = (y - first.y[0]) / (last.y[11] - first.y[0])
            assert places[f"{k} {i}"] == pytest.approx((x0 + across * (x1 - x0), y0 + up * (y1 - y0)), abs=0.2)


def test_points_are_marked_where_they_are_few() -> None:
    few, steps = svg(CHARTS["curves"], WIDE, "p"), svg(CHARTS["steps"], WIDE, "p")
    assert few.count('class="m"') == 4 * 12 - 2 * 4 and "m hidden" not in few  # two curves end at 180 requests/s
    assert steps.count('class="m hidden"') == 300 and 'class="m"' not in steps


def test_bars_are_as_long_as_their_values() -> None:
    for width, side in ((WIDE, "height"), (NARROW, "width")):
        chart = CHARTS["bars"]
        rectangles = [a for t, a in Reader(svg(chart, width, "p")).elements if t == "rect" and "data-k" in a]
        lengths = [float(attributes[side]) for attributes in rectangles]
        assert [length / lengths[0] for length in lengths] == pytest.approx([1.0, 146 / 110, 150.5 / 110], abs=0.01)


def test_numbers_are_there_as_tables_too() -> None:
    read = Reader(page(DOCUMENT, [CHARTS["bars"], CHARTS["names"], CHARTS["intervals"]]))
    cells = read.text("td")
    assert {"146", "150.5", "no value", "no plan: TTFT P99 is out of reach", "-12 *", "-15"} <= set(cells)
    captions = read.text("caption")
    assert captions[0] == "Baseline-H100 at 101"
    assert captions[1].startswith("cost of splitting (%); with *: splitting pays by a tenth; most gained: rate")
    assert len(read.all("figcaption")) == len(read.all("details")) == 3


def test_the_colours_of_the_style_are_those_of_the_palette(everything: str) -> None:
    style = everything[: everything.index("</style>")]
    for k, (light, dark) in enumerate(zip(LIGHT, DARK, strict=True)):
        assert re.findall(rf"\.c{k} {{ --c: (#\w+); }}", style) == [light, dark, light]  # screen, dark, print


def test_a_page_without_pictures(plan: Plan) -> None:
    text = page(plan.document())
    assert "Pictures" not in Reader(text).text("h2")


def test_a_large_grid_makes_a_page_that_opens() -> None:
    assert len(page(DOCUMENT, [CHARTS["grid"]])) < 1_000_000


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    tab = Browser(tmp_path_factory.mktemp("profile"))
    yield tab
    tab.close()


_CUT = """
Array.from(document.querySelectorAll("svg.chart")).filter(svg => svg.getClientRects().length).flatMap(svg => {
  const edge = svg.getBoundingClientRect();
  return Array.from(svg.querySelectorAll("text")).filter(text => {
    const box = text.getBoundingClientRect();
    const beside = box.left < edge.left - 2 || box.right > edge.right + 2;
    return beside || box.top < edge.top - 2 || box.bottom > edge.bottom + 2;
  }).map(text => text.textContent);
})"""
_MARKS = """
Array.from(document.querySelectorAll("figure")).map(figure =>
  Array.from(figure.querySelectorAll("svg.chart [data-k]")).filter(
    mark => mark.getBoundingClientRect().height > 0).length)"""
_SMALLEST = """
Math.min(...Array.from(document.querySelectorAll("svg.chart text")).filter(text => text.getClientRects().length)
  .map(text => {
    const to = text.getScreenCTM();
    return parseFloat(getComputedStyle(text).fontSize) * Math.hypot(to.a, to.b);
  }))"""


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (400, False), (400, True)])
def test_chromium_shows_the_page(everything: str, browser: Browser, tmp_path: Path, width: int, dark: bool) -> None:
    path = tmp_path / "page.html"
    path.write_text(everything, encoding="utf-8")
    browser.open(path, width, dark=dark)
    assert browser.messages == []
    assert browser.requests == [path.as_uri()]
    assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth")
    drawn = browser.evaluate(_MARKS)
    for (name, chart), marks in zip(CHARTS.items(), drawn, strict=True):
        known = [v for row in values_of(chart) for v in row if v is not None and not math.isnan(v)]
        assert marks >= len(known), name
    plain = [name for name in CHARTS if not name.startswith("evil")]
    figures = browser.evaluate(_CUT)
    assert [text for text in figures if "script" not in text] == [], plain
    assert browser.evaluate(_SMALLEST) >= 10.5


def test_chromium_shows_numbers_under_the_pointer_and_by_keys(browser: Browser, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(page(DOCUMENT, [CHARTS["bars"], CHARTS["curves"], CHARTS["grid"]]), encoding="utf-8")
    browser.open(path, 1280)

    def tip() -> str:
        visible = browser.evaluate('getComputedStyle(document.getElementById("tip")).visibility') == "visible"
        return str(browser.evaluate('document.getElementById("tip").textContent')) if visible else ""

    def hover(figure: int, key: str, dx: float = 0.0) -> str:
        mark = f"document.querySelectorAll('figure')[{figure}].querySelector('svg.wide [data-k=\"{key}\"]')"
        browser.evaluate(f"{mark}.scrollIntoView({{block: 'center'}})")
        time.sleep(0.1)  # scrolling hides the numbers
        box = browser.evaluate(
            f"(b => [(b.left + b.right) / 2, (b.top + b.bottom) / 2])({mark}.getBoundingClientRect())"
        )
        browser.point(box[0] + dx, box[1])
        return tip()

    assert hover(0, "0 1") == "Splitwise-HH\nthroughput\nthroughput (requests/s): 146"
    assert "no plan: TTFT P99 is out of reach" in hover(0, "0 3")
    assert hover(1, "2 3", dx=9.0).startswith("Splitwise-2\nrate (requests/s): 90\n")  # beside the point
    assert "optimum: 28 + 3, $1,178/h" in hover(2, "27 2")
    browser.evaluate("document.querySelectorAll('figure')[2].querySelector('svg.wide').focus()")
    browser.key("ArrowUp")
    assert tip().startswith("prompt machines: 29\ntoken machines: 3\n")
    browser.key("ArrowRight")
    assert tip().startswith("prompt machines: 29\ntoken machines: 4\n")
    browser.key("Escape")
    assert tip() == ""
    shown = "getComputedStyle(document.querySelectorAll('figure')[1].querySelector('svg.wide .series')).display"
    assert browser.evaluate(shown) != "none"
    browser.evaluate("document.querySelectorAll('figure')[1].querySelector('button').click()")
    assert browser.evaluate(shown) == "none"
    assert browser.evaluate("document.querySelectorAll('figure')[1].querySelector('button').ariaPressed") == "false"
    assert browser.messages == []

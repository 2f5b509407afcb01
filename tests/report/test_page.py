"""The HTML page: whole in one file, everything escaped, its scripts by their hashes, and Chromium shows it."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

from provisioner.report.charts import page_spec
from provisioner.report.document import (
    Boxes,
    Code,
    Column,
    Document,
    Facts,
    Folded,
    KeyNumber,
    KeyNumbers,
    Notes,
    Table,
)
from provisioner.report.markdown import markdown
from provisioner.report.page import html as notebook_html
from provisioner.report.page import page
from provisioner.report.terminal import render
from provisioner.report.views.registry import document
from provisioner.report.views.view import cluster_boxes
from provisioner.results.cluster import Cluster, Pool
from provisioner.results.plan import Plan
from tests.report.charts import CHARTS, EVIL, LONG

CHROMIUM = next((path for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if path), None)
_VOID = {"meta", "link"}


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

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, tag: str) -> list[str]:
        return [text for name, text in self.texts if name == tag]


CLUSTER = cluster_boxes(
    "Cluster", Cluster("Splitwise-HA", (Pool("prompt", "dgx-h100", 8, 8, 15), Pool("token", "dgx-a100", 4, 8, 160)))
)
DOCUMENT = Document(
    "Splitwise-HA: 15 dgx-h100 (prompt) + 80 dgx-a100 (token)",
    "The cheapest plan for coding.",
    (
        KeyNumbers((KeyNumber("cost", "$523.44/h", "(a note)"), KeyNumber("sources", "a fact"))),
        CLUSTER,
        Table(
            "Pools", (Column("role"), *(Column(f"number {k}", True) for k in range(20))), (("prompt", *("1.5",) * 20),)
        ),
        Notes("Warnings", ("mind this",), True),
        Notes("Sources", (f"https://example.org/{'a/very/long/address/' * 8}",)),
        Facts("How this was computed", (("seed", "0"),)),
        Code("Map", "\n".join("* " * 80 for _ in range(3))),
        Table("Inputs", (Column("option"), Column("value", words=True)), (("workload", LONG),)),
        Folded("Inputs left at their defaults", (("model", "llama2-70b"), ("objective", "cost"))),
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
        KeyNumbers((KeyNumber(EVIL, EVIL, EVIL),)),
        Boxes(Table(EVIL, (Column(EVIL),), ((EVIL,),)), (Pool(EVIL, EVIL, 8, 8, 1),)),  # type: ignore[arg-type]
        Folded(EVIL, ((EVIL, EVIL),)),
        Code("To repeat", EVIL),
    ),
)


@pytest.fixture(scope="module")
def everything() -> str:
    return page(DOCUMENT, list(CHARTS.values()))


def test_the_answer_comes_first_and_what_it_rests_on_last(everything: str) -> None:
    read = Reader(everything)
    assert read.text("h1") == [DOCUMENT.headline] == read.text("title")
    titles = ["Cluster", "Pictures", "Pools", "Warnings", "Map", "Inputs", "Sources"]
    assert read.text("h2") == [*titles, "How this was computed", "To repeat this plan"]
    order = [
        everything.index(text)
        for text in (DOCUMENT.subtitle, "$523.44/h", "<figure", "number 3", "llama2-70b", "xxxxx")
    ]
    assert order == sorted(order)
    assert [attributes.get("class") for attributes in read.all("dl")] == ["cards", None, None]
    assert read.text("small")[0] == "a note" and "Inputs left at their defaults" in read.text("summary")
    assert read.all("html")[0]["lang"] == "en"
    assert re.fullmatch(r"Made by provisioner \d.*\.", read.text("footer")[0])


def test_nothing_is_loaded_and_scripts_run_by_their_hashes_only(everything: str) -> None:
    read = Reader(everything)
    loaded = [
        value
        for _, attributes in read.elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data", "poster", "background", "xlink:href")
    ]
    assert loaded == ["data:,"]
    assert not {"iframe", "object", "embed", "img", "form", "base"} & {tag for tag, _ in read.elements}
    style = everything[everything.index("<style>") : everything.index("</style>")]
    assert "url(" not in style and "@import" not in style
    policy = next(meta["content"] for meta in read.all("meta") if meta.get("http-equiv"))
    scripts = re.findall(r"<script>(.*?)</script>", everything, re.DOTALL)
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert len(scripts) == 2
    hashes = " ".join(f"'sha256-{digest}'" for digest in digests)
    assert policy == f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:"
    assert not any(name.startswith("on") for _, attributes in read.elements for name in attributes)


def test_every_text_is_escaped() -> None:
    charts = [CHARTS[name] for name in ("evil", "evil curves", "evil cells")]
    text = page(_EVIL_DOCUMENT, charts, version=EVIL)
    read = Reader(text)
    assert Counter(tag for tag, _ in read.elements)["script"] == len(charts) + 2
    assert EVIL in read.text("h1") and EVIL in read.text("dd") and EVIL in read.text("li") and EVIL in read.text("pre")
    data = re.findall(r'<script type="application/json">(.*?)</script>', text, re.DOTALL)
    assert [json.loads(spec) for spec in data] == [page_spec(chart) for chart in charts]


def test_names_of_options_stay_on_one_line() -> None:
    text = page(Document("plan", "", (Notes("Warnings", ("as Poisson (change it with --cv)", "a -- b --> c")),)))
    assert '<li>as Poisson (change it with <span class="whole">--cv)</span></li><li>a -- b --&gt; c</li>' in text


def test_charts_have_their_numbers_as_tables_and_a_description() -> None:
    read = Reader(page(DOCUMENT, [CHARTS["bars"], CHARTS["names"], CHARTS["intervals"]]))
    assert {"146", "150.5", "no value", "no plan: TTFT P99 is out of reach", "-12 *", "-15"} <= set(read.text("td"))
    captions = read.text("caption")
    assert captions[0] == "Baseline-H100 at 101"
    assert captions[1].startswith("cost of splitting (%); with *: splitting pays by a tenth; most gained: rate")
    assert len(read.all("figcaption")) == len(read.all("details")) - 1 == 3
    drawn = [attributes for attributes in read.all("div") if attributes.get("class") == "chart"]
    assert all(attributes["tabindex"] == "0" for attributes in drawn)
    assert drawn[0]["aria-label"].startswith("Bar chart. Throughput at the power of 40 DGX-H100. ")


def test_a_page_of_five_charts_is_small_and_one_without_charts_has_no_scripts(plan: Plan) -> None:
    five = [CHARTS[name] for name in ("curves", "tornado", "names", "steps", "grid")]
    assert len(page(DOCUMENT, five).encode()) < 1_500_000
    text = page(document(plan, inputs=True))
    assert "Pictures" not in Reader(text).text("h2")
    assert "<script" not in text and "script-src 'none'" in html.unescape(text)


def test_a_cluster_is_drawn_as_boxes_and_elsewhere_a_table() -> None:
    read = Reader(page(DOCUMENT))
    boxes = Counter(attributes.get("class") for attributes in read.all("span"))
    assert boxes["machine"] == 15 + 48 and boxes["replica"] == 15 + 96
    assert Counter(text for text in read.text("span"))["P"] == 15
    assert any("and 32 more" in text for text in read.text("div"))
    assert ": 80 dgx-a100, 160 replicas at TP 4" in read.text("p") and "160" in read.text("td")
    document = Document("Plan", "", (CLUSTER,))
    assert "| token | dgx-a100 | 80 | 160 | 4 |" in markdown(document)
    assert re.search(r"token\s+dgx-a100\s+80\s+160\s+4", render(document))
    assert "<td>dgx-a100</td>" in notebook_html(document)


def chromium(path: Path, profile: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """A page in Chromium: its elements on stdout, messages of its console on stderr."""
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    fixed = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={profile}")
    waits = ("--virtual-time-budget=8000", "--enable-logging=stderr", "--dump-dom")
    return subprocess.run(
        [CHROMIUM, *fixed, *waits, *flags, path.as_uri()], capture_output=True, text=True, check=True, timeout=120
    )


@pytest.mark.parametrize("width", [1280, 400])
def test_chromium_draws_every_chart_without_a_message(everything: str, tmp_path: Path, width: int) -> None:
    path = tmp_path / "page.html"
    path.write_text(everything, encoding="utf-8")
    done = chromium(path, tmp_path / "profile", f"--window-size={width},900")
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []
    figures = done.stdout.split("<figure>")[1:]
    assert len(figures) == len(CHARTS)
    for (name, chart), figure in zip(CHARTS.items(), figures, strict=True):
        assert "<svg" in figure and "NaN" not in figure[: figure.index("<script")], name
        drawn = figure[figure.index("<svg") : figure.index("</svg>")]
        labels = set(map(html.unescape, re.findall(r'aria-label="([^"]*)"', drawn)))
        texts = page_spec(chart).get("datasets", {}).values()
        wanted = {row["text"] for rows in texts for row in rows if row.get("y") is not None or "group" in row}
        assert wanted <= labels, name

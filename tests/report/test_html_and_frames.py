import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import pandas as pd

from provisioner.planning.plan import Plan


class Balanced(HTMLParser):
    """Checks that every tag is closed, and gathers text and addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.add(tag)
        assert not {name for name, _ in attrs} & {"src", "href"}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_html_is_balanced_self_contained_and_escaped(plan: Plan) -> None:
    evil = replace(plan, workload="<script>alert(1)</script>", warnings=("a < b & c",))
    parser = Balanced()
    html = evil._repr_html_()
    parser.feed(html)
    assert parser.open == []
    assert parser.tags <= {"div", "style", "h3", "h4", "p", "table", "thead", "tbody", "tr", "th", "td", "ul", "li"}
    assert "<script" not in html
    text = " ".join(parser.text)
    assert "Splitwise-HA: 15 dgx-h100 (prompt) + 2 dgx-a100 (token)" in text
    assert "a < b & c" in text


def test_pools_frame(plan: Plan) -> None:
    frame = plan.to_frame()
    assert frame[["role", "machine", "machines"]].to_dict("list") == {
        "role": ["prompt", "token"],
        "machine": ["dgx-h100", "dgx-a100"],
        "machines": [15, 2],
    }
    assert frame.plan_machines.tolist() == [17, 17]
    assert frame.cost_usd_per_h.sum() == frame.plan_cost_usd_per_h[0]


def test_latency_frame(plan: Plan) -> None:
    frame = plan.latency_frame().set_index(["metric", "percentile"])
    assert len(frame) == 9
    assert frame.loc[("ttft", "p99"), "limit"] == 6
    assert frame.limit.dtype == "float64"
    assert frame.slack.notna().sum() == 3


def test_alternatives_frame(plan: Plan) -> None:
    frame = plan.alternatives_frame()
    assert frame.design.tolist() == ["Splitwise-AA", "Baseline-A100"]
    assert frame.feasible.tolist() == [True, False]
    assert frame.cost_usd_per_h.isna().tolist() == [False, True]
    assert isinstance(replace(plan, alternatives=()).alternatives_frame(), pd.DataFrame)


def test_reports_load_pandas_only_for_frames() -> None:
    code = (
        "import sys, provisioner.report.terminal, provisioner.report.csv, provisioner.report.html,"
        " provisioner.report.markdown, provisioner.report.as_json, provisioner.report.frames,"
        " provisioner.report.files; print([m for m in ('pandas', 'rich', 'altair') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

from provisioner.results.plan import Plan


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


def test_reports_load_pandas_only_for_frames() -> None:
    code = (
        "import sys, provisioner.report.terminal, provisioner.report.tables, provisioner.report.page,"
        " provisioner.report.markdown, provisioner.report.serialiser, provisioner.report.views.registry,"
        " provisioner.report.files; print([m for m in ('pandas', 'rich', 'altair', 'jinja2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

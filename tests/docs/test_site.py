"""The site of docs/: every page has its place in it, and its check finds what the strict build does not."""

import importlib.util
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
KINDS = ("tutorial", "how-to", "reference", "explanation")


@pytest.fixture(scope="module")
def checker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_site", DOCS / "check_site.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def named(nav: Any) -> Iterator[str]:
    """The pages of a navigation."""
    if isinstance(nav, str):
        yield nav
    else:
        for part in nav.values() if isinstance(nav, dict) else nav:
            yield from named(part)


def test_every_page_has_one_place_in_the_navigation() -> None:
    site = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]
    assert sorted(named(site["nav"])) == PAGES


def test_every_page_is_of_one_kind_and_linked_from_the_index() -> None:
    linked = set(re.findall(r"(?<!!)\[[^\]]*\]\(([^)#]+)\)", (DOCS / "index.md").read_text(encoding="utf-8")))
    pages = {page for page in PAGES if page != "index.md"}
    assert {page.split("/")[0] for page in pages} == set(KINDS)
    assert linked == pages


def test_every_public_name_and_every_result_is_on_the_page_of_the_python_api() -> None:
    import provisioner
    from provisioner.report.views.registry import VIEWS

    public = {name for name in provisioner.__all__ if not name.startswith("__")}
    results = {"Result", "Cluster", "HasCluster", "Pool", "Totals", *(view.kind.__name__ for view in VIEWS)}
    page = (DOCS / "reference" / "python-api.md").read_text(encoding="utf-8")
    shown = re.findall(r"^::: provisioner\.[\w.]*?(\w+)$", page, flags=re.MULTILINE)
    assert sorted(shown) == sorted(public | results)


@pytest.mark.parametrize(
    ("page", "fault"),
    (
        ('<a href="other.html#here">x</a><img src="a.svg"><a href="https://example.org">x</a>', ""),
        ('<a href="none.html">x</a>', "index.html: no none.html"),
        ('<a href="other.html#there">x</a>', "index.html: no anchor other.html#there"),
        ('<a href="../outside.txt">x</a>', "index.html: no ../outside.txt"),
        ('<img src="b.svg">', "index.html: no b.svg"),
        ('<img src="https://example.org/a.svg">', "index.html: loads https://example.org/a.svg"),
        ('<script src="//example.org/a.js"></script>', "index.html: loads //example.org/a.js"),
        ('<link rel="stylesheet" href="https://example.org/a.css">', "index.html: loads https://example.org/a.css"),
        ('<p style="background: url(https://example.org/a.png)">', "index.html: loads https://example.org/a.png"),
        ('<pre class="mermaid">', "index.html: has a mermaid, for which a library is fetched"),
    ),
)
def test_the_check_finds_faults(checker: ModuleType, tmp_path: Path, page: str, fault: str) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (tmp_path / "outside.txt").touch()
    (site / "a.svg").touch()
    (site / "other.html").write_text('<h1 id="here">Other</h1>', encoding="utf-8")
    (site / "index.html").write_text(page, encoding="utf-8")
    assert checker.faults(site) == [fault] * bool(fault)


def test_the_check_reads_styles_and_wants_pages(checker: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("@import 'https://example.org/font.css'; a { b: url(#c) }", encoding="utf-8")
    assert checker.faults(tmp_path) == [f"{tmp_path}: no pages", "a.css: loads https://example.org/font.css"]

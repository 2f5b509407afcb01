"""Checks a built site: ``python docs/check_site.py site``. What the strict build does not look at.

Every link and file within the site exists, with its anchor, and no page loads anything from elsewhere: scripts, styles,
fonts, pictures. Links that a reader may follow to elsewhere are left alone. The theme's script fetches libraries for
diagrams, lightboxes and live code from a CDN if a page has them, so none may.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

LOADED = {"href": {"link"}, "src": {"script", "img", "iframe", "source", "video", "audio", "embed"}, "data": {"object"}}
"""Attributes and the elements of which a browser loads what they name without being asked."""

NOT_LOADED = {"canonical", "prev", "next", "alternate"}
"""Relations of a ``link`` that a browser does not load."""

FETCHES = {"mermaid", "glightbox", "pyodide"}
"""Classes of elements for which the theme's script fetches a library."""

IN_STYLE = re.compile(r"url\(\s*['\"]?([^'\")]+)|@import\s+['\"]([^'\"]+)")


class _Page(HTMLParser):
    """The links of a page, the files that it loads, and its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = {""}
        self.classes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what an element links to, loads and is called."""
        given = {name: value or "" for name, value in attrs}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        self.classes |= set(given.get("class", "").split())
        for name, elements in LOADED.items():
            if tag in elements and name in given and given.get("rel") not in NOT_LOADED:
                self.loads.append(given[name])
        if tag in ("a", "area") and "href" in given:
            self.links.append(given["href"])
        self.loads += _in_style(given.get("style", ""))


def _in_style(text: str) -> list[str]:
    return [one or other for one, other in IN_STYLE.findall(text) if not (one or other).startswith(("data:", "#"))]


def _elsewhere(target: str) -> bool:
    parts = urlsplit(target)
    return bool(parts.netloc) or parts.scheme not in ("", "data")


def faults(site: Path) -> list[str]:
    """The faults of the site in a folder, one line each."""
    pages = {path: _Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    found = [] if pages else [f"{site}: no pages"]
    for path, page in pages.items():
        name = path.relative_to(site)
        found += [f"{name}: loads {target}" for target in page.loads if _elsewhere(target)]
        found += [f"{name}: has a {each}, for which a library is fetched" for each in sorted(FETCHES & page.classes)]
        for target in page.loads + page.links:
            if _elsewhere(target) or target.startswith("data:"):
                continue
            file, anchor = urldefrag(unquote(target))
            if name.name == "404.html" and file.startswith("/"):
                linked = site / file.lstrip("/")
            else:
                linked = (path.parent / file).resolve() if file else path
            if linked.is_dir():
                linked /= "index.html"
            if not linked.is_file() or not linked.resolve().is_relative_to(site.resolve()):
                found.append(f"{name}: no {target}")
            elif linked in pages and anchor not in pages[linked].anchors and not anchor.startswith("__"):
                found.append(f"{name}: no anchor {target}")
    for path in sorted(site.rglob("*.css")):
        targets = _in_style(path.read_text(encoding="utf-8"))
        found += [f"{path.relative_to(site)}: loads {target}" for target in targets if _elsewhere(target)]
    return found


if __name__ == "__main__":
    wrong = faults(Path(sys.argv[1]).resolve())
    print("\n".join(wrong) or "every link resolves, nothing is loaded from elsewhere")
    raise SystemExit(bool(wrong))

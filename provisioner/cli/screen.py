"""A result on the screen: its report for the terminal, or JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from provisioner.report.document import Document
    from provisioner.results.result import Result


def result_text(result: Result, json: bool, written: Iterable[object] = ()) -> str:
    """A result as its report, with the files that hold it, or as JSON."""
    from provisioner.report.views.registry import document

    return result.to_json() if json else report_text(document(result), written)


def report_text(document: Document, written: Iterable[object] = ()) -> str:
    """A report for the terminal, or for a pipe."""
    from dataclasses import replace

    from provisioner.report.document import Facts
    from provisioner.report.terminal import render

    names = ", ".join(map(str, written))
    if names:
        document = replace(document, blocks=(*document.blocks, Facts("", (("written to", names),))))
    return render(document, **screen())


def screen() -> dict[str, Any]:
    """Width and styles of the output: those of a terminal, else plain text."""
    import shutil

    from provisioner.report.terminal import MAX_WIDTH

    terminal = sys.stdout is not None and sys.stdout.isatty()
    if not terminal:
        return {"width": MAX_WIDTH, "styled": False}
    return {"width": min(shutil.get_terminal_size((MAX_WIDTH, 24)).columns, MAX_WIDTH), "styled": True}

"""A result on the screen: its report for the terminal, or JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from provisioner.report.document import Document
    from provisioner.results.result import Result


def result_text(result: Result, json: bool, written: Iterable[object] = ()) -> str:
    """A result as its report, with the files that hold it, or as JSON."""
    from provisioner.report.views.registry import document

    return result.to_json() if json else report_text(document(result), written)


def report_text(document: Document, written: Iterable[object] = ()) -> str:
    """A report with the width and styles of the terminal, or plain text for a pipe."""
    import shutil
    from dataclasses import replace

    from provisioner.report.document import Facts
    from provisioner.report.terminal import MAX_WIDTH, render

    names = ", ".join(map(str, written))
    if names:
        document = replace(document, blocks=(*document.blocks, Facts("", (("written to", names),))))
    terminal = sys.stdout is not None and sys.stdout.isatty()
    width = min(shutil.get_terminal_size((MAX_WIDTH, 24)).columns, MAX_WIDTH) if terminal else MAX_WIDTH
    return render(document, width, styled=terminal)

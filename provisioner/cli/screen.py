"""A result on the screen: its report for the terminal, or JSON."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from provisioner.cli.output import emit


def json_text(value: Any) -> str:
    """Plain values as JSON."""
    from provisioner.report.as_json import json_text as as_json

    return as_json(value)


def result_text(found: Any, document: Callable[[Any], Any], written: Iterable[object], json: bool) -> str:
    """A result as its report, with the files that hold it, or as JSON."""
    from provisioner.results.result import Result

    if json and isinstance(found, Result):
        return found.to_json()
    return json_text(found.to_dict()) if json else report_text(document(found), written)


def hand_over(
    found: Any,
    document: Callable[[Any], Any],
    outputs: Sequence[Any],
    json: bool,
    also: Iterable[str | None] = (),
) -> None:
    """Write a result to its files, and print it; ``also`` are files already written."""
    from provisioner.report.files import write_outputs

    text = result_text(found, document, [*(name for name in also if name is not None), *outputs], json)
    write_outputs(found, outputs)
    emit(text)


def report_text(document: Any, written: Iterable[object] = ()) -> str:
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

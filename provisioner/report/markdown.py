"""A report as markdown, with the inputs and the command that repeat it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from provisioner.report.document import Block, Boxes, Code, Document, Facts, Folded, KeyNumbers, Notes, Table

_TAG = re.compile(r"<(?=[A-Za-z/!?])")


def markdown(document: Document) -> str:
    """The report as markdown, ending in a newline.

    >>> print(markdown(Document("Splitwise-HA", "", (Facts("", (("cost", "$1/h"),)),))), end="")
    # Splitwise-HA
    <BLANKLINE>
    - cost: $1/h
    """
    parts = [f"# {_escape(document.headline)}"]
    if document.subtitle:
        parts.append(_escape(document.subtitle))
    for block in document.blocks:
        if block.title:
            parts.append(f"## {_escape(block.title)}")
        parts.append(_block(block))
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> str:
    match block:
        case Facts(rows=rows):
            return "\n".join(f"- {_escape(label)}: {_escape(value)}" for label, value in rows)
        case Notes(lines=lines):
            return "\n".join(f"- {_escape(line)}" for line in lines)
        case Code(text=text):
            return f"```\n{text}\n```"
        case Table():
            return _table(block)
        case Boxes():
            return _table(block.table)
        case KeyNumbers():
            return _block(block.facts())
        case Folded(text=text):
            return _escape(text)


def _table(block: Table) -> str:
    rows = [
        _row(column.header for column in block.columns),
        _row("---:" if column.number else "---" for column in block.columns),
    ]
    for position, row in enumerate(block.rows):
        cells = [_escape(cell) for cell in row]
        if position in block.strong:
            cells = [f"**{cell}**" if cell else "" for cell in cells]
        rows.append(_row(cells))
    return "\n".join(rows)


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _escape(text: str) -> str:
    """Text on one line, without what would end a cell or start a tag."""
    return _TAG.sub("&lt;", " ".join(text.split())).replace("|", "\\|")

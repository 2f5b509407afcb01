"""A report as markdown, with the inputs and the command that repeat it."""

import re

from provisioner.report.document import Code, Document, Facts, Folded, Notes, Table
from provisioner.specs.units import printable

_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_LINK = re.compile(r"\](?=[(:\[])")


def markdown(document: Document) -> str:
    """The report as markdown, ending in a newline.

    >>> print(markdown(Document("Splitwise-HA", "", (Facts("", (("cost", "$1/h"),)),))), end="")
    # Splitwise-HA
    <BLANKLINE>
    - cost: $1/h
    """
    parts = [f"# {_escape(document.headline)}", _escape(document.subtitle)]
    for block in document.plain():
        parts += [f"## {_escape(block.title)}" if block.title else "", _block(block)]
    return "\n\n".join(filter(None, parts)) + "\n"


def _block(block: Facts | Table | Notes | Code | Folded) -> str:
    match block:
        case Facts(rows=rows):
            return "\n".join(f"- {_escape(label)}: {_escape(value)}" for label, value in rows)
        case Notes(lines=lines):
            return "\n".join(f"- {_escape(line)}" for line in lines)
        case Code(text=text):
            return f"```\n{printable(text)}\n```"
        case Folded(text=text):
            return _escape(text)
        case Table():
            return _table(block)


def _table(block: Table) -> str:
    header = [_escape(column.header) for column in block.columns]
    lines = [header, ["---:" if column.number else "---" for column in block.columns]]
    for position, row in enumerate(block.rows):
        cells = [_escape(cell) for cell in row]
        lines.append([f"**{cell}**" if cell else "" for cell in cells] if position in block.strong else cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _escape(text: str) -> str:
    """Text on one line, without what would end a cell, start a tag or make a link."""
    return _LINK.sub(r"\\]", _TAG.sub("&lt;", printable(" ".join(text.split())))).replace("|", "\\|")

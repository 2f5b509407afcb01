"""The commands in ``docs/reference/cli.md``, generated from the command line.

``python -m provisioner.cli.document docs/reference/cli.md`` writes them anew between the marks of the page.
"""

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from provisioner.cli.commands import command
from provisioner.cli.help import TyperObject, panels, paragraphs, subcommands, usage
from provisioner.cli.output import PROGRAM

_BEGIN: Final = "<!-- commands -->\n\n"
_END: Final = "\n\n<!-- end of commands -->"


def refreshed(page: str) -> str:
    """The text of the page with its commands generated anew."""
    before, _, rest = page.partition(_BEGIN)
    after = rest.partition(_END)[2]
    sections = "\n\n".join(_sections(command(), None))
    return f"{before}{_BEGIN}{sections}{_END}{after}"


def _sections(each: TyperObject, parent: TyperObject) -> Iterator[str]:
    """The sections of a command and of those below it."""
    name = PROGRAM if parent is None else each.name
    context = each.context_class(each, info_name=name, parent=parent, **each.context_settings)
    yield f"## {context.command_path}"
    yield "\n\n".join(paragraphs(each))
    yield f"```\n{usage(each, context)}\n```"
    below = subcommands(each)
    if below:
        yield _table(
            ("command", "what it does"),
            ((f"`{context.command_path} {name}`", _plain(paragraphs(one)[0])) for name, one in below),
        )
    for panel, listed in panels(each, context).items():
        rows = ((f"`{_plain(e.names)}`", _plain(e.text), _plain(e.default)) for e in listed)
        what = "argument" if panel == "Arguments" else "option"
        yield f"**{panel}**\n\n{_table((what, 'meaning', 'default'), rows)}"
    for _, one in below:
        yield from _sections(one, context)


def _plain(text: str) -> str:
    return text.replace("|", "\\|")


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(refreshed(path.read_text(encoding="utf-8")), encoding="utf-8")

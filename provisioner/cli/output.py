"""Standard output of the command line: reports or JSON, each written whole or not at all."""

import contextlib
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from provisioner.errors import InputError

if TYPE_CHECKING:
    from provisioner.report.document import Document
    from provisioner.results.result import Result

PROGRAM: Final = "provision"


def result_text(result: "Result", json: bool, written: Iterable[object] = ()) -> str:
    """A result as its report, with the files that hold it, or as JSON."""
    from provisioner.report.views.registry import document

    return result.to_json() if json else report_text(document(result), written)


def report_text(document: "Document", written: Iterable[object] = ()) -> str:
    """A report with the width and styles of the terminal, or plain text for a pipe."""
    from provisioner.report.document import Facts
    from provisioner.report.terminal import MAX_WIDTH, render

    names = ", ".join(map(str, written))
    if names:
        document = replace(document, blocks=(*document.blocks, Facts("", (("written to", names),))))
    terminal = sys.stdout is not None and sys.stdout.isatty()
    width = min(shutil.get_terminal_size((MAX_WIDTH, 24)).columns, MAX_WIDTH) if terminal else MAX_WIDTH
    return render(document, width, styled=terminal)


def emit(text: str) -> None:
    """Write a whole result to stdout, ending in one newline."""
    if sys.stdout is None:
        raise InputError("standard output: is closed")
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:  # rules become dashes, what else there is no character for question marks
        text = text.replace("─", "-").encode(encoding, "replace").decode(encoding)
    with writing_stdout():
        sys.stdout.write(text.rstrip("\n") + "\n")
        sys.stdout.flush()


@contextlib.contextmanager
def writing_stdout() -> Iterator[None]:
    """Turn a stdout that cannot be written (a full disk) into an ``InputError``; a closed pipe stays one."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        abandon_stdout()
        raise InputError(f"standard output: cannot be written: {error.strerror or error}") from error


def abandon_stdout() -> None:
    """Stop writes to a stdout that fails: the interpreter flushes it once more as it ends."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

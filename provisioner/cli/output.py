"""Standard output of the command line: a result is written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Final

from provisioner.errors import InputError

PROGRAM: Final = "provision"


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

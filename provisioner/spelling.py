"""Names of options in messages: a keyword in Python, a flag on the command line.

Stands below everything that has messages. ``options`` registers the flags of all fields.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

FLAGS: Final[dict[str, str]] = {}  # the flag of every field, by name: the same in all classes that have the field

_as_flags = False


@contextmanager
def spelled_as_flags() -> Iterator[None]:
    """Name options by their flags in messages: set by the command line, for all threads of the process."""
    global _as_flags
    before, _as_flags = _as_flags, True
    try:
        yield
    finally:
        _as_flags = before


def spelled(name: str) -> str:
    """The name of an option as the caller writes it: a keyword in Python, a flag on the command line.

    >>> from provisioner.options import spelled
    >>> spelled("rate_rps")
    'rate_rps'
    >>> with spelled_as_flags():
    ...     spelled("rate_rps")
    '--rate'
    """
    return FLAGS.get(name) or name if _as_flags else name

"""Entries of the compiled event loop, and the library that is built of them with the package.

The library needs neither Python nor numba, so that a first run compiles nothing. It carries the digest of the sources
that it was built from: without one of these very sources the event loop is compiled where it runs.
"""

from collections.abc import Callable, Mapping
from ctypes import CDLL, c_char, c_int64
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

ENTRIES: Final[Mapping[str, tuple[str, ...]]] = {
    "advance": ("address", "most_events"),
    "apply_outage": ("address",),
}
"""Functions of ``engine.functions`` by name, with their arguments. These and the result are integers of 64 bits; the
result is ``FAILED`` if the function raised an error."""
FAILED: Final = -1

SOURCES: Final = (
    *("entries", "records", "pointers", "structures", "minima", "machine", "estimate", "receiving", "transfers"),
    *("chunked", "outages", "routing", "engine"),
)
"""Modules that are compiled, or declare what is."""
_HERE: Final = Path(__file__).parent
LIBRARY: Final = _HERE / "event_loop.so"
DIGEST: Final = "sources"  # name of the digest in the library

Entries = Mapping[str, Callable[..., int]]


@cache
def sources() -> str:
    """Digest of the sources, 64 characters."""
    digest = sha256()
    for name in SOURCES:
        digest.update((_HERE / f"{name}.py").read_bytes())
    return digest.hexdigest()


def load(path: Path) -> Entries | None:
    """The entries of a library; ``None`` if there is none for this machine that was built from these sources."""
    if not path.is_file():
        return None
    try:
        library = CDLL(str(path))
        if (c_char * len(sources())).in_dll(library, DIGEST).raw.decode() != sources():
            return None
    except (OSError, ValueError):  # of another machine; without a digest
        return None
    entries = {name: library[name] for name in ENTRIES}
    for name, entry in entries.items():
        entry.argtypes, entry.restype, entry.errcheck = [c_int64] * len(ENTRIES[name]), c_int64, _checked
    return entries


def _checked(result: Any, entry: Any, arguments: Any) -> Any:
    """The result of an entry; ``RuntimeError`` if it raised an error."""
    if result == FAILED:
        raise RuntimeError(f"the event loop failed in {entry.__name__}")
    return result


@cache
def built() -> Entries | None:
    """The entries of the library that came with the package; ``None`` if it fits neither sources nor machine."""
    return load(LIBRARY)

"""Compilation of the event loop where no library fits, within a time limit: numba is interrupted between its passes."""

from time import monotonic
from typing import Any, Final

import numba
from numba.core import event

from provisioner.deadline import TimeIsUp, check_room, check_time
from provisioner.simulation import engine
from provisioner.simulation.entries import ENTRIES, sources

# The last pass links and optimises all functions in one call of LLVM: this share of the time of all passes before it.
# Measured 0.14 (numba 0.68).
_LAST_PASS: Final = 0.15
_ABOUT: Final = "some 15 s"  # on two cores of 2.5 GHz
NOTICE: Final = f"compiling the simulator: once on this machine ({_ABOUT}), then it is kept"
_UNFINISHED: Final = f"while the simulator was compiled, which takes {_ABOUT} once on a machine"


def _kept(function: Any) -> Any:
    """Compiled function, kept in numba's cache: beside the sources, or in the user's cache folder."""
    njit: Any = numba.njit  # its stubs lack these options
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no folder can be written: it is compiled in every process
        return njit(nogil=True)(function)


LOOP: Final[dict[str, Any]] = {name: _kept(function) for name, function in engine.functions(sources()).items()}
"""The entries, for numba to compile."""


class _Looks(event.Listener):
    """A look at the time limit at the start of every pass of the compiler over an entry."""

    def __init__(self, entry: Any) -> None:
        self.last = f"native_lowering [{entry.py_func.__qualname__}]"
        self.began_s, self.ended = monotonic(), False

    def on_start(self, started: Any) -> None:
        """Raise ``TimeIsUp`` if the pass does not fit."""
        try:
            check_time()
            if str(started.data["name"]) == self.last:
                check_room(_LAST_PASS * (monotonic() - self.began_s))
        except TimeIsUp:
            self.ended = True
            raise

    def on_end(self, ended: Any) -> None:
        """Do nothing."""


def is_compiled() -> bool:
    """Whether the event loop is compiled in this process."""
    return all(entry.signatures for entry in LOOP.values())


def compile_entries() -> None:
    """Compile the entries, or load them from numba's cache; ``TimeIsUp`` if a time limit is reached.

    Functions that were compiled by then are kept in this process.
    """
    check_time()
    for name, entry in LOOP.items():
        looks = _Looks(entry)
        try:
            with event.install_listener("numba:run_pass", looks):
                entry.compile((numba.int64,) * len(ENTRIES[name]))
        except Exception as error:
            if looks.ended:  # numba words exceptions of its passes anew
                raise TimeIsUp(_UNFINISHED) from error
            raise

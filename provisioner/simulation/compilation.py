"""Compilation of the event loop within a time limit: numba is interrupted between its passes."""

from time import monotonic
from typing import Any, Final

import numba
from numba.core import event

from provisioner.deadline import TimeIsUp, check_room, check_time
from provisioner.simulation import records
from provisioner.simulation.engine import advance, apply_outage

# The last pass links and optimises all functions in one call of LLVM: this share of the time of all passes before it.
# Measured 0.14 (numba 0.68).
_LAST_PASS: Final = 0.15
_ABOUT: Final = "some 15 s"  # on two cores of 2.5 GHz
NOTICE: Final = f"compiling the simulator: once on this machine ({_ABOUT}), then it is kept"
_UNFINISHED: Final = f"while the simulator was compiled, which takes {_ABOUT} once on a machine"


class _Looks(event.Listener):
    """A look at the time limit at the start of every pass of the compiler."""

    def __init__(self) -> None:
        self.began_s, self.ended = monotonic(), False

    def on_start(self, started: Any) -> None:
        """Raise ``TimeIsUp`` if the pass does not fit."""
        name, last = str(started.data["name"]), f"native_lowering [{advance.py_func.__qualname__}]"
        try:
            check_time()
            if name == last:
                check_room(_LAST_PASS * (monotonic() - self.began_s))
        except TimeIsUp:
            self.ended = True
            raise

    def on_end(self, ended: Any) -> None:
        """Do nothing."""


def compile_entries(*, outages: bool) -> None:
    """Compile the event loop, or load it compiled; ``TimeIsUp`` if a time limit is reached.

    Functions that were compiled by then are kept in this process.
    """
    check_time()
    looks = _Looks()
    try:
        with event.install_listener("numba:run_pass", looks):
            world = numba.from_dtype(records.WORLD)[::1]
            advance.compile((world, numba.int64))
            if outages:
                apply_outage.compile((world,))
    except Exception as error:
        if looks.ended:  # numba words exceptions of its passes anew
            raise TimeIsUp(_UNFINISHED) from error
        raise


def is_compiled(*, outages: bool) -> bool:
    """Whether the event loop is compiled in this process."""
    compiled: bool = advance.signatures and (apply_outage.signatures or not outages)
    return compiled

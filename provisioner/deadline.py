"""The time limit of a question: when its work has to end. Every long loop looks at it.

The clock starts with the process on the command line, and with the call in Python. Work ends a little before the limit,
since putting the answer together and showing it take time too.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from time import monotonic, process_time
from typing import Final, TypeVar

from provisioner.errors import InfeasibleError
from provisioner.progress import Progress
from provisioner.spelling import spelled

LOADED_S: Final = monotonic() - process_time()  # when the process began, at the latest
began_s: ContextVar[float | None] = ContextVar("began_s", default=None)  # limits count from it; None: from the call
_ends_at_s: ContextVar[float] = ContextVar("ends_at_s", default=math.inf)
OUT_OF_TIME: Final = "the time limit was reached before there was an answer"
_ANSWER_S: Final = 0.4  # of a processor's time, kept for the answer; of a short limit no more than a share
_ANSWER_SHARE: Final = 0.1
_EVERY: Final = 2_000  # rounds of a short loop between two looks: some ms

Item = TypeVar("Item")


class TimeIsUp(Exception):
    """The time limit is reached, or what is left does not fit in it, or a plan is enough and there is one.

    Its text names work in progress that is done once on a machine.
    """


@contextmanager
def ending(at_s: float, anew: bool = False) -> Iterator[None]:
    """Work that has to end at a time, by ``monotonic``, or earlier if it is limited already and not ``anew``."""
    before = _ends_at_s.set(at_s if anew else min(at_s, _ends_at_s.get()))
    try:
        yield
    finally:
        _ends_at_s.reset(before)


@contextmanager
def limited(limit_s: float | None, progress: Progress | None = None) -> Iterator[Progress]:
    """A time limit on the answer to a question, and ``progress``, which looks at it.

    ``InfeasibleError`` where it is reached without an answer.
    """

    def tell(text: str) -> None:
        check_time()
        if progress is not None:
            progress(text)

    now_s = monotonic()
    since_s, work_s = began_s.get() or now_s, math.inf
    if limit_s is not None:
        slowed = max(1.0, (now_s - since_s) / process_time())  # by others on the machine, as the start was
        work_s = limit_s - min(slowed * _ANSWER_S, _ANSWER_SHARE * limit_s)
    try:
        with ending(since_s + work_s):
            yield tell
    except TimeIsUp as end:
        limit, doing = spelled("time_limit_s"), f", {end}" if str(end) else ""
        other = "this once" if doing else "or a question of fewer machine types and designs"
        raise InfeasibleError(
            f"{OUT_OF_TIME}{doing}", binding=limit, relaxations=(f"a longer {limit}, {other}",)
        ) from None


def time_left_s() -> float:
    """Time left of the limit in s, 0 or above; infinite without one."""
    return max(_ends_at_s.get() - monotonic(), 0.0)


def check_time() -> None:
    """Raise ``TimeIsUp`` if the time limit is reached."""
    if monotonic() >= _ends_at_s.get():
        raise TimeIsUp


def check_room(takes_s: float) -> None:
    """Raise ``TimeIsUp`` if work that cannot be interrupted does not fit in the time left."""
    if monotonic() + takes_s >= _ends_at_s.get():
        raise TimeIsUp


def in_time(items: Iterable[Item]) -> Iterator[Item]:
    """The items of a long loop of short rounds, with a look at the time limit every few thousand."""
    for k, item in enumerate(items):
        if k % _EVERY == 0:
            check_time()
        yield item

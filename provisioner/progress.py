"""Progress of long work, as texts; a ``Step`` also knows the share that is done.

The caller of long work gives a function that takes a text. A bar can be drawn of a ``Step``, which is otherwise a text
as any other. Imports the standard library only.
"""

from collections.abc import Callable
from typing import Self

Progress = Callable[[str], None]  # a function that takes the texts


class Step(str):
    """A text on long work with ``done`` of ``total`` finished, in any unit, and the time left in s if the text has it.

    >>> step = Step("3 of 4 points", 3, 4)
    >>> step.share, worded(step, before="sweeping: ")
    (0.75, 'sweeping: 3 of 4 points')
    """

    __slots__ = ("done", "left_s", "total")

    done: float
    total: float
    left_s: float | None

    def __new__(cls, text: str, done: float, total: float, left_s: float | None = None) -> Self:
        """A text with the progress of the work."""
        step = super().__new__(cls, text)
        step.done, step.total, step.left_s = done, total, left_s
        return step

    @property
    def share(self) -> float:
        """Share of the work that is done, 0 to 1; 1 where there is none to do."""
        return min(max(self.done / self.total, 0.0), 1.0) if self.total > 0 else 1.0


def worded(text: str, before: str = "", after: str = "") -> str:
    """The text with words before and after it; a ``Step`` stays one."""
    if isinstance(text, Step):
        return Step(f"{before}{text}{after}", text.done, text.total, text.left_s)
    return f"{before}{text}{after}"

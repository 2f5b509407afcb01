"""What long work tells of itself: texts, of which some know how far the work is.

Whoever asks for long work gives a function of a text. A ``Step`` is a text that a bar can be drawn of; to everybody
else it is the text. Imports the standard library only.
"""

from __future__ import annotations


class Step(str):
    """A text on long work with ``done`` of ``total`` of it, in any unit, and the time left in s if the text says it.

    >>> step = Step("3 of 4 points", 3, 4)
    >>> step.share, worded(step, before="sweeping: ")
    (0.75, 'sweeping: 3 of 4 points')
    """

    __slots__ = ("done", "left_s", "total")

    done: float
    total: float
    left_s: float | None

    def __new__(cls, text: str, done: float, total: float, left_s: float | None = None) -> Step:
        """A text with how far the work is."""
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

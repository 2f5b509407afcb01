"""The errors a user can meet: each is one line of text and has the exit code of the command line.

``ProvisionerError`` is the root; everything below it is shown without a traceback. Anything else that
escapes is a defect of this program. Imports the standard library only.
"""

import re
from collections.abc import Iterable
from itertools import takewhile
from math import inf


class ProvisionerError(Exception):
    """Root of the errors shown to the user as one line; exit code 2."""

    exit_code = 2


class InputError(ProvisionerError):
    """An error in the input: the message says what is wrong, where, and how to mend it; exit code 2."""


_MOST_NAMES = 24


class UnknownNameError(InputError):
    """An unknown name; the message offers the nearest known ones.

    >>> print(UnknownNameError("machine", "dgx-h10", ["dgx-a100", "dgx-h100"]))
    unknown machine 'dgx-h10': did you mean dgx-h100? (known: dgx-a100, dgx-h100)
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        from difflib import SequenceMatcher, get_close_matches

        self.kind = kind
        self.name = name
        self.known = tuple(known)
        given = str(name).lower()

        def nearness(other: str) -> tuple[float, int]:
            same = (a == b for a, b in zip(other, given, strict=False))
            return SequenceMatcher(None, other, given).ratio(), sum(takewhile(bool, same))

        near = max(get_close_matches(given, self.known, 8, 0.6), key=nearness, default="")
        hint = f": did you mean {near}?" if near else ""
        sizes, words = ([re.findall(p, each) for each in (given, near)] for p in (r"\d+(?:\.\d+)?", "[a-z]{2,}"))
        alike = sizes[0] == sizes[1] and SequenceMatcher(None, "".join(words[0]), "".join(words[1])).ratio() > 0.8
        if near and kind == "model" and not alike:
            hint = f": the nearest is {near}, of another size, version or architecture"
        many = len(self.known) > _MOST_NAMES
        shown = get_close_matches(given, self.known, _MOST_NAMES // 2, 0.0) if many else self.known
        more = f", and {len(self.known) - len(shown)} more" if many else ""
        super().__init__(f"unknown {kind} {name!r}{hint} (known: {', '.join(shown) or 'none'}{more})")


class ModelDoesNotFitError(InputError):
    """A model whose weights and KV cache do not fit in the memory of a machine; exit code 2."""


class InfeasibleError(ProvisionerError):
    """A well-formed question that no plan answers; exit code 3.

    ``binding`` names the limit that no candidate meets, ``relaxations`` the smallest changes that would make
    the question feasible, nearest first; ``miss_ratio`` is how many times over a limit the nearest candidate is.
    """

    exit_code = 3

    def __init__(
        self, message: str, *, binding: str = "", relaxations: Iterable[str] = (), miss_ratio: float = inf
    ) -> None:
        self.binding = binding
        self.relaxations = tuple(relaxations)
        self.miss_ratio = miss_ratio
        super().__init__(message)


class Interrupted(KeyboardInterrupt):
    """Interrupted work, with the part done and the part ``kept``."""

    def __init__(self, done: str, kept: str = "nothing written") -> None:
        super().__init__(f"{done}; {kept}")

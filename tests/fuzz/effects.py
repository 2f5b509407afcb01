"""Options without effect: each option added to a working command line, and what it changes of the answer.

``python -m tests.fuzz.effects COMMAND...`` shows the options that are accepted and change nothing.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

from provisioner.cli import main
from tests.fuzz.cases import BASES, Parameter, parameters
from tests.fuzz.files import make_all

_TIMES: Final = ("elapsed_s", "took_s", "wall_s", "seconds_per_run", "simulated_in_s")
_ECHO: Final = ("question", "command", "versions", *_TIMES)
"""Keys of a result that say what was asked, or how long it took."""

_TRIED: Final = 4
"""Values of an option that are tried at most."""

Ended = tuple[object, object]
"""Exit code and answer, which has the warnings too."""


def _stripped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _stripped(each) for key, each in value.items() if key not in _ECHO}
    return [_stripped(each) for each in value] if isinstance(value, list) else value


@cache
def _ended(line: tuple[str, ...]) -> Ended:
    make_all(Path.cwd(), line)
    out = io.StringIO()
    code: object = 1
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        code = main([*line, *(() if "--json" in line else ("--json",))])
    try:
        return code, _stripped(json.loads(out.getvalue()))
    except ValueError:
        return code, out.getvalue()


def _values(each: Parameter) -> list[str]:
    good = each.values.good or each.values.odd
    step = max(1, len(good) // _TRIED)
    return [*good[::step][:_TRIED]]


def without_effect(command: str, base: str) -> Iterator[tuple[str, list[str]]]:
    """The options that are accepted and change nothing, with the values that were tried."""
    line = (*command.split(), *shlex.split(base))
    asked = _ended(line)
    for each in parameters()[command]:
        if not each.flag or each.flag in line:
            continue
        values = [""] if each.switch else _values(each)
        same = []
        for value in values:
            ended = _ended((*line, *each.typed(value)))
            if ended[0] not in (0, 2) or (ended[0] == 0 and ended != asked):
                break
            same += [value] * (ended == asked)
        else:
            if same:
                yield each.flag, same


if __name__ == "__main__":
    os.chdir(tempfile.mkdtemp())
    for name in sys.argv[1:]:
        for base in BASES[name]:
            print(f"{name} {base}", flush=True)
            for flag, values in without_effect(name, base):
                print(f"   {flag}: {values}", flush=True)

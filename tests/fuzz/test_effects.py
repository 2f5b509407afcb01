"""No option is accepted without effect: each is added to working command lines, and changes the answer or is refused.

What need not change an answer has its reason here. ``pytest -m slow tests/fuzz/test_effects.py``: minutes a command.
"""

from __future__ import annotations

import contextlib
import io
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from provisioner.cli import main
from tests.fuzz.cases import BASES, Parameter, parameters
from tests.fuzz.files import make_all

_ECHO: Final = ("question", "command", "versions", "elapsed_s", "took_s", "wall_s", "seconds_per_run", "simulated_in_s")
"""Keys of a result that say what was asked, or how long it took."""

_TRIED: Final = 4
"""Values of an option that are tried at most."""

_FILES: Final = "writes files, or goes on with them; the answer stays"
_WORK: Final = "says how the work is done; the answer stays"
_BOUND: Final = "is a bound, which need not bind"
_ASKED: Final = "the value is the default, or what the line asks for already"
REASONS: Final = {
    **dict.fromkeys(("--out", "--json", "--table", "--records", "--timeline", "--write-lp", "--resume"), _FILES),
    **dict.fromkeys(("--threads", "--dask", "--solver", "--exhaustive", "--cut-margin", "--time-limit"), _WORK),
    **dict.fromkeys(("--max-cost", "--max-power", "--max-machines", "--stock", "--evidence", "--network"), _BOUND),
    **dict.fromkeys(("--max-pending-tokens", "--max-preemptions", "--transfer-retry", "--links"), _BOUND),
    **dict.fromkeys(
        ("--failed-rows", "--seed", "--objective", "--watch", "--dtype", "--kv-dtype", "--machine"), _ASKED
    ),
    **dict.fromkeys(("--power-caps", "--percentile", "--concurrency", "--reference", "--policy", "--engine"), _ASKED),
    "--specs": "adds names; those of the line stay",
}
"""Options that may leave an answer as it is."""


def _stripped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _stripped(each) for key, each in value.items() if key not in _ECHO}
    return [_stripped(each) for each in value] if isinstance(value, list) else value


def _ended(line: tuple[str, ...]) -> tuple[object, object]:
    """The exit code and the answer of a command line, which has the warnings too."""
    make_all(Path.cwd(), line)
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
        code = main([*line, *(() if "--json" in line else ("--json",))])
    try:
        return code, _stripped(json.loads(out.getvalue()))
    except ValueError:
        return code, out.getvalue()


def _values(each: Parameter) -> list[str]:
    good = each.values.good or each.values.odd
    return [*good[:: max(1, len(good) // _TRIED)][:_TRIED]]


def without_effect(command: str, base: str) -> Iterator[str]:
    """The options that are accepted and change nothing, with the values that were tried."""
    line = (*command.split(), *shlex.split(base))
    asked = _ended(line)
    assert asked[0] == 0, line
    for each in parameters()[command]:
        if not each.flag or each.flag in line or each.flag in REASONS:
            continue
        same = []
        for value in [""] if each.switch else _values(each):
            ended = _ended((*line, *each.typed(value)))
            if ended[0] not in (0, 2) or (ended[0] == 0 and ended != asked):
                break
            same += [value] * (ended == asked)
        else:
            if same:
                yield f"{each.flag} {', '.join(same)}".strip()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "base"), [(name, base) for name, bases in BASES.items() if name != "profile" for base in bases]
)
def test_every_option_has_an_effect_or_is_refused(
    command: str, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert [*without_effect(command, base)] == []

"""Requests drawn from a folder of ServeGen: the rates of each client by window, and its lengths by period.

Format: github.com/alibaba/ServeGen (README.md, servegen/clientpool.py, servegen/construct.py). A row of
``chunk-N-trace.csv`` is a window of client N: its start in s, requests/s, the CV of the gaps, their pattern, and the
pattern's shape and scale. ``chunk-N-dataset.json`` has, by the start of each period in s, the share of each number of
tokens by field.
"""

import io
import json
import os
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np

from provisioner.deadline import check_time
from provisioner.errors import InputError
from provisioner.files import read_text
from provisioner.specs.lengths import FloatArray, IntArray
from provisioner.specs.trace_formats import TraceRules
from provisioner.specs.units import format_count, quoted
from provisioner.spelling import spelled

MOST_REQUESTS, MOST_TOKENS = 10_000_000, 100_000_000
SHAPES = 0.01, 1e6  # below the least, gaps of 0 and infinity are drawn

_COLUMNS: Final = {"start": "f8", "rate": "f8", "cv": "f8", "pattern": "U8", "shape": "f8", "scale": "f8"}
_GAPS: Final = {"Gamma": "standard_gamma", "Weibull": "weibull"}

Window = tuple[float, float, float, str, float]  # start and length in s, requests/s, pattern and shape of the gaps
Shares = tuple[IntArray, FloatArray]  # numbers of tokens, and the share of the requests that has each


def client_files(folder: str | Path) -> dict[int, Path]:
    """The windows of each client in a folder, by its number; none in a folder of another kind, or a file."""
    paths = Path(folder).glob("chunk-*-trace.csv") if os.path.isdir(folder) else ()
    return {int(match[1]): path for path in paths if (match := re.fullmatch(r"chunk-(\d{1,9})-.*", path.name))}


def draw(files: Mapping[int, Path], rules: TraceRules) -> tuple[FloatArray, IntArray, IntArray]:
    """Arrivals in s from the start of the span on, prompt and output tokens of all clients, in order of time.

    A window has its rate times its length of requests, at random up or down to a whole number. Their gaps, with those
    to both ends of the window, are drawn by its pattern and shape and stretched to its length. Prompt and output tokens
    are drawn apart, each by its shares in the last period before the window. Each client has random numbers of its own.
    """
    from_s, until_s = rules.span_s or (0.0, np.inf)
    windows = {client: _windows(path, from_s, until_s) for client, path in files.items()}
    expected = sum(rate * length for each in windows.values() for _, length, rate, *_ in each)
    some = f"1 to {format_count(MOST_REQUESTS)} are drawn: give another part with {spelled('span_s')}, such as 18h:19h"
    if expected > MOST_REQUESTS:
        raise InputError(f"{files[min(files)].parent}: has {format_count(expected)} requests; {some}")
    drawn = [(np.empty(0), np.empty(0, np.int64), np.empty(0, np.int64))]
    for client, path in sorted(files.items()):
        check_time()
        rng = np.random.default_rng([rules.seed, client, 1])  # two numbers seed the request sets of a simulation
        beside = path.with_name(path.name.replace("trace.csv", "dataset.json"))
        periods, arrivals = _periods(beside), defaultdict[float, list[FloatArray]](list)
        for start, length, rate, pattern, shape in windows[client]:
            if count := int(round(rate * length, 6) + rng.random()):
                if (period := max((each for each in periods if each <= start), default=None)) is None:
                    raise InputError(f"{beside}: has no lengths for the requests from {start:g} s on")
                ends = np.cumsum(getattr(rng, _GAPS[pattern])(shape, count + 1))
                arrivals[period].append(start - from_s + length * ends[:-1] / (ends[-1] or 1.0))
        for period, parts in arrivals.items():
            time = np.concatenate(parts)
            prompt, output = (rng.choice(tokens, time.size, p=shares) for tokens, shares in periods[period])
            drawn.append((time, prompt, output))
    time, prompt, output = (np.concatenate(each) for each in zip(*drawn, strict=True))
    if not time.size:
        raise InputError(f"{files[min(files)].parent}: has no requests; {some}")
    order = np.argsort(time, kind="stable")
    return time[order], prompt[order], output[order]


def _windows(path: Path, from_s: float, until_s: float) -> list[Window]:
    """The windows of a client that have requests between two times, cut to them."""
    check_time()
    text = io.StringIO(read_text(path))
    try:
        rows = np.loadtxt(text, [*_COLUMNS.items()], delimiter=",", comments=None, ndmin=1)
    except ValueError as error:
        raise InputError(f"{path}: is not of windows ({', '.join(_COLUMNS)}): {error}") from None
    start, rate, pattern, shape = (rows[name] for name in ("start", "rate", "pattern", "shape"))
    has = rate > 0.0
    is_right = (np.diff(start, prepend=-1.0) > 0.0) & np.isfinite(start) & (rate >= 0.0) & np.isfinite(rate)
    is_right &= ~has | np.isin(pattern, [*_GAPS]) & (shape >= SHAPES[0]) & (shape <= SHAPES[1])
    if not is_right.all():
        least, most = SHAPES
        gaps = f"{' or '.join(_GAPS)} with a shape from {least:g} to {most:g}"
        must_be = f"must start after the one before, with a rate of 0, or above 0 and {gaps}"
        raise InputError(f"{path}: row {(k := np.argmin(is_right)) + 1}: {must_be}, got {rows[k]}")
    if rows.size < 2:
        raise InputError(f"{path}: has {rows.size} windows; from two on they tell their length")
    end = np.minimum(np.append(start[1:], 2 * start[-1] - start[-2]), until_s)
    start = np.maximum(start, from_s)
    kept = has & (end > start)
    return [*zip(*(each[kept].tolist() for each in (start, end - start, rate, pattern, shape)), strict=True)]


def _periods(path: Path) -> dict[float, list[Shares]]:
    """Shares of prompt and of output tokens by the start of a period; periods without any are left out."""
    periods, what = dict[float, list[Shares]](), str(path)
    text = read_text(path)
    try:
        for start, fields in json.loads(text).items():
            what = f"{path}: period {quoted(start)}"
            both = [_shares(fields[name]) for name in ("input_tokens", "output_tokens")]
            if all(tokens.size for tokens, _ in both):
                periods[float(start)] = both
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        shares = "texts such as {18: 0.25, 20: 0.75}: whole numbers of tokens, with shares that are 1 in all"
        raise InputError(f"{what}: must have input_tokens and output_tokens, {shares}") from None
    return periods


def _shares(text: str) -> Shares:
    pairs = [pair.split(":") for pair in text.strip("{} ").split(",") if pair.strip()]
    tokens, shares = np.array(pairs, np.float64).reshape(-1, 2).T
    is_right = (tokens == np.floor(tokens)) & (tokens >= 1) & (tokens <= MOST_TOKENS) & (shares >= 0)
    if pairs and not (is_right.all() and abs(shares.sum() - 1.0) < 1e-3):
        raise ValueError
    return tokens.astype(np.int64), shares / (shares.sum() or 1.0)

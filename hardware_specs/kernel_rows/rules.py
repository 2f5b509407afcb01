"""Rows of measured kernels, and rules that refuse those that cannot be true or that a served model does not meet."""

from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from provisioner.perf.operators import AXES, MIN_KERNEL_S, SMALLEST
from provisioner.specs.kernels import Source

Floats = NDArray[np.float64]

FALL: Final = 1.5
"""Factor by which a row is slower than a larger problem from which it is refused: beyond the 30 % by which kernels
chosen for neighbouring sizes differ."""
SLOWER: Final = 1.25
"""Factor by which a row is slower than the same problem in a wider type or on a lesser GPU from which it takes the
other's time."""
FIRST: Final = (("vllm", "0.14.0"), ("vllm", "0.19.0"))
"""Software whose fp8 products take the time of bf16 where they are slower, as its tables always did. Others keep their
own, since an engine does not choose a number type by product, without their inputs' quantization."""
LAUNCH_S: Final = 5e-6
"""Time of one more kernel launch with its quantisation, in s, which either comparison allows for."""
NARROWEST: Final = 128
"""Columns of the narrowest products of the sources, whose time beside their inputs' quantization is that of 16 bits."""
FEW: Final = 16
"""Rows up to which the time of quantizing inputs is that of its launch."""
HOST_S: Final = 20e-6
"""Time in s that a kernel's smallest problem takes at most: the slowest of those that are not host time takes 14 us."""
IMPOSSIBLE_SHARE: Final = 0.05
"""Share of rows beyond the arithmetic peak from which all rows of that kernel are refused."""
COLD_BYTES: Final = 256e6
"""Bytes beyond which no cache of these GPUs holds a kernel's operands (the largest is 126 MB)."""
SUSTAINED_QUANTILE: Final = 0.9
"""Quantile of the utilisation of memory-bound rows beyond ``COLD_BYTES`` that counts as sustained by the memory."""


@dataclass(slots=True)
class Rows:
    """Rows of one operator and kind of one software on one GPU: sizes, time, limits, and the outcome of the rules."""

    gpu: str
    source: Source
    operator: str
    kind: str
    sizes: Floats  # (rows, axes)
    time_s: Floats
    limit_s: Floats
    compute_s: Floats
    bytes: Floats
    order: Floats  # sizes that all make the work larger, for the rule "slower than a larger problem"
    within: Floats  # what must be equal for that comparison
    used: NDArray[np.bool_] = field(init=False)
    rules: dict[str, dict[str, Any]] = field(default_factory=dict)
    listed: list[tuple[str, str, float]] = field(default_factory=list)  # rule, problem, by what factor

    def __post_init__(self) -> None:
        """Use all rows until a rule refuses them, except problems below the smallest of the tables."""
        self.used = np.asarray((self.sizes >= np.array(list(SMALLEST[self.operator].values()))).all(axis=1))

    @property
    def rows(self) -> int:
        """Rows of the source that are no smaller than the table's smallest problem."""
        return int((self.sizes >= np.array(list(SMALLEST[self.operator].values()))).all(axis=1).sum())

    @property
    def utilisation(self) -> Floats:
        """Physical limit over time."""
        return self.limit_s / self.time_s

    def refuse(self, rule: str, which: NDArray[np.bool_], ratio: Floats, replaced: bool = False) -> None:
        """Note rows that a rule refuses, with the worst as examples; ``replaced`` rows stay, with another time."""
        which = which & self.used
        if not which.any():
            return
        found = np.flatnonzero(which)[np.argsort(-ratio[which], kind="stable")]
        self.listed += [(rule, self.problem(i), float(ratio[i])) for i in found]
        self.rules[rule] = {
            "rows": int(which.sum()),
            "examples": [f"{problem}: {factor:.2g} times" for _, problem, factor in self.listed[-found.size :][:2]],
        }
        if not replaced:
            self.used &= ~which

    def problem(self, row: int) -> str:
        """Text of a row's sizes."""
        names = AXES[self.operator]
        return ", ".join(f"{name} {size:g}" for name, size in zip(names, self.sizes[row], strict=True))

    def bound(self, rule: str, other: "Rows", replaced: bool = True) -> None:
        """Note rows slower than ``SLOWER`` times those of the same problem and a launch, which take their time instead.

        If not ``replaced``, they are counted and keep their own.
        """
        at: dict[tuple[float, ...], float] = {}
        for key, t, ok in zip(other.identity, other.time_s.tolist(), other.used, strict=True):
            if ok:
                at[key] = min(t, at.get(key, t))
        best = np.array([at.get(key, np.inf) for key in self.identity])
        slower = self.time_s > SLOWER * best + LAUNCH_S
        self.refuse(rule, slower, self.time_s / best, replaced=True)
        if replaced:
            self.time_s = np.where(slower, best, self.time_s)

    @property
    def identity(self) -> list[tuple[float, ...]]:
        """Sizes in every respect, which identify a row's problem."""
        return [tuple(row) for row in np.column_stack([self.sizes, self.order]).tolist()]


def check(rows: Rows, wider: Rows | None = None, lesser: Rows | None = None) -> None:
    """Apply the rules to the rows, in order: host time, quantization, limits, slower than a larger problem or another.

    ``wider`` are the rows of the same problems in a wider type, ``lesser`` the rows of the same chip with less
    memory bandwidth.
    """
    if rows.operator != "all_reduce" and rows.time_s.min() > HOST_S:
        rows.refuse("kernel that waits for the host: no row is shorter", rows.used.copy(), rows.time_s / HOST_S)
        return
    if wider is not None and rows.kind == "fp8" and rows.source not in FIRST:
        take_off_quantization(rows, wider)
    beyond = rows.compute_s / rows.time_s
    impossible = beyond > 1
    if impossible.mean() > IMPOSSIBLE_SHARE:
        rows.refuse("kernel with rows beyond the arithmetic peak", np.ones_like(impossible), beyond)
        return
    rows.refuse("beyond the arithmetic peak", impossible, beyond)
    memory_bound = rows.limit_s > rows.compute_s
    cold = memory_bound & (rows.bytes > COLD_BYTES) & (rows.utilisation <= 1)
    if cold.sum() >= 10:
        sustained = float(np.quantile(rows.utilisation[cold], SUSTAINED_QUANTILE))
        cached = memory_bound & (rows.utilisation > sustained)
        rows.refuse(
            "faster than memory sustains (operands in the cache): the sustained rate is used",
            cached & (rows.utilisation > 1),
            rows.utilisation,
            replaced=True,
        )
        rows.time_s = np.where(cached, rows.limit_s / sustained, rows.time_s)
    else:
        rows.refuse("beyond the memory bandwidth", rows.utilisation > 1, rows.utilisation)
    fastest = fastest_larger(rows)
    rows.refuse("slower than a larger problem", rows.time_s > FALL * fastest + LAUNCH_S, rows.time_s / fastest)
    if wider is not None:
        taken = rows.source in FIRST and rows.kind == "fp8"
        says = "the wider type's time is used" if taken else "kept"
        rows.bound(f"slower than a wider type: {says}", wider, taken)
    if lesser is not None:
        rows.bound("slower than the same chip with less memory bandwidth: that chip's time is used", lesser)


def take_off_quantization(rows: Rows, wider: Rows) -> None:
    """Take the time in which products quantize their inputs, scales included, off rows that count it.

    Rows count it if the smallest problem of ``FEW`` rows or less takes ``LAUNCH_S`` more than in 16 bits, on the
    median. It depends on m and k alone, and is what the narrowest product of both takes more than in 16 bits. A
    checkpoint in FP8 brings the scales of its inputs, which kernels before the product quantize.
    """

    def narrowest(of: Rows) -> dict[tuple[float, float], float]:
        found = of.sizes[:, 1] == NARROWEST
        return {(m, k): t for (m, _, k), t in zip(of.sizes[found].tolist(), of.time_s[found].tolist(), strict=True)}

    in_16_bits = narrowest(wider)
    more = {at: max(t - in_16_bits[at], 0.0) for at, t in narrowest(rows).items() if at in in_16_bits}
    smallest = [t for (m, k), t in more.items() if k == NARROWEST and m <= FEW]
    if not smallest or np.median(smallest) <= LAUNCH_S:
        return
    taken_s = np.array([more.get((m, k), np.nan) for m, _, k in rows.sizes.tolist()])
    known = ~np.isnan(taken_s)
    rows.refuse("counts its inputs' quantization, of which no narrowest product tells", ~known, rows.time_s)
    left_s = np.maximum(rows.time_s - np.where(known, taken_s, 0.0), MIN_KERNEL_S)
    rows.refuse("counts its inputs' quantization: it is taken off", known, rows.time_s / left_s, replaced=True)
    rows.time_s = left_s


def fastest_larger(rows: Rows) -> Floats:
    """Shortest time among the used rows that are at least as large in every respect, itself included, in s."""
    result = rows.time_s.copy()
    for group in np.unique(rows.within, axis=0):
        inside = np.flatnonzero((rows.within == group).all(axis=1) & rows.used)
        if not inside.size:
            continue
        index = [np.unique(rows.order[inside, i], return_inverse=True) for i in range(rows.order.shape[1])]
        grid = np.full([values.size for values, _ in index], np.inf)
        place = tuple(position for _, position in index)
        np.minimum.at(grid, place, rows.time_s[inside])
        for axis in range(grid.ndim):
            grid = np.flip(np.minimum.accumulate(np.flip(grid, axis), axis), axis)
        result[inside] = grid[place]
    return result

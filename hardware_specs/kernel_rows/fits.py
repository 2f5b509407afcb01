"""Fits of utilisation tables to rows: least absolute deviations of the logarithm on a coarse grid."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from kernel_rows.rules import Rows
from provisioner.perf.operators import GridTable

Floats = NDArray[np.float64]

NODES: Final[Mapping[str, tuple[tuple[float, ...], ...]]] = {
    "gemm": (
        (1, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 32768),
        (128, 512, 1024, 2048, 4096, 8192, 16384, 65536),
        (128, 512, 1024, 2048, 4096, 8192, 16384, 65536),
    ),
    "prompt_attention": (
        (16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384),
        (1, 2, 4, 8, 16, 32, 64, 128, 512, 2048),
        (1, 4, 16),
    ),
    "decode_attention": (
        (64, 256, 512, 1024, 2048, 4096, 8192, 16384, 65536),
        (1, 4, 8, 16, 32, 64, 128, 256, 1024),
        (1, 2, 4, 8),
        (1, 4, 16),
    ),
    "all_reduce": ((2, 4, 8), tuple(float(4**i) for i in range(5, 16))),
    "elementwise": (tuple(float(4**i) for i in range(5, 16)),),
}
"""Nodes of each operator's grid, by ``operators.AXES``."""

SMOOTHNESS: Final = 0.03
"""Weight of a node's second differences against one row: it only fills nodes that few rows support."""
SEED: Final = 2026
ROUNDS: Final = 12
"""Rounds of re-weighting from squares to absolute deviations."""


def nodes_of(rows: Rows) -> tuple[tuple[float, ...], ...]:
    """Nodes of a table of the rows: their operator's, of GPU counts only those measured."""
    nodes = NODES[rows.operator]
    if rows.operator != "all_reduce":
        return nodes
    return tuple(gpus for gpus in nodes[0] if gpus in rows.sizes[:, 0]), *nodes[1:]


def fit(nodes: Sequence[Sequence[float]], sizes: Floats, utilisation: Floats) -> GridTable:
    """Grid table nearest to the rows: least absolute deviations of the logarithm of utilisation.

    ``sizes`` (rows, axes), ``utilisation`` (rows,). Rows outside the grid count as on its edge. No node is above the
    best row: those that few rows support continue the others, and would pass what any kernel reached.
    """
    from scipy import sparse
    from scipy.sparse.linalg import spsolve

    axes = tuple(np.array(axis, dtype=np.float64) for axis in nodes)
    design: Any = sparse.csr_matrix(np.ones((len(sizes), 1)))
    for axis, size in zip(axes, sizes.T, strict=True):
        design = _row_products(design, _hats(axis, size))
    count = design.shape[1]
    smooth: Any = sum((bend.T @ bend for bend in _bends(axes)), start=sparse.csr_matrix((count, count)))
    smooth = SMOOTHNESS**2 * smooth + 1e-9 * sparse.identity(count)
    target = np.log(utilisation)
    weight = np.ones_like(target)
    for _ in range(ROUNDS):
        normal = design.T @ design.multiply(weight[:, None]).tocsr() + smooth
        values = spsolve(normal.tocsc(), design.T @ (weight * target))
        weight = 1 / np.maximum(np.abs(design @ values - target), 0.02)
        weight /= weight.mean()
    shape = tuple(axis.size for axis in axes)
    capped = np.exp(np.minimum(values, target.max())).clip(1e-4)
    return GridTable(axes, np.round(capped, 4).reshape(shape))


def _hats(axis: Floats, size: Floats) -> Any:
    """Weights of linear interpolation in logarithms as a sparse matrix (rows, nodes)."""
    from scipy import sparse

    position = np.interp(np.log(size), np.log(axis), np.arange(axis.size, dtype=np.float64))
    low = np.minimum(position.astype(int), axis.size - 2)
    share = position - low
    row = np.arange(size.size)
    entries = (np.r_[1 - share, share], (np.r_[row, row], np.r_[low, low + 1]))
    return sparse.csr_matrix(entries, (size.size, axis.size))


def _row_products(left: Any, right: Any) -> Any:
    """Products of the rows of two sparse matrices: (rows, a) and (rows, b) to (rows, a x b)."""
    from scipy import sparse

    entries = left.tocoo()
    scaled = right[entries.row].multiply(entries.data[:, None]).tocoo()
    columns = entries.col[scaled.row] * right.shape[1] + scaled.col
    shape = (right.shape[0], left.shape[1] * right.shape[1])
    return sparse.csr_matrix((scaled.data, (entries.row[scaled.row], columns)), shape)


def _bends(axes: Sequence[Floats]) -> Iterable[Any]:
    """Distance of each inner node from the line between its neighbours, per axis: (bends, nodes of the grid)."""
    from scipy import sparse

    for i, axis in enumerate(axes):
        step = np.diff(np.log(axis))
        both = step[:-1] + step[1:]
        inner = (max(axis.size - 2, 0), axis.size)
        bend = sparse.diags([step[1:] / both, -np.ones_like(both), step[:-1] / both], (0, 1, 2), shape=inner)
        whole = sparse.csr_matrix(np.ones((1, 1)))
        for at, other in enumerate(axes):
            whole = sparse.kron(whole, bend if at == i else sparse.identity(other.size), format="csr")
        yield whole


def errors(table: GridTable, rows: Rows) -> dict[str, float | int]:
    """Error of the table's time against the used rows, as fractions of the measured time.

    Errors of rows left out are those of a table fitted to a random half of the rows, on the other half.
    """
    nodes, used = nodes_of(rows), np.flatnonzero(rows.used)
    first = np.random.default_rng(SEED).permutation(used.size) < used.size / 2
    half = fit(nodes, rows.sizes[used[first]], rows.utilisation[used[first]])
    found: dict[str, float | int] = {"rows_used": int(used.size)}
    for name, fitted, which in (("error", table, used), ("left_out", half, used[~first])):
        off = np.abs(rows.utilisation[which] / fitted(*rows.sizes[which].T) - 1)
        found |= {f"{name}_median": round(float(np.median(off)), 4)}
        found |= {f"{name}_p95": round(float(np.quantile(off, 0.95)), 4)}
    return found

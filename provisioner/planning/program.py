"""A program of binary variables as arrays: columns, an objective and named rows; PuLP states the same to be written.

HiGHS takes the arrays as they are. A variable of its own for each column, as PuLP has it, takes many times as long.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from provisioner.deadline import check_time, in_time
from provisioner.planning.candidates import Candidates

if TYPE_CHECKING:
    import pulp

Columns = NDArray[np.int64]
Coefficients = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Linear:
    """sum of coefficient * variable: both arrays (n,), each column once."""

    columns: Columns
    coefficients: Coefficients

    @classmethod
    def of(cls, parts: Iterable[tuple[Columns, Any]]) -> Self:
        """The sum over parts of columns (n,), each with one coefficient or one for each column, which no other has.

        Coefficients of 0 are left out.
        """
        both = [(columns, np.ones(columns.shape) * factors) for columns, factors in parts]
        columns = np.concatenate([each for each, _ in both] or [np.zeros(0, dtype=np.int64)])
        coefficients = np.concatenate([each for _, each in both] or [np.zeros(0)])
        kept = coefficients != 0.0
        return cls(columns[kept], coefficients[kept])

    def less(self, coefficient: float, column: int) -> "Linear":
        """This sum less a coefficient of one column."""
        if coefficient == 0.0:
            return self
        others = self.columns != column
        there = float(self.coefficients[~others].sum()) - coefficient
        return Linear(np.append(self.columns[others], column), np.append(self.coefficients[others], there))

    def at_most(self, bound: float) -> "Row":
        """The row that keeps the sum from being above a bound."""
        return Row(self, -math.inf, bound)

    def at_least(self, bound: float) -> "Row":
        """The row that keeps the sum from being below a bound."""
        return Row(self, bound, math.inf)

    def equal(self, value: float) -> "Row":
        """The row that holds the sum at a value."""
        return Row(self, value, value)


class Row(NamedTuple):
    """A sum within bounds, of which one is infinite or both are equal."""

    sum: Linear
    least: float
    most: float


Rows = dict[str, Row]


class Arrays(NamedTuple):
    """A program of V columns and R rows: the objective (V,), and rows in compressed form with their bounds (R,)."""

    objective: Coefficients
    start: NDArray[np.int32]
    column: NDArray[np.int32]
    value: Coefficients
    least: Coefficients
    most: Coefficients


@dataclass(frozen=True, slots=True)
class Program:
    """Binary columns ``design(d)``, then ``size(d,s,n)`` by design, pool and size; an objective; rows by name.

    ``first`` has the column of the first size of each pool.
    """

    candidates: tuple[Candidates, ...]
    name: str
    maximise: bool
    objective: Linear
    rows: Rows
    first: tuple[tuple[int, ...], ...] = field(init=False)
    columns: int = field(init=False)

    def __post_init__(self) -> None:
        """Number the columns."""
        count, first = len(self.candidates), []
        for option in self.candidates:
            counts = [pool.sizes.size for pool in option.pools]
            first.append(tuple(count + sum(counts[:s]) for s in range(len(counts))))
            count += sum(counts)
        object.__setattr__(self, "first", tuple(first))
        object.__setattr__(self, "columns", count)

    @classmethod
    def over(cls, candidates: Sequence[Candidates], name: str, maximise: bool = False) -> Self:
        """A program with the columns of these candidates, without objective and rows."""
        return cls(tuple(candidates), name, maximise, Linear.of(()), {})

    def sizes(self, d: int, s: int, largest: int | None = None) -> Columns:
        """Columns of a pool's sizes, of those up to the largest."""
        sizes = self.candidates[d].pools[s].sizes
        count = sizes.size if largest is None else int(np.searchsorted(sizes, largest, side="right"))
        return np.arange(self.first[d][s], self.first[d][s] + count, dtype=np.int64)

    def size(self, d: int, s: int, n: int) -> Columns:
        """Column of one size of a pool, as an array (1,)."""
        return self.sizes(d, s, n)[-1:]

    def per_machine(self, d: int, s: int, amount: float) -> tuple[Columns, Any]:
        """Columns of a pool's sizes, each with the amount of as many machines."""
        return self.sizes(d, s), self.candidates[d].pools[s].sizes * amount

    def no_larger(self, d: int, cut: Sequence[int]) -> Linear:
        """The sum of the columns of a design's sizes of at most those of a cut."""
        check_time()
        return Linear.of((self.sizes(d, s, largest), 1.0) for s, largest in enumerate(cut))

    @property
    def designs(self) -> Columns:
        """Columns of the designs."""
        return np.arange(len(self.candidates), dtype=np.int64)

    @property
    def arrays(self) -> Arrays:
        """Objective and rows as arrays."""
        objective = np.zeros(self.columns)
        objective[self.objective.columns] = self.objective.coefficients
        sums, least, most = zip(*self.rows.values(), strict=True)
        start = np.cumsum([0, *(each.columns.size for each in sums)], dtype=np.int32)
        column = np.concatenate([each.columns for each in sums]).astype(np.int32)
        value = np.concatenate([each.coefficients for each in sums])
        return Arrays(objective, start, column, value, np.array(least), np.array(most))

    def chosen(self, values: Coefficients) -> tuple[int, tuple[int, ...]]:
        """The design, by position, and the sizes of its pools in a solution (V,) of whole numbers."""
        d = int(np.argmax(values[: len(self.candidates)]))
        pools = enumerate(self.candidates[d].pools)
        return d, tuple(int(pool.sizes[np.argmax(values[self.sizes(d, s)])]) for s, pool in pools)

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        sizes = (
            f"size({d},{s},{n})"
            for d, option in enumerate(self.candidates)
            for s, pool in enumerate(option.pools)
            for n in in_time(pool.sizes)
        )
        return [*(f"design({d})" for d in range(len(self.candidates))), *sizes]

    def problem(self) -> "pulp.LpProblem":
        """The program as PuLP states it, to be written or given to another solver."""
        import pulp

        problem = pulp.LpProblem(self.name, pulp.LpMaximize if self.maximise else pulp.LpMinimize)
        variables = [problem.add_variable(name, cat="Binary") for name in in_time(self.names)]

        def expression(linear: Linear) -> pulp.LpAffineExpression:
            pairs = zip(linear.coefficients.tolist(), linear.columns.tolist(), strict=True)
            total = pulp.lpSum(coefficient * variables[column] for coefficient, column in in_time(pairs))
            for column in linear.columns[linear.coefficients == 0.0].tolist():
                total += variables[column] - variables[column]  # the product with 0 has no variable
            return total

        problem.setObjective(expression(self.objective))
        for name, row in in_time(self.rows.items()):
            total = expression(row.sum)
            if row.least == row.most:
                stated = total == row.most
            else:
                stated = total <= row.most if math.isinf(row.least) else total >= row.least
            problem.addConstraint(stated, name)
        return problem

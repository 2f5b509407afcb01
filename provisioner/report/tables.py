"""Tidy tables of results: rows of numbers, texts and nothing nested, for CSV, parquet and pandas."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from provisioner.report.serialiser import to_plain

if TYPE_CHECKING:
    import pandas as pd

Cell = str | float | int | bool | None
Row = Mapping[str, Cell]


def flat(value: object, leave_out: Collection[str] = ()) -> dict[str, Cell]:
    """Return the fields of a dataclass that are one cell each; lists of texts are joined, what is nested is left out.

    >>> from provisioner.results.cluster import Pool
    >>> flat(Pool("token", "dgx-h100", 4, 8, replicas=6), leave_out=["max_prompt_tokens"])["machines"]
    3
    """
    row: dict[str, Cell] = {}
    for name, field in to_plain(value).items():
        if isinstance(field, list) and all(isinstance(part, str) for part in field):
            field = ", ".join(field)
        if name not in leave_out and (field is None or isinstance(field, (str, int, float, bool))):
            row[name] = field
    return row


def frame(rows: Sequence[Row]) -> "pd.DataFrame":
    """Return rows as a DataFrame with a column for every name; NaN for a number that is missing."""
    import pandas as pd

    names = _names(rows)
    return pd.DataFrame({name: _typed([row.get(name) for row in rows]) for name in names}, columns=names)


def _names(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _typed(column: list[Cell]) -> object:
    """A column with missing cells in one type of pandas: truths and whole numbers nullable, other numbers with NaN."""
    import pandas as pd

    kinds = {type(cell) for cell in column if cell is not None}
    if None not in column or not kinds <= {bool, int, float}:
        return column
    if kinds in ({bool}, {int}):
        return pd.Series(column, dtype=pd.BooleanDtype() if kinds == {bool} else pd.Int64Dtype())
    return [math.nan if cell is None else float(cell) for cell in column]


def csv_text(rows: Sequence[Row]) -> str:
    """Return rows as CSV with a header line of every name that a row has.

    A number that is not finite is an empty cell. One that would run as a formula in a spreadsheet begins with an
    apostrophe.
    """
    import csv
    import io

    text = io.StringIO()
    writer = csv.DictWriter(text, _names(rows), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def _cell(value: Cell) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    return f"'{value}" if value.startswith(("=", "+", "-", "@")) else value

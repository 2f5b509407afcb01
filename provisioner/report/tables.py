"""Tidy tables of results: rows of numbers, texts and nothing nested, for CSV, parquet and pandas."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
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
        if name in leave_out or isinstance(field, dict):
            continue
        if isinstance(field, list):
            if all(isinstance(part, str) for part in field):
                row[name] = ", ".join(field)
        else:
            assert field is None or isinstance(field, (str, int, float, bool))
            row[name] = field
    return row


def frame(rows: Sequence[Row]) -> pd.DataFrame:
    """Return rows as a DataFrame with a column for every name; NaN for a number that is missing."""
    import pandas as pd

    columns = list(dict.fromkeys(name for row in rows for name in row))
    values = {name: [row.get(name) for row in rows] for name in columns}
    return pd.DataFrame({name: _typed(column) for name, column in values.items()}, columns=columns)


def _typed(column: list[Cell]) -> object:
    """A column with missing cells in one type of pandas: truths and whole numbers nullable, other numbers with NaN."""
    import pandas as pd

    kinds = {type(cell) for cell in column if cell is not None}
    if None not in column or not kinds <= {bool, int, float}:
        return column
    if kinds in ({bool}, {int}):
        return pd.Series(column, dtype=pd.BooleanDtype() if kinds == {bool} else pd.Int64Dtype())
    return [math.nan if cell is None else float(cell) for cell in column]


def csv_text(rows: Iterable[Row], columns: Sequence[str] | None = None) -> str:
    """Return rows as CSV with a header line, of these columns or of every name that a row has.

    A cell that would run as a formula in a spreadsheet begins with an apostrophe.
    """
    import csv
    import io

    listed = list(rows)
    names = list(dict.fromkeys(name for row in listed for name in row)) if columns is None else list(columns)
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for row in listed:
        writer.writerow({name: _cell(row.get(name)) for name in names})
    return text.getvalue()


def _cell(value: Cell) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)
    return f"'{value}" if value.startswith(("=", "+", "-", "@")) else value

"""The base of all results, and the one door through which they reach reports.

A result is a plain value. Views make its tables, charts, pages and files; they import results, never the other way
round, and are loaded when one is first asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from typing import TYPE_CHECKING, Final, Literal, Protocol, cast

from provisioner.results.loader import reports
from provisioner.specs.money import USD

if TYPE_CHECKING:
    from functools import cached_property as derived

    import pandas as pd
else:

    def derived(method):
        """A property that is written with the fields of a result."""
        from pydantic import computed_field

        return computed_field(property(method))


__all__ = ["SCHEMA_VERSION", "Result", "ServingResult", "derived", "door"]


class _Reports(Protocol):
    """The services of ``report.reports`` to a result, which the methods of ``Result`` describe."""

    def to_json(self, result: Result) -> str: ...
    def to_frame(self, result: Result, table: str | None) -> pd.DataFrame: ...
    def chart(self, result: Result, name: str | None, axes: object) -> object: ...
    def html(self, result: Result) -> str: ...
    def markdown(self, result: Result) -> str: ...
    def check(self, paths: Sequence[str], kind: type[Result], table: str | None) -> object: ...
    def save(self, result: Result, paths: Sequence[str], table: str | None) -> None: ...


class _Door:
    """The one way from results to their reports."""

    def open(self) -> _Reports:
        """Load the reports."""
        return cast("_Reports", reports.load())


door = _Door()


SCHEMA_VERSION: Final = 2  # version of the layout of all results as JSON; 0.1 had none


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A value that can show itself: as tables, charts, HTML, markdown, JSON and files.

    Amounts of money are in the ``currency`` of its prices, whatever the names of fields. Keys of JSON and columns
    of tables have its code in place of ``usd``; JSON has the field ``currency`` unless that is USD.
    """

    schema_version: Literal[2] = SCHEMA_VERSION
    currency: str = USD

    @property
    def unanswered(self) -> str:
        """The reason, in a line, why the question has no answer; "" if it has one."""
        return ""

    def to_json(self) -> str:
        """Return the result as JSON: what ``--json`` prints."""
        return door.open().to_json(self)

    def to_dict(self) -> dict[str, object]:
        """Return the result as plain values: what ``--json`` prints, parsed."""
        import json

        return dict(json.loads(self.to_json()))

    def to_frame(self, table: str | None = None) -> pd.DataFrame:
        """Return the main table, or another by name, as a pandas DataFrame."""
        return door.open().to_frame(self, table)

    def plot(self, name: str | None = None, axes: object = None) -> object:
        """Return the first chart, or another by name, as a chart of Altair; ``axes`` of matplotlib are refused."""
        return door.open().chart(self, name, axes)

    def save(self, path: str | PathLike[str], table: str | None = None) -> None:
        """Write the result in the format of the path's ending; to a folder, ending in a slash, all of it.

        ``table`` names the table of a .csv or .parquet file in place of the main one.
        """
        door.open().save(self, [fspath(path)], table)

    def _repr_html_(self) -> str:
        return door.open().html(self)

    def __str__(self) -> str:
        return door.open().markdown(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingResult(Result):
    """A result on a workload that a model serves within limits.

    ``engine`` names the serving engine and what it has no part in. Slowdowns are over the same request alone on the
    ``reference``; ``context_tokens`` is the longest request served. ``question`` holds every option, ``command`` asks
    the same again; ``sources`` are those of all numbers.
    """

    model: str
    workload: str
    slo: str
    engine: str
    reference: str = ""
    context_tokens: int = 0
    sources: tuple[str, ...]
    warnings: tuple[str, ...]
    question: Mapping[str, object]
    command: str
    seed: int
    versions: Mapping[str, str]

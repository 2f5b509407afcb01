"""Results written to files, each in the format of its ending."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import quote

from provisioner.errors import InputError
from provisioner.files import Content, check_writable, write_files
from provisioner.results.result import Result
from provisioner.spelling import spelled

if TYPE_CHECKING:
    import pandas as pd

    from provisioner.report.chart import Chart
    from provisioner.report.document import Document


@dataclass(frozen=True, slots=True)
class Output:
    """A file to write, as it was given, with the ending that says in which format."""

    given: str
    ending: str

    def __str__(self) -> str:
        return self.given


class Reported(Protocol):
    """A value that can be written; each format needs one of its methods."""

    def to_frame(self) -> pd.DataFrame:
        """Rows as a DataFrame: CSV and parquet."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values: JSON."""

    def document(self) -> Document:
        """The report: HTML."""

    def charts(self) -> tuple[Chart, ...]:
        """The charts: HTML, PNG, SVG and PDF."""


# The method that a result must have for each ending.
_NEEDS: Final[Mapping[str, str]] = {
    ".csv": "to_frame",
    ".md": "__str__",
    ".json": "to_dict",
    ".parquet": "to_frame",
    ".html": "document",
    ".png": "charts",
    ".svg": "charts",
    ".pdf": "charts",
}
_PICTURES: Final = (".png", ".svg")


def offered(kind: type | None) -> tuple[str, ...]:
    """The endings in whose format a kind of result can be written; all of them where the kind is not known."""
    if kind is None:
        return tuple(_NEEDS)
    if issubclass(kind, Result):
        return tuple(_NEEDS)
    return tuple(ending for ending, name in _NEEDS.items() if getattr(kind, name, object.__str__) is not object.__str__)


def check_outputs(
    given: Iterable[str], also: Iterable[str | None] = (), kind: type | None = None
) -> tuple[Output, ...]:
    """The files to write, each of an ending that this kind of result has, in a writable folder, and named once.

    ``also`` are other files that the question writes.
    """
    outputs = []
    seen: set[str] = {os.path.realpath(name) for name in also if name is not None}
    for name in given:
        ending = Path(name).suffix.lower()
        _check_ending(name, ending, kind)
        check_writable(name, spelled("out"))
        real = os.path.realpath(name)
        if real in seen:
            raise InputError(f"{spelled('out')} {name}: is given twice")
        seen.add(real)
        outputs.append(Output(name, ending))
    return tuple(outputs)


def _check_ending(name: str, ending: str, kind: type | None) -> None:
    known = offered(kind)
    if ending not in known:
        raise InputError(f"{spelled('out')} {name}: must end in {', '.join(known)}, which says the format")


def write_outputs(result: Reported | Result, outputs: Sequence[Output]) -> None:
    """Write a result to every file, in the format of its ending; markdown shows the pictures written with it."""
    for output in outputs:
        _check_ending(output.given, output.ending, type(result))
    pictures = [output.given for output in outputs if output.ending in _PICTURES]
    write_files({output.given: _content(result, output, pictures) for output in outputs}, spelled("out"))


def _content(result: Reported | Result, output: Output, pictures: Sequence[str]) -> Content:
    match output.ending:
        case ".csv":
            return _csv(result)
        case ".md":
            return with_pictures(str(result), output.given, pictures)
        case ".json":
            from provisioner.report.as_json import json_text

            return (result.to_json() if isinstance(result, Result) else json_text(result.to_dict())) + "\n"
        case ".parquet":
            return lambda path: result.to_frame().to_parquet(path, index=False)
        case ".html":
            from provisioner.report.page import page

            return page(_document(result), _charts(result))
        case _:
            from provisioner.report.charts import charts_file

            return charts_file(_charts(result), output.ending.removeprefix("."))


def _document(result: Reported | Result) -> Document:
    from provisioner.report.views.registry import document

    return document(result, inputs=True) if isinstance(result, Result) else result.document()


def _charts(result: Reported | Result) -> tuple[Chart, ...]:
    from provisioner.report.views.registry import charts

    return tuple(charts(result).values()) if isinstance(result, Result) else result.charts()


def _csv(result: Reported | Result) -> str:
    if isinstance(result, Result):
        from provisioner.report.tables import csv_text
        from provisioner.report.views.registry import rows

        return csv_text(rows(result))
    return result.to_frame().to_csv(index=False, lineterminator="\n")


def with_pictures(markdown: str, name: str, pictures: Sequence[str]) -> str:
    """A report in markdown, to be written as ``name``, with a picture under its headline and links to the others.

    >>> with_pictures("# A plan", "out/plan.md", ["out/all plans.png"]).splitlines()[2]
    '![A plan](all%20plans.png)'
    """
    if not pictures:
        return markdown
    first, _, rest = markdown.partition("\n\n")
    folder = os.path.dirname(os.path.realpath(name))
    links = [quote(Path(os.path.relpath(os.path.realpath(each), folder)).as_posix()) for each in pictures]
    shown = first.strip().removeprefix("# ").replace("[", "\\[").replace("]", "\\]")
    others = [f"[{Path(each).name}]({link})" for each, link in zip(pictures[1:], links[1:], strict=True)]
    also = [f"Also as {', '.join(others)}."] if others else []
    return "\n\n".join([first, f"![{shown}]({links[0]})", *also, rest])

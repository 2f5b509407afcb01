"""Results written to files, each in the format of its ending."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from provisioner.errors import InputError
from provisioner.files import Content, check_writable, write_files
from provisioner.report.views.registry import charts, document, rows, table_names
from provisioner.results.result import Result
from provisioner.spelling import spelled

FORMATS: Final = (".csv", ".md", ".json", ".parquet", ".html", ".png", ".svg", ".pdf")
"""The endings that say in which format a result is written."""

_TABLES: Final = (".csv", ".parquet")
_PICTURES: Final = (".png", ".svg")
_REPORT: Final = ("report.md", "report.html")  # the files of a folder beside its tables


@dataclass(frozen=True, slots=True)
class Output:
    """A file to write, as it was given, with its ending; a folder for all of a result ends in a slash."""

    given: str
    ending: str

    def __str__(self) -> str:
        return self.given


def check_outputs(
    given: Iterable[str], kind: type[Result], table: str | None = None, also: Iterable[str | None] = ()
) -> tuple[Output, ...]:
    """The files to write, each of a known ending, in a writable folder, and named once.

    ``table`` names the table of .csv and .parquet in place of the main one; ``also`` are other files that the question
    writes. Raises ``InputError``, and ``UnknownNameError`` for a table that this kind of result does not have.
    """
    what, outputs = spelled("out"), []
    seen = {os.path.realpath(name) for name in also if name is not None}
    for name in given:
        ending = "/" if name.endswith("/") else Path(name).suffix.lower()
        if ending == "/":
            _check_folder(name, what)
        elif ending not in FORMATS:
            endings = f"{', '.join(FORMATS)}, which says the format, or in / for a folder with all"
            raise InputError(f"{what} {name}: must end in {endings}")
        else:
            check_writable(name, what)
        real = os.path.realpath(name)
        if real in seen:
            raise InputError(f"{what} {name}: is given twice")
        seen.add(real)
        outputs.append(Output(name, ending))
    if table is not None:
        table_names(kind, table)
        if not any(output.ending in _TABLES for output in outputs):
            names = f"{spelled('table')} {table}: names the table of a .csv or .parquet file"
            raise InputError(f"{names}; add one to {what}")
    return tuple(outputs)


def _check_folder(name: str, what: str) -> None:
    """Refuse a folder that cannot be made or written to."""
    path = Path(os.path.realpath(name))
    if path.exists() and not path.is_dir():
        raise InputError(f"{what} {name}: is a file, not a folder")
    check_writable(str(path / _REPORT[0] if path.is_dir() else path), what)


def write_outputs(result: Result, outputs: Sequence[Output], table: str | None = None) -> None:
    """Write a result to every file, in the format of its ending; markdown shows the pictures written with it.

    A folder gets every table that has rows as CSV, the report as markdown and the page.
    """
    pictures = [output.given for output in outputs if output.ending in _PICTURES]
    contents: dict[str, Content] = {}
    for output in outputs:
        match output.ending:
            case ".md":
                contents[output.given] = with_pictures(str(result), output.given, pictures)
            case "/":
                Path(output.given).mkdir(exist_ok=True)
                for name in table_names(type(result)):
                    if rows(result, name):
                        contents[f"{output.given}{name}.csv"] = _content(result, ".csv", name)
                for name in _REPORT:
                    contents[f"{output.given}{name}"] = _content(result, Path(name).suffix, None)
            case ending:
                contents[output.given] = _content(result, ending, table)
    write_files(contents, spelled("out"))


def _content(result: Result, ending: str, table: str | None) -> Content:
    match ending:
        case ".csv":
            from provisioner.report.tables import csv_text

            return csv_text(rows(result, table))
        case ".md":
            return str(result)
        case ".json":
            return f"{result.to_json()}\n"
        case ".parquet":
            return lambda path: result.to_frame(table).to_parquet(path, index=False)
        case ".html":
            from provisioner.report.page import page

            return page(document(result, inputs=True), tuple(charts(result).values()))
        case _:
            from provisioner.report.charts import charts_file

            return charts_file(tuple(charts(result).values()), ending.removeprefix("."))


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

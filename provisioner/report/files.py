"""Results written to files, each in the format of its ending."""

import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

from provisioner.errors import InputError
from provisioner.files import Content, check_writable, write_files
from provisioner.report.page import page
from provisioner.report.tables import csv_text
from provisioner.report.views.registry import charts, document, rows, table_names
from provisioner.results.result import Result
from provisioner.spelling import spelled

FORMATS: Final = (".csv", ".md", ".json", ".parquet", ".html", ".png", ".svg", ".pdf")
"""The endings that say in which format a result is written."""

_TABLES: Final = (".csv", ".parquet")
_PICTURES: Final = (".png", ".svg")
_REPORT: Final = ("report.md", "report.html")  # the files of a folder beside its tables


def check_outputs(
    given: Iterable[str], kind: type[Result], table: str | None = None, also: Iterable[str | None] = ()
) -> tuple[str, ...]:
    """The files to write, each of a known ending, in a writable folder, and named once; a folder ends in a slash.

    ``table`` names the table of .csv and .parquet in place of the main one; ``also`` are other files that the question
    writes. Raises ``InputError``, and ``UnknownNameError`` for a table that this kind of result does not have.
    """
    what, names = spelled("out"), tuple(given)
    seen = {os.path.realpath(name) for name in also if name is not None}
    for name in names:
        real = os.path.realpath(name)
        if name.endswith("/"):
            if os.path.exists(real) and not os.path.isdir(real):
                raise InputError(f"{what} {name}: is a file, not a folder")
            check_writable(os.path.join(real, _REPORT[0]) if os.path.isdir(real) else real, what)
        elif _ending(name) not in FORMATS:
            endings = f"{', '.join(FORMATS)}, which says the format, or in / for a folder with all"
            raise InputError(f"{what} {name}: must end in {endings}")
        else:
            check_writable(name, what)
        if real in seen:
            raise InputError(f"{what} {name}: is given twice")
        seen.add(real)
    if table is not None:
        table_names(kind, table)
        if not any(_ending(name) in _TABLES for name in names):
            named = f"{spelled('table')} {table}: names the table of a .csv or .parquet file"
            raise InputError(f"{named}; add one to {what}")
    return names


def _ending(name: str) -> str:
    return Path(name).suffix.lower()


def write_outputs(result: Result, names: Sequence[str], table: str | None = None) -> None:
    """Write a result to every file, in the format of its ending; markdown shows the pictures written with it.

    A folder gets every table that has rows as CSV, the report as markdown and the page.
    """
    pictures = [name for name in names if _ending(name) in _PICTURES]
    contents: dict[str, Content] = {}
    for name in names:
        if name.endswith("/"):
            Path(name).mkdir(exist_ok=True)
            filled = [each for each in table_names(type(result)) if rows(result, each)]
            contents |= {f"{name}{each}.csv": _content(result, ".csv", each) for each in filled}
            contents |= {f"{name}{each}": _content(result, _ending(each), None) for each in _REPORT}
        elif _ending(name) == ".md":
            contents[name] = with_pictures(str(result), name, pictures)
        else:
            contents[name] = _content(result, _ending(name), table)
    write_files(contents, spelled("out"))


def _content(result: Result, ending: str, table: str | None) -> Content:
    match ending:
        case ".csv":
            return csv_text(rows(result, table))
        case ".md":
            return str(result)
        case ".json":
            return f"{result.to_json()}\n"
        case ".parquet":
            finite = result.to_frame(table).replace([math.inf, -math.inf], math.nan)
            return lambda path: finite.to_parquet(path, index=False)
        case ".html":
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

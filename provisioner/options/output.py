"""The options of files that a result is written to, which all questions have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

from provisioner.options.base import Options
from provisioner.options.declaration import Group
from provisioner.options.values import TEXT, several

OUTPUT: Final = Group("Output")


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions(Options):
    """The files of a result."""

    GROUPS: ClassVar[tuple[str, ...]] = (OUTPUT,)

    out: tuple[str, ...] = OUTPUT.option(
        several(TEXT),
        "Write the result in the format of the ending: a table as .csv or .parquet, all as .json, a report as .md or "
        ".html, the pictures as .png, .svg or .pdf. A folder, ending in /, gets every table, the report and the page. "
        "Repeatable.",
        metavar="FILE",
        default=(),
    )
    table: str | None = OUTPUT.option(
        TEXT, "Table to write as .csv or .parquet in place of the main one; an unknown name lists them all."
    )

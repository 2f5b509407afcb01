"""The tables of all results are named in the documentation."""

import math
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd

from provisioner.cli.commands import QUESTIONS
from provisioner.options import CapacityOptions
from provisioner.report.files import write_outputs
from provisioner.report.tables import csv_text
from provisioner.report.views.registry import VIEWS
from provisioner.studies.capacity import capacity

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "reports.md"
COMMANDS = {question.result.split(".")[1]: question.name for question in QUESTIONS} | {
    "Grid": "sweep",
    "Reproduction": "reproduce",
}


def test_the_page_names_every_table_of_every_command() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (`.*?) \|(.*)\|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    named = {command: re.findall(r"`(\w+)`", f"{main} {others}") for command, main, others in rows}
    assert named == {COMMANDS[view.kind.__name__]: list(view.tables) for view in VIEWS}


def test_no_number_in_a_file_is_infinite(tmp_path: Path) -> None:
    assert csv_text([{"ratio": math.inf, "b": 1}, {"ratio": -math.inf, "b": math.nan}]) == "ratio,b\n,1\n,\n"
    cluster = {"designs": "baseline-h100", "mixed": 1, "sets": 1, "duration_s": 20.0, "workload": "conversation"}
    found = capacity(CapacityOptions.of(**cluster, slo="p90", tensor_parallel=8, additions=False))
    found = replace(found, tried=(*found.tried, replace(found.tried[0], worst_ratio=math.inf)))
    write_outputs(found, [f"{tmp_path}/all/", str(tmp_path / "tried.parquet")], "tried")
    assert not any(re.search(r"\b(inf|nan)\b", path.read_text()) for path in (tmp_path / "all").glob("*.csv"))
    assert not math.isinf(pd.read_parquet(tmp_path / "tried.parquet")["worst_ratio"].max())

"""The program as stated: its documentation, and golden text of every row family."""

import re
from pathlib import Path

import pytest

from provisioner.planning import formulation
from provisioner.planning.formulation import Caps, build
from provisioner.planning.program import Program, Rows
from provisioner.specs.criteria import Tiebreak
from tests.planning.golden_lp import assert_golden, lp_text
from tests.planning.instances import two_candidates

BEST_SO_FAR: dict[Tiebreak, float] = {"cost": 80.0, "complexity": 212, "power": 33_000.0}
FAMILIES = ("one_design", "one_size", "share_beyond", "end_to_end", "in_stock", "capped", "as_good_as")


def rows_of(family: str, program: Program) -> Rows:
    parameters = two_candidates()
    function = getattr(formulation, family)
    rows: Rows = function(parameters, program, BEST_SO_FAR) if family == "as_good_as" else function(parameters, program)
    return rows


@pytest.mark.parametrize("family", ["objective", *FAMILIES])
def test_golden_lp_of_each_row_family(family: str, tmp_path: Path) -> None:
    """Regenerate with REGENERATE_GOLDEN=1 pytest tests/planning/test_formulation.py, and read the difference."""
    program = build(two_candidates(), "cost", BEST_SO_FAR)
    assert_golden(family, lp_text(program.problem(), family, tmp_path))


def test_the_program_is_exactly_its_row_families() -> None:
    program = build(two_candidates(), "cost", BEST_SO_FAR)
    names = [name for family in FAMILIES for name in rows_of(family, program)]
    assert list(program.rows) == names == [row.name for row in program.problem().constraints()]
    assert all(re.fullmatch(r"[a-z0-9_]+(\([^()]*\))?", name) for name in names)
    assert all(variable.cat == "Integer" for variable in program.problem().variables())
    assert {(v.lowBound, v.upBound) for v in program.problem().variables()} == {(0, 1)}


def documented() -> dict[str, list[str]]:
    """The rows table of docs/reference/formulation.md by function: id, row name, formula, for all, unit, function."""
    text = (Path(__file__).parents[2] / "docs" / "reference" / "formulation.md").read_text(encoding="utf-8")
    section = text.split("## Rows")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split(" | ")] for line in section.splitlines() if "|" in line
    ]
    return {row[5].strip("`"): row for row in rows[2:]}


def test_documented_rows_equal_built_rows_both_ways() -> None:
    program = build(two_candidates(), "cost", BEST_SO_FAR)
    built = set(program.rows)
    table = documented()
    assert [row[0] for row in table.values()] == [f"R{i}" for i in range(1, len(table) + 1)]
    assert set(table) == {name.split("(")[0] for name in built} == set(FAMILIES)
    for function, (_, name, _, _, _, _) in table.items():
        family, _, index = name.strip("`").partition("(")
        assert family == function
        places = len(index.strip(")").split(",")) if index else 0
        shapes = {row.count(",") + ("(" in row) for row in built if row.split("(")[0] == family}
        assert shapes == {places}, f"{name} has {places} indices"


def test_documented_formulas_are_the_functions_first_lines() -> None:
    for function, row in documented().items():
        first = (getattr(formulation, function).__doc__ or "").splitlines()[0]
        assert first.split(": ")[0] == row[2].strip("`")


def test_caps_without_a_criterion_keep_the_others() -> None:
    caps = Caps(1.0, 2.0, 3, {"a": 4})
    assert caps.without("cost") == Caps(None, 2.0, 3, {"a": 4})
    assert caps.without("power") == Caps(1.0, None, 3, {"a": 4})
    assert caps.without("machines") == Caps(1.0, 2.0, None, {"a": 4})

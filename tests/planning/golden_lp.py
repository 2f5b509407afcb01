"""The golden text of one row family: its part of a program in CPLEX's LP format."""

import os
from pathlib import Path

import pulp

GOLDEN = Path(__file__).parent / "golden"


def lp_text(problem: pulp.LpProblem, family: str, folder: Path) -> list[str]:
    """Write a program and return its objective, the rows of one family and their variables, with single spaces."""
    path = folder / "program.lp"
    problem.writeLP(str(path))
    text: list[str] = []
    kept = True
    for line in (" ".join(line.split()) for line in path.read_text().splitlines()):
        if not line or line.startswith("\\"):
            continue
        if ":" in line:  # a row begins; the next lines may continue it
            kept = line.startswith(("OBJ:", f"{family}:", f"{family}("))
        elif line == "Binaries":
            names = {word for row in text for word in row.split()}
            kept = True
        elif "Binaries" in text:
            kept = line in names or line == "End"
        if kept:
            text.append(line)
    return text


def assert_golden(name: str, text: list[str]) -> None:
    """Compare with the golden file; write it instead if the environment has REGENERATE_GOLDEN."""
    golden = GOLDEN / f"{name}.lp"
    if os.environ.get("REGENERATE_GOLDEN"):
        golden.write_text("\n".join(text) + "\n")
    assert text == golden.read_text().splitlines()

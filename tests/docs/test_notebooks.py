"""The notebooks run, from public functions only, and show what they give."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import provisioner
from tests.docs.test_outputs import words_and_numbers

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "docs").rglob("*.ipynb"))


def code(notebook: Any) -> str:
    cells = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return "\n".join(line for cell in cells for line in cell.splitlines() if not line.startswith("%"))


def printed(notebook: Any) -> str:
    """Texts that cells print, and results that are shown as text only."""
    texts = []
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            assert output.output_type != "error", output
            if output.output_type == "stream" and output.name == "stdout":
                texts.append(output.text)
            elif "data" in output and set(output.data) == {"text/plain"}:
                texts.append(output.data["text/plain"])
    return "\n".join(texts)


def test_there_are_four() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["five-minutes", "own-data", "reproducing-splitwise", "switch-points"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_and_prints_what_it_shows(path: Path, tmp_path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    shown = printed(notebook)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    words, numbers = words_and_numbers(printed(notebook))
    shown_words, shown_numbers = words_and_numbers(shown)
    assert words == shown_words
    assert numbers == pytest.approx(shown_numbers, rel=5e-3)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_uses_public_functions_only(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    tree = ast.parse(code(notebook))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert not (node.module or "").startswith("provisioner"), ast.unparse(node)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "provisioner":
            assert node.attr in provisioner.__all__, node.attr
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_"), node.attr
    assert not re.search(r"(?<![\w.])/(?:work|tmp|home|root|Users)/", path.read_text(encoding="utf-8"))

"""Prose of the code and the documentation: plain first lines of docstrings, and two phrases that never occur."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

FOLDERS = ("docs", "hardware_specs", "provisioner", "tests", "workloads")
"""Folders whose prose is held to the rules, with all folders below."""

PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "README.md", "docs", "hardware_specs", "workloads", "pyproject.toml")
"""Pages, data and settings without the phrases: files, or folders with all folders below."""

FIRST_WORDS = frozenset({"How", "Of", "That", "What", "Where", "Which", "Whose", "Why"})
"""Words that begin no docstring: its first line is a noun phrase or an imperative."""

PHRASES = ("so many", "likewise")
"""Phrases that name no amount and no rule."""


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of every docstring: of modules, classes, functions, and of the names assigned before it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            for statement in node.body:
                match statement:
                    case ast.Expr(value=ast.Constant(value=str(text))):
                        yield statement.lineno, text


def faults_of_docstrings(source: str) -> list[str]:
    """Docstrings that begin with one of ``FIRST_WORDS``, each with its line.

    >>> faults_of_docstrings('X = 1' + chr(10) + '"' * 3 + 'What X is.' + '"' * 3)
    ['line 2: What X is.']
    """
    return [
        f"line {line}: {text.strip().splitlines()[0]}"
        for line, text in docstrings(source)
        if text.split() and re.split(r"\W", text.split()[0])[0] in FIRST_WORDS
    ]


def faults_of_phrases(text: str) -> list[str]:
    """Places of ``PHRASES`` in a text, each with its line; a line break, in a comment too, counts as a space.

    >>> faults_of_phrases("Plan so" + chr(10) + "# many machines.")
    ['line 1: so many']
    """
    return [
        f"line {text.count(chr(10), 0, match.start()) + 1}: {phrase}"
        for phrase in PHRASES
        for match in re.finditer(r"\b" + phrase.replace(" ", r"\s+(?:#\s*)?") + r"\b", text, re.IGNORECASE)
    ]


def _files(name: str, *suffixes: str) -> list[Path]:
    path = ROOT / name
    return [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.suffix in suffixes)


@pytest.mark.parametrize("folder", FOLDERS)
def test_code(folder: str) -> None:
    """No docstring begins with a question word, and no source has one of the phrases."""
    faults = [
        f"{path.relative_to(ROOT)}: {fault}"
        for path in _files(folder, ".py")
        if path != Path(__file__)
        for source in [path.read_text(encoding="utf-8")]
        for fault in (*faults_of_docstrings(source), *faults_of_phrases(source))
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("name", PAGES)
def test_pages(name: str) -> None:
    """No page has one of the phrases."""
    faults = [
        f"{path.relative_to(ROOT)}: {fault}"
        for path in _files(name, ".md", ".yaml", ".ipynb")
        for fault in faults_of_phrases(path.read_text(encoding="utf-8"))
    ]
    assert not faults, "\n".join(faults)

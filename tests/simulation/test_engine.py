"""Compilation of the event loop, and its cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from provisioner.simulation import engine


def test_every_compiled_module_is_in_the_key_of_the_cache() -> None:
    """Also those that the event loop reaches through others."""
    folder = Path(engine.__file__).parent
    compiled = {p.stem for p in folder.glob("*.py") if "@compiled" in p.read_text(encoding="utf-8")}
    assert compiled | {"records", "pointers"} == set(engine._COMPILED)
    assert len(engine._sources()) == 64


def test_without_a_folder_for_the_cache_it_is_compiled_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    real = engine.njit
    asked: list[bool] = []

    def njit(**options: Any) -> Any:
        asked.append("cache" in options)
        if "cache" in options:
            raise RuntimeError("cannot cache function 'advance': no locator available")
        return real(**options)

    monkeypatch.setattr(engine, "njit", njit)
    assert all(entry.targetoptions["nogil"] for entry in engine._entries("0" * 64))
    assert asked == [True, False, True, False]

"""The all-reduces added to a share: their part in the sum of operators, and the evidence of the rows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from provisioner.perf.derived import iteration_s
from provisioner.perf.evidence import operators_of
from provisioner.perf.operators import MIN_KERNEL_S, Operators
from provisioner.perf.points import CurvePoint
from provisioner.profiling.all_reduce import all_reduces_of, all_reduces_s
from provisioner.profiling.grid import Grid
from provisioner.profiling.result import AllReduces, Profile
from provisioner.profiling.shape import shape_of
from provisioner.specs import catalog
from tests.profiling.shapes import shaped

MODEL = catalog.model("llama-3.1-8b")


def _point(phase: Any, tokens: int, batch: int) -> CurvePoint:
    context = 0.0 if phase == "prompt" else float(tokens * batch)
    return CurvePoint(phase, tokens, batch, context, 0.01, 3, 0.009, 0.012, "assumed")


POINTS = (
    _point("prompt", 128, 1),
    _point("prompt", 512, 1),
    _point("prompt", 513, 1),
    _point("prompt", 512, 4),
    _point("decode", 1024, 1),
    _point("decode", 4096, 64),
)


def _without_all_reduces(gpu: Operators) -> Operators:
    """A copy of the GPU with links without limit: an all-reduce then takes the shortest kernel."""

    def boundless(gpus: Any, _: Any) -> Any:
        return np.full(np.shape(gpus), 1e30)

    tables = {key: boundless if key[0] == "all_reduce" else table for key, table in gpu.tables.items()}
    return replace(gpu, tables=tables)


@pytest.mark.parametrize("gpus", [2, 8])
@pytest.mark.parametrize("name", ["dgx-h100", "l40s-x8", "mi300x-x8"])
def test_they_are_what_the_sum_of_operators_has_of_them(name: str, gpus: int) -> None:
    gpu = operators_of(catalog.machine(name))
    found = all_reduces_s(MODEL, gpu, gpus, POINTS, 2)
    shortest = (2 * MODEL.layers + 1 + 0.5) * MIN_KERNEL_S
    for point, seconds in zip(POINTS, found, strict=True):
        work: dict[str, Any] = (
            {"prompt_tokens": point.prompt_tokens, "prompts": point.batch}
            if point.phase == "prompt"
            else {"batch": point.batch, "context_tokens": point.context_tokens}
        )
        whole, rest = (float(iteration_s(MODEL, each, gpus, **work)) for each in (gpu, _without_all_reduces(gpu)))
        assert seconds == pytest.approx(whole - rest + shortest, rel=1e-6), point.label


def test_numbers_of_four_bytes_are_twice_as_much_to_add_up() -> None:
    gpu = operators_of(catalog.machine("dgx-h100"))
    sizes = {"hidden_size": 2 * MODEL.hidden_size, "vocab_size": 2 * MODEL.vocab_size}
    wide = shaped(**shape_of(MODEL) | sizes)
    assert all_reduces_s(MODEL, gpu, 4, POINTS, 4) == pytest.approx(all_reduces_s(wide, gpu, 4, POINTS, 2))


@pytest.mark.parametrize(
    ("name", "provenance"),
    [
        ("dgx-h100", "derived"),
        ("dgx-h100-capped", "estimated"),
        ("rtx4090-x8", "estimated"),
        ("gb200", "derived"),
        ("mi300x-x8", "estimated"),
    ],
)
def test_they_are_derived_only_where_they_were_measured(name: str, provenance: str) -> None:
    machine = catalog.machine(name)
    added = all_reduces_of(MODEL, machine, 2, POINTS, 2)
    assert added.provenance == provenance
    assert ("table" in added.source) == (provenance == "derived")
    assert min(added.seconds) > 0


def _profile(gpus: int) -> Profile:
    points = tuple(replace(p, provenance="measured" if gpus == 1 else "assumed") for p in POINTS)
    return Profile(MODEL, "dgx-h100", gpus, points, (), (), 32, Grid(), "bf16", 3, 3, 0, {})


def test_no_row_of_a_share_claims_to_be_measured() -> None:
    share = _profile(4)
    assert share.provenance == "assumed" and "assumed to take no time" in share.not_measured[0]
    assert share.to_dict()["all_reduces"] is None
    added = AllReduces(tuple(0.001 * k for k in range(1, 7)), "derived", "a table")
    whole = share.with_all_reduces(added)
    assert whole.provenance == "derived" and "measured" not in whole.csv_text()
    for before, after, more_s in zip(share.points, whole.points, added.seconds, strict=True):
        assert after.latency_s == before.latency_s + more_s
        assert (after.min_s, after.max_s) == (before.min_s + more_s, before.max_s + more_s)
    said = whole.to_dict()
    assert said["provenance"] == said["all_reduces"]["provenance"] == "derived"
    assert said["all_reduces"]["added_s"]["512 x 4 prompt"] == pytest.approx(0.004)
    assert whole.not_measured[0].endswith("those that were added are derived")
    with pytest.raises(ValueError, match="has them already"):
        whole.with_all_reduces(added)
    with pytest.raises(ValueError, match="has no all-reduces"):
        _profile(1).with_all_reduces(added)
    assert _profile(1).provenance == "measured"

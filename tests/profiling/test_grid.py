"""The grid: every point once, and enough of them for a curve."""

from typing import Any

import pytest

from provisioner.errors import InputError
from provisioner.perf.curves import fit_measured
from provisioner.perf.points import CurvePoint
from provisioner.profiling.grid import Grid, Work, curve_possible


def _points(grid: Grid) -> list[CurvePoint]:
    """The grid's points as a machine would time them whose iteration is 1 ms, 10 us a token and 0.1 us of context."""
    points = []
    for work in grid.works():
        context = 0 if work.phase == "prompt" else work.held_tokens
        seconds = 1e-3 + 1e-5 * work.new_tokens + 1e-7 * context
        points.append(
            CurvePoint(work.phase, work.tokens, work.batch, context, seconds, 5, seconds, seconds, "measured")
        )
    return points


def test_the_default_grid_gives_the_curve_of_a_known_machine_back() -> None:
    grid = Grid()
    curves = fit_measured(_points(grid), ("m", "x", 1), 0.9e-7)
    assert not curves.refused
    assert curves.axis_context_tokens == grid.context_tokens == 1024
    assert curves.decode.x.tolist() == [1, 2, 4, 8, 16, 32, 64, 128, 256]
    assert curves.prompt.x.tolist() == [128, 256, 512, 1024, 2048, 4096, 8192]
    assert curves.context is not None and curves.context.limited_by == "fit"
    assert curves.context.rows == 7
    assert curves.slope_s_per_context_token == pytest.approx(1e-7, rel=1e-6)
    assert float(curves.decode_s(64, 64 * 4096)) == pytest.approx(1e-3 + 64e-5 + 64 * 4096 * 1e-7, rel=1e-6)


def test_every_work_stands_once_and_says_what_it_takes() -> None:
    works = Grid().works()
    assert len(works) == len(set(works)) == len({work.label for work in works})
    assert Work("prompt", 512, 4) in works and Work("decode", 1024, 256) in works
    assert Work("prompt", 512, 4).new_tokens == Work("prompt", 512, 4).held_tokens == 2048
    assert (Work("decode", 1024, 8).new_tokens, Work("decode", 1024, 8).held_tokens) == (8, 8192)


def test_values_are_sorted_and_repeats_dropped() -> None:
    grid = Grid(prompt_tokens=(512, 128, 128), other_context_tokens=(1024, 256))
    assert grid.prompt_tokens == (128, 512)
    assert grid.other_context_tokens == (256,)  # 1,024 is the axis


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prompt_tokens": (512,), "prompt_batches": ()}, "prompt_tokens: must have 2 or more sizes"),
        ({"prompt_tokens": (128, 0)}, "prompt_tokens: must be a whole number of tokens, 1 or more, got 0"),
        ({"decode_batches": (4,)}, "decode_batches: must have 2 or more batches"),
        ({"decode_batches": ("many",)}, "decode_batches: must be a number, got 'many'"),
        ({"context_tokens": 1.5}, "context_tokens: must be a whole number of tokens"),
        ({"decode_batches": (1, 8), "context_batches": (1, 8)}, "must have fewer batches above 1"),
    ],
)
def test_what_gives_no_curve_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Grid(**given)


def test_a_curve_needs_two_prompts_and_two_batches_at_one_context() -> None:
    prompts = [Work("prompt", 128, 1), Work("prompt", 256, 1)]
    decodes = [Work("decode", 1024, 1), Work("decode", 1024, 2)]
    assert curve_possible(prompts + decodes, 1024)
    assert not curve_possible(prompts[:1] + decodes, 1024)
    assert not curve_possible([*prompts, decodes[0], Work("decode", 2048, 2)], 1024)

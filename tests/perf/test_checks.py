"""Unphysical points are found by rule, on the published measurements and on made-up curves."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner.perf.checks import MEASUREMENT_NOISE, find_unphysical, isotonic
from provisioner.perf.curves import load_curve_set
from provisioner.perf.points import CurvePoint
from provisioner.specs import catalog

# While all repeats scatter by less than this, sound points cannot be (1 - noise) apart in the wrong order.
SCATTER = MEASUREMENT_NOISE / (2 - MEASUREMENT_NOISE)


def test_exactly_the_three_known_points_are_refused_prompt_and_decode_together(
    group: tuple[str, str, int],
) -> None:
    model, machine, tensor_parallel = group
    curves = load_curve_set(catalog.model(model), catalog.machine(machine), tensor_parallel)
    refused = [(r.point.prompt_tokens, r.point.batch, r.point.phase) for r in curves.refused]
    known = [(512, 64, "prompt"), (512, 64, "decode")]
    assert refused == (known if (model, tensor_parallel) == ("llama2-70b", 2) else [])
    if refused:
        assert "falls from" in curves.refused[0].reason and "512 x 32" in curves.refused[0].reason
        assert curves.decode_batch_range == (1, 32)
        assert curves.decode_context_range == (192, 18432)
        assert not {r.point for r in curves.refused} & set(curves.kept)


def _largest_fall(points: tuple[CurvePoint, ...]) -> float:
    """Largest fall, from the fastest repeat of the smaller work to the slowest of the larger."""
    return max(
        1 - b.max_s / a.min_s
        for a in points
        for b in points
        if a is not b
        and a.phase == b.phase
        and a.prompt_tokens <= b.prompt_tokens
        and a.batch <= b.batch
        and a.output_tokens <= b.output_tokens
    )


def test_the_noise_threshold_stands_clear_of_noise_and_of_faults(group: tuple[str, str, int]) -> None:
    model, machine, tensor_parallel = group
    curves = load_curve_set(catalog.model(model), catalog.machine(machine), tensor_parallel)
    assert _largest_fall(curves.kept) < 0.5 * MEASUREMENT_NOISE
    if curves.refused:
        assert _largest_fall(curves.points) > 8 * MEASUREMENT_NOISE


def test_the_noise_threshold_covers_the_largest_difference_between_sessions() -> None:
    """The same prompt of 512, decoded 128 or more tokens: Llama2-70B on the DGX-A100 at TP 2."""
    points = load_curve_set(catalog.model("llama2-70b"), catalog.machine("dgx-a100"), 2).points
    single = [p for p in points if (p.phase, p.prompt_tokens, p.batch) == ("decode", 512, 1)]
    first, others = single[0], single[1:]
    between = max(1 - first.max_s / p.min_s for p in others)
    assert 0.08 < between < MEASUREMENT_NOISE


def _points(medians: list[float], scatter: list[float], phase: str = "prompt") -> list[CurvePoint]:
    """A batch axis with repeats scattered by up to the given fraction."""
    return [
        CurvePoint(
            phase="prompt" if phase == "prompt" else "decode",
            prompt_tokens=512,
            batch=2**i,
            context_tokens=0 if phase == "prompt" else 576 * 2**i,
            latency_s=seconds,
            repeats=5,
            min_s=seconds * (1 - spread),
            max_s=seconds * (1 + spread),
            provenance="measured",
        )
        for i, (seconds, spread) in enumerate(zip(medians, scatter, strict=True))
    ]


growth = st.lists(st.floats(1.0, 3.0), min_size=3, max_size=8)


@settings(deadline=None)
@given(growth, st.data())
def test_noise_is_never_refused(factors: list[float], data: st.DataObject) -> None:
    """Every repeat within the scatter of a non-decreasing truth: nothing is found."""
    truth = 0.05 * np.cumprod(factors)
    inside = st.floats(-0.999 * SCATTER, 0.999 * SCATTER)
    points = []
    for point, true_s in zip(_points(truth.tolist(), [0.0] * len(truth)), truth, strict=True):
        low, middle, high = sorted(true_s * (1 + data.draw(inside)) for _ in range(3))
        points.append(dataclasses.replace(point, min_s=low, latency_s=middle, max_s=high))
    assert find_unphysical(points) == ()


@settings(deadline=None)
@given(growth, st.data())
def test_a_planted_fall_is_found_and_nothing_else(factors: list[float], data: st.DataObject) -> None:
    truth = 0.05 * np.cumprod(factors)
    scatter = [data.draw(st.floats(0, 0.02)) for _ in truth]
    at = data.draw(st.integers(1, len(truth) - 1))
    share = data.draw(st.floats(0.02, 0.85))
    planted = truth.copy()
    planted[at] = share * truth[at - 1]
    points = _points(planted.tolist(), scatter)
    refused = find_unphysical(points)
    assert [r.point for r in refused] == [points[at]]
    assert "falls from" in refused[0].reason


@settings(deadline=None)
@given(growth, st.data())
def test_a_planted_spike_is_found_where_two_later_points_contradict_it(
    factors: list[float], data: st.DataObject
) -> None:
    truth = 0.05 * np.cumprod(factors)
    at = data.draw(st.integers(0, len(truth) - 3))
    planted = truth.copy()
    planted[at] = 1.5 * truth[at + 2]
    later = int((1.01 * truth[at + 1 :] < (1 - MEASUREMENT_NOISE) * 0.99 * planted[at]).sum())
    assert later >= 2
    refused = find_unphysical(_points(planted.tolist(), [0.01] * len(truth)))
    assert [r.point.latency_s for r in refused] == [planted[at]]
    assert "something else slowed the run" in refused[0].reason


@settings(deadline=None)
@given(growth, st.data())
def test_no_contradiction_is_left_whatever_the_points(factors: list[float], data: st.DataObject) -> None:
    seconds = [data.draw(st.floats(0.01, 10)) for _ in factors]
    points = _points(seconds, [0.01] * len(seconds))
    refused = {r.point for r in find_unphysical(points)}
    assert find_unphysical([p for p in points if p not in refused]) == ()
    assert len(refused) < len(points)


def test_a_refused_prompt_takes_its_decode_with_it_and_the_other_way_round() -> None:
    prompt = _points([0.1, 0.2, 0.4], [0.01] * 3)
    decode = _points([0.05, 0.05, 0.06], [0.01] * 3, "decode")
    low_prompt = dataclasses.replace(prompt[2], latency_s=0.1, min_s=0.1, max_s=0.1)
    low_decode = dataclasses.replace(decode[2], latency_s=0.03, min_s=0.03, max_s=0.03)
    for points in ([*prompt[:2], low_prompt, *decode], [*prompt, *decode[:2], low_decode]):
        refused = find_unphysical(points)
        assert [(r.point.batch, r.point.phase) for r in refused] == [(4, "prompt"), (4, "decode")]
        assert sum("same run as" in r.reason for r in refused) == 1


def test_the_known_dip_is_named_and_levelled_not_refused() -> None:
    """DGX-H100, TP 8: 128 tokens take 58.2 ms, 256 tokens 51.7 ms, inside the scatter of the repeats."""
    curves = load_curve_set(catalog.model("llama2-70b"), catalog.machine("dgx-h100"), 8)
    dips = {dip.at: dip for dip in curves.dips if dip.phase == "prompt"}
    assert dips[128].measured_s == pytest.approx(0.0582, abs=1e-4)
    assert dips[256].measured_s == pytest.approx(0.0517, abs=1e-4)
    assert dips[128].used_s == dips[256].used_s
    assert "58.19 ms" in dips[128].reason and "within the noise" in dips[128].reason


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0.001, 100), st.integers(1, 50)), min_size=1, max_size=9))
def test_isotonic_regression_is_the_max_min_of_weighted_means(knots: list[tuple[float, int]]) -> None:
    """Against the max-min formula of Barlow et al.: max over a <= i of min over b >= i of mean(a..b)."""
    values = np.array([value for value, _ in knots])
    weights = np.array([float(weight) for _, weight in knots])
    n = len(knots)
    expected = [
        max(
            min(float(np.average(values[a : b + 1], weights=weights[a : b + 1])) for b in range(i, n))
            for a in range(i + 1)
        )
        for i in range(n)
    ]
    found = isotonic(values, weights)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert (np.diff(found) >= 0).all()
    assert float(found @ weights) == pytest.approx(float(values @ weights))

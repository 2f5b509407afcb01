"""Laws of the curves over every shipped (model, machine, tensor parallelism), and facts of the paper."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import interp1d

from provisioner.errors import InputError
from provisioner.perf import curves as curves_module
from provisioner.perf.curves import (
    MAX_BATCHED_PROMPT_TOKENS,
    MAX_CONTEXT_SLOPE_RATIO,
    CurveSet,
    PiecewiseLinear,
    curve_groups,
    fit_context_slope,
    fit_measured,
    kv_read_s_per_token,
    load_curve_set,
)
from provisioner.perf.points import CurvePoint, read_points
from provisioner.specs import catalog
from tests.counting import calls_of

Group = tuple[str, str, int]


def _load(group: Group) -> CurveSet:
    return load_curve_set(catalog.model(group[0]), catalog.machine(group[1]), group[2])


def _simulator(group: Group) -> CurveSet:
    return load_curve_set(catalog.model(group[0]), catalog.machine(group[1]), group[2], "splitwise-sim")


def test_prompt_curve_is_exact_at_every_kept_knot_outside_dips(group: Group) -> None:
    curves = _load(group)
    dips = {dip.at for dip in curves.dips if dip.phase == "prompt"}
    knots = curves.prompt.x.tolist()
    assert knots == [128, 256, 512, 1024, 2048, 4096, 8192]
    for tokens in set(knots) - dips:
        at = [p for p in curves.prompt_points if p.batched_tokens == tokens]
        expected = np.average([p.latency_s for p in at], weights=[p.repeats for p in at])
        assert float(curves.prompt_s(tokens)) == pytest.approx(float(expected), rel=1e-12)


def test_beyond_the_batch_limit_the_prompt_curve_is_that_of_single_prompts(
    group: tuple[str, str, int],
) -> None:
    """No scheduler runs 8 or more prompts of 512 at once; the longest single prompts are 4,096 and 8,192."""
    curves = _load(group)
    prompts = [p for p in curves.kept if p.phase == "prompt"]
    assert {p.batch for p in curves.prompt_points} == {1, 2, 4}
    assert set(prompts) - set(curves.prompt_points) == {
        p for p in prompts if p.batched_tokens > MAX_BATCHED_PROMPT_TOKENS and p.batch > 1
    }
    single = {p.prompt_tokens: p.latency_s for p in prompts if p.batch == 1}
    for tokens in (4096, 8192):
        assert float(curves.prompt_s(tokens)) == pytest.approx(single[tokens], rel=1e-12)
    beyond = single[8192] + (single[8192] - single[4096]) / 4096 * (14_000 - 8192)
    assert float(curves.prompt_s(14_000)) == pytest.approx(beyond, rel=1e-9)
    assert curves.prompt_range_tokens == (128, 8192)  # 14,000 is flagged as extrapolated


def test_batches_of_prompts_do_not_stand_in_for_long_prompts() -> None:
    """The reason why single prompts alone count beyond the limit: 512 x 16 tokens against 8,192, by group."""
    differs = {}
    for group in curve_groups():
        at = {(p.prompt_tokens, p.batch): p.latency_s for p in _load(group).points if p.phase == "prompt"}
        differs[group] = max((at[512, n] / at[512 * n, 1] - 1 for n in (8, 16)), key=abs)
    assert max(differs.values()) == pytest.approx(0.345, abs=1e-3)  # Llama2-70B, DGX-A100, TP 8
    assert min(differs.values()) == pytest.approx(-0.145, abs=1e-3)  # BLOOM-176B, DGX-H100, TP 8


def test_the_simulators_prompt_curve_goes_through_every_key(group: tuple[str, str, int]) -> None:
    curves = _simulator(group)
    assert curves.prompt.x.tolist() == [128 * 2**i for i in range(9)]
    assert curves.prompt_range_tokens == (128, 32768)
    assert curves.decode_batch_range == (1, 32768)  # covers every batch: no warning applies


def test_decode_curve_is_exact_on_the_batch_axis_outside_dips(group: Group) -> None:
    curves = _load(group)
    assert curves.axis_context_tokens == 512 + 128 / 2
    dips = {dip.at for dip in curves.dips if dip.phase == "decode"}
    axis = [p for p in curves.kept if p.phase == "decode" and p.context_per_sequence_tokens == 576]
    assert {p.batch for p in axis} == set(curves.decode.x.tolist())
    for p in axis:
        if p.batch not in dips:
            assert float(curves.decode_s(p.batch, p.context_tokens)) == pytest.approx(p.latency_s, rel=1e-12)


def test_dips_are_levelled_within_the_noise(group: Group) -> None:
    for dip in _load(group).dips:
        assert dip.used_s == pytest.approx(dip.measured_s, rel=0.08)


def test_more_work_never_takes_less_time(group: Group) -> None:
    curves = _load(group)
    tokens = np.arange(1, 100_000, 37)
    assert (np.diff(curves.prompt_s(tokens)) >= -1e-15).all()
    assert (curves.prompt_s(tokens) > 0).all()
    batch = np.arange(1, 600)
    for each in (0, 1, 100, 576, 2000, 8192):  # context of one sequence
        assert (np.diff(curves.decode_s(batch, batch * each)) >= -1e-15).all()
    for held in (0, 576, 36_864, 1_000_000):  # context of the whole batch
        assert (np.diff(curves.decode_s(batch, held)) >= -1e-15).all()
    context = np.arange(0, 2_000_000, 5000)
    for sequences in (1, 7, 64, 500):
        assert (np.diff(curves.decode_s(sequences, context)) > 0).all()
    assert (curves.decode_s(batch, batch) > 0).all()


def test_beyond_the_last_knot_the_last_segment_goes_on(group: Group) -> None:
    for curves in (_load(group), _simulator(group)):
        for curve in (curves.prompt, curves.decode):
            slope = (curve.y[-1] - curve.y[-2]) / (curve.x[-1] - curve.x[-2])
            far = curve.x[-1] * np.array([1.5, 4.0, 100.0])
            np.testing.assert_allclose(curve(far), curve.y[-1] + slope * (far - curve.x[-1]), rtol=1e-9)
            slope = (curve.y[1] - curve.y[0]) / (curve.x[1] - curve.x[0])
            near = curve.x[0] * np.array([0.0, 0.3, 1.0])
            np.testing.assert_allclose(curve(near), curve.y[0] + slope * (near - curve.x[0]), rtol=1e-13)


@settings(deadline=None)
@given(st.data())
def test_piecewise_linear_agrees_with_scipy_in_double_precision(data: st.DataObject) -> None:
    x = np.cumsum([float(data.draw(st.integers(1, 5000))) for _ in range(data.draw(st.integers(2, 12)))])
    y = np.array([data.draw(st.floats(0.01, 10)) for _ in x])
    at = np.array([data.draw(st.floats(0, 40_000)) for _ in range(20)])
    line = interp1d(x, y, fill_value="extrapolate")
    expected = np.where((at < x[0]) & (line(0.0) < 0.0), y[0] * at / x[0], line(at))
    steepest = np.abs(np.diff(y) / np.diff(x)).max()
    np.testing.assert_allclose(PiecewiseLinear(x, y)(at), expected, rtol=1e-12, atol=1e-12 * steepest * 40_000)


_TIMES = st.lists(st.floats(1e-6, 10), min_size=12, max_size=12)


@given(st.lists(st.tuples(st.floats(1.0, 1e3), st.floats(1e-3, 1e2)), min_size=2, max_size=8))
def test_at_best_no_work_is_slower_per_unit_than_less_of_it_and_none_is_slower_than_it_was(
    steps: list[tuple[float, float]],
) -> None:
    """Between knots and beyond them; as it was up to the first amount that is slower per unit than a smaller one."""
    x, y = (np.cumsum(each) for each in zip(*steps, strict=True))
    line, at = PiecewiseLinear(x, y), np.linspace(x[0] / 10.0, 3.0 * x[-1], 500)
    before, best = line(at), line.at_best()(at)
    assert (best <= before * (1.0 + 1e-9)).all()
    assert (np.diff(best / at) <= 1e-9 * best[1:] / at[1:]).all()
    falling = at < x[int(np.argmax(np.append(np.diff(y / x) > 0.0, True)))]  # up to the last knot before it rises
    assert best[falling] == pytest.approx(before[falling])


@settings(deadline=None)
@given(_TIMES, st.integers(1, 4096), st.integers(1, 64), st.integers(1, 16_384), st.floats(1e-12, 1e-4))
def test_no_curve_of_noisy_points_takes_no_time(
    times: list[float], tokens: int, batch: int, context: int, floor_s: float
) -> None:
    """Points of any positive times make a curve that is above 0 for all work, or none."""
    points = [
        CurvePoint("prompt", tokens * 2**k, 1, 0, time_s, 1, time_s, time_s, "measured")
        for k, time_s in enumerate(times[:4])
    ]
    points += [_decode(batch * 2**k, context, time_s) for k, time_s in enumerate(times[4:8])]
    points += [_decode(1, context + 500 * k, time_s, 512 + k) for k, time_s in enumerate(times[8:], 1)]
    try:
        curves = fit_measured(points, ("m", "x", 8), floor_s)
    except InputError:
        return
    work = np.unique(np.geomspace(1, 1e6, 500).astype(int))
    assert (curves.prompt_s(work) > 0).all() and (curves.decode_s(work, np.zeros(work.size)) > 0).all()
    assert curves.slope_s_per_context_token > 0


def test_a_first_segment_that_falls_below_0_is_in_proportion_below_it_and_says_so() -> None:
    points = [
        CurvePoint("prompt", tokens, 1, 0, time_s, 1, time_s, time_s, "measured")
        for tokens, time_s in ((64, 1e-3), (2048, 0.1))
    ]
    curves = fit_measured([*points, _decode(4, 576, 0.01), _decode(8, 576, 0.1)], ("m", "x", 8), 1e-9)
    assert curves.prompt_s([1, 16, 64]).tolist() == pytest.approx([1e-3 / 64, 0.25e-3, 1e-3])
    assert float(curves.decode_s(1, 576)) == pytest.approx(0.01 / 4)
    assert [text.partition(":")[0] for text in curves.assumed] == ["prompt below 64 tokens", "decode below 4 sequences"]
    assert all("assumed in proportion" in text for text in curves.assumed)


def test_proportion_below_the_first_point_is_nearer_than_a_constant() -> None:
    """Shipped prompt curves without their small prompts, at the prompts left out: factors of the median error."""
    in_proportion, constant = [], []
    for group in curve_groups():
        prompt = _load(group).prompt
        for first in range(1, len(prompt.x) - 1):
            cut = PiecewiseLinear(prompt.x[first:], prompt.y[first:])
            if not cut(0.0):
                in_proportion.append(np.abs(np.log(cut(prompt.x[:first]) / prompt.y[:first])).mean())
                constant.append(np.abs(np.log(cut.y[0] / prompt.y[:first])).mean())
    factors = np.exp([np.median(in_proportion), np.median(constant)])
    assert len(constant) == 24 and factors == pytest.approx([1.48, 4.75], abs=0.01)


def test_a_slope_of_single_sequences_that_batches_contradict_is_the_physical_floor() -> None:
    rows = [_decode(1, 576 + 64 * k, 0.05 + 2e-6 * 64 * k, 512 + 64 * k) for k in range(3)]
    rows += [CurvePoint("prompt", tokens, 1, 0, 0.1, 1, 0.1, 0.1, "measured") for tokens in (64, 128)]
    for batch_s, limited_by in ((0.2, "fit"), (0.07, "floor")):
        curves = fit_measured([*rows, _decode(64, 576, batch_s)], ("m", "x", 8), 1.5e-6)
        assert curves.context is not None and curves.context.limited_by == limited_by
    message = r"decode at batch 64: must take more than the 55.3 ms of its context alone, got 50 ms: check the machine"
    with pytest.raises(InputError, match=message):
        fit_measured([*rows, _decode(64, 576, 0.05)], ("m", "x", 8), 1.5e-6)


def test_curves_take_any_shape_and_broadcast() -> None:
    curves = _load(("llama2-70b", "dgx-h100", 8))
    assert curves.prompt_s(100).shape == () and curves.prompt_s([[1, 2]]).shape == (1, 2)
    grid = curves.decode_s(np.arange(1, 4)[:, None], np.arange(4)[None, :] * 1000)
    assert grid.shape == (3, 4)
    assert grid[1, 2] == curves.decode_s(2, 2000)


@pytest.mark.parametrize(
    ("x", "y"), [([1.0], [1.0]), ([1.0, 1.0], [1.0, 2.0]), ([0.0, 1.0], [1.0, 2.0]), ([1.0, 2.0], [1.0])]
)
def test_a_curve_without_two_rising_knots_is_refused(x: list[float], y: list[float]) -> None:
    with pytest.raises(InputError, match="2 or more knots rising from above 0"):
        PiecewiseLinear(np.array(x), np.array(y))


def test_context_slope_is_physical(group: Group) -> None:
    """The slope is one to two times the time to read the KV cache; a fit that exceeds it has a known cause.

    A sequence of multi-head attention keeps all GPUs busy, so BLOOM-176B's own fits must lie there. One
    sequence of Llama2-70B has one to four KV heads per GPU; its fits may exceed the bound, more so the fewer.
    """
    model, machine, tensor_parallel = group
    fit = _load(group).context
    assert fit is not None and fit.rows == 13
    floor = kv_read_s_per_token(catalog.model(model), catalog.machine(machine), tensor_parallel)
    assert fit.floor_s_per_token == floor
    assert floor <= fit.slope_s_per_token <= MAX_CONTEXT_SLOPE_RATIO * floor
    ratio = fit.fitted_s_per_token / floor
    noise = 2 * fit.standard_error_s_per_token / floor
    if model == "bloom-176b":
        assert 1 - noise < ratio < MAX_CONTEXT_SLOPE_RATIO
    else:
        assert 1 - noise < ratio < 2 * tensor_parallel + noise
    assert fit.limited_by == ("floor" if ratio < 1 else "ceiling" if ratio > 2 else "fit")
    assert fit.residual_s < 1.1e-3


def _decode(batch: int, context_each: float, seconds: float, prompt: int = 512) -> CurvePoint:
    return CurvePoint("decode", prompt, batch, batch * context_each, seconds, 5, seconds, seconds, "measured")


@settings(deadline=None)
@given(st.floats(1e-8, 1e-6), st.floats(-0.004, 0.004), st.floats(0.02, 0.1))
def test_the_slope_of_exact_rows_is_found_whatever_the_sessions(
    slope: float, between_sessions_s: float, base_s: float
) -> None:
    rows = [_decode(2, 576, 0.2)]
    rows += [_decode(1, p + 64, base_s + slope * (p + 64), p) for p in (128, 512, 2048, 8192)]
    rows += [_decode(1, 512 + o / 2, base_s + between_sessions_s + slope * (512 + o / 2)) for o in (1024, 8192)]
    fit = fit_context_slope(rows, 576, floor=slope / 1.5)
    assert fit.fitted_s_per_token == pytest.approx(slope, rel=1e-4)
    assert fit.slope_s_per_token == pytest.approx(slope, rel=1e-4) and fit.limited_by == "fit"
    assert fit_context_slope(rows, 576, floor=slope * 2).limited_by == "floor"
    ceiling = fit_context_slope(rows, 576, floor=slope / 4)
    assert ceiling.limited_by == "ceiling" and ceiling.slope_s_per_token == slope / 4 * MAX_CONTEXT_SLOPE_RATIO


def test_without_rows_to_fit_the_slope_is_the_physical_floor() -> None:
    fit = fit_context_slope([_decode(1, 576, 0.05), _decode(2, 576, 0.05)], 576, floor=1e-7)
    assert fit.slope_s_per_token == 1e-7 and fit.limited_by == "floor"


def test_too_few_points_are_refused_by_group() -> None:
    with pytest.raises(InputError, match="curves of m on x at TP 8: must have 2 or more prompt sizes"):
        fit_measured([], ("m", "x", 8), 1e-7)


def test_bloom_decode_doubles_at_batch_64() -> None:
    """The paper's Fig. 5b: TBT about doubles at batch 64."""
    for machine, expected in (("dgx-a100", 1.98), ("dgx-h100", 1.77)):
        curves = _load(("bloom-176b", machine, 8))
        ratio = float(curves.decode_s(64, 64 * 576) / curves.decode_s(1, 576))
        assert ratio == pytest.approx(expected, abs=0.01) and 1.7 < ratio < 2.3


def test_h100_against_a100_as_in_table_iv() -> None:
    """Llama2-70B without batching, P50: TTFT 0.51x, TBT 0.70x; coding's median prompt is 1,500 tokens."""
    h100, a100 = (_load(("llama2-70b", machine, 8)) for machine in ("dgx-h100", "dgx-a100"))
    assert float(h100.prompt_s(1500) / a100.prompt_s(1500)) == pytest.approx(0.51, rel=0.1)
    assert float(h100.decode_s(1, 1500) / a100.decode_s(1, 1500)) == pytest.approx(0.70, rel=0.1)


def test_a_prompt_of_1500_takes_about_6_output_tokens_on_h100() -> None:
    curves = _load(("bloom-176b", "dgx-h100", 8))
    assert float(curves.prompt_s(1500) / curves.decode_s(1, 1500)) == pytest.approx(6, rel=0.25)


def test_the_simulators_decode_is_almost_flat_where_the_measured_one_doubles() -> None:
    curves = _simulator(("bloom-176b", "dgx-a100", 8))
    assert float(curves.decode_s(64, 64 * 576)) == pytest.approx(0.0476, abs=2e-4)
    assert curves.slope_s_per_context_token == 0 and curves.context is None


def test_the_simulators_unphysical_points_are_kept() -> None:
    curves = _simulator(("llama2-70b", "dgx-a100", 2))
    assert float(curves.prompt_s(32768)) == pytest.approx(0.794, abs=1e-3)
    assert curves.refused == () and curves.prompt_range_tokens == (128, 32768)


def test_sources_say_what_is_assumed() -> None:
    for load in (_load, _simulator):
        assert load(("bloom-176b", "dgx-a100", 8)).provenance == ("measured",)
        capped = load(("bloom-176b", "dgx-h100-capped", 8))
        assert capped.provenance == ("assumed",)
        assert "github.com/Mutinifni/splitwise-sim" in capped.sources[0] and "MIT" in capped.sources[0]
        assert "1.3" in capped.sources[1]


def test_a_group_without_curves_is_refused_with_what_there_is() -> None:
    with pytest.raises(
        InputError, match=r"llama2-70b on dgx-a100 at TP 3: there are curves for dgx-a100 \(TP 2, 4, 8\)"
    ):
        _load(("llama2-70b", "dgx-a100", 3))
    assert len(curve_groups()) == 12


def test_a_file_of_curves_is_read_once_for_all_its_degrees(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []

    def counted(path: Path, **names: str) -> dict[int, tuple[CurvePoint, ...]]:
        read.append(path.stem)
        return read_points(path, **names)

    monkeypatch.setattr(curves_module, "read_points", counted)
    for cached in (load_curve_set, curves_module._points_of):
        cached.cache_clear()
    machines = ("dgx-a100", "dgx-h100", "dgx-h100-capped")
    for machine in machines * 2:
        for tensor_parallel in (2, 4, 8):
            _load(("llama2-70b", machine, tensor_parallel))
    assert read == [f"{machine}__llama2-70b" for machine in machines]


def test_curves_are_evaluated_in_arrays() -> None:
    curves = _load(("llama2-70b", "dgx-a100", 8))

    def calls(elements: int) -> int:
        batch = np.random.default_rng(1).uniform(1, 500, elements)
        return calls_of(lambda: (curves.decode_s(batch, batch * 1500), curves.prompt_s(batch)))

    assert calls(100_000) == calls(10) < 200

"""Requests drawn from folders in ServeGen's form: against closed forms, and an independent draw."""

import json
import math

import numpy as np
import pytest
from scipy import stats

from provisioner.errors import InputError
from provisioner.specs import trace_windows
from provisioner.specs.trace_formats import TraceRules
from provisioner.specs.traces import read_trace

# start, requests/s, pattern and shape; the scale of a pattern does not fit its rate in ServeGen's files either
WINDOWS = {
    4: [(0, 2.0, "Gamma", 0.4), (600, 0, "", 0), (1200, 1.5, "Weibull", 0.5), (1800, 1.0, "Weibull", 1.6)],
    10: [(0, 0.5, "Gamma", 1.0), (600, 3.0, "Gamma", 0.1), (1200, 0, "", 0), (1800, 0.25, "Weibull", 0.3)],
}
LENGTHS = {
    4: {
        "0": {"input_tokens": "{100: 0.25, 200: 0.75}", "output_tokens": "{10: 0.5, 30: 0.5}"},
        "600": {"input_tokens": "{}", "output_tokens": "{}"},
        "1800": {"input_tokens": "{4000: 1.0}", "output_tokens": "{7: 0.125, 9: 0.875}"},
    },
    10: {"0": {"input_tokens": "{55: 1}", "output_tokens": "{66: 1e0}", "reason_ratio": "{0.5: 1.0}"}},
}


def write(folder, windows=WINDOWS, lengths=LENGTHS):
    for client, rows in windows.items():
        text = "".join(f"{start},{rate},1.5,{pattern},{shape},0.07\n" for start, rate, pattern, shape in rows)
        (folder / f"chunk-{client}-trace.csv").write_text(text)
        (folder / f"chunk-{client}-dataset.json").write_text(json.dumps(lengths[client]))
    return folder


def test_each_window_has_its_rate_and_its_lengths(tmp_path):
    read = read_trace(write(tmp_path))
    window = read.arrival_s // 600
    assert (np.diff(read.arrival_s) >= 0).all()
    # 2, 0, 1.5, 1 and 0.5, 3, 0, 0.25 requests/s in 600 s each
    assert np.bincount(window.astype(int)).tolist() == [1200 + 300, 1800, 900, 600 + 150]
    first = window == 0
    assert np.bincount(read.prompt_tokens[first])[55] == 300
    ours = read.prompt_tokens[first & (read.prompt_tokens != 55)]
    assert set(ours) == {100, 200}
    assert ours.mean() == pytest.approx(175, abs=4 * math.sqrt(0.25 * 0.75 / 1200) * 100)
    # the period at 600 s has no lengths: those of the one before it count
    assert set(read.prompt_tokens[window == 2]) == {100, 200}
    assert {*zip(read.prompt_tokens[window == 3], read.output_tokens[window == 3], strict=True)} == {
        (4000, 7),
        (4000, 9),
        (55, 66),
    }
    outputs = read.output_tokens[(window == 3) & (read.prompt_tokens == 4000)]
    assert (outputs == 7).mean() == pytest.approx(0.125, abs=4 * math.sqrt(0.125 * 0.875 / 600))


def test_prompts_and_outputs_are_drawn_apart(tmp_path):
    read = read_trace(write(tmp_path))
    ours = (read.arrival_s < 600) & (read.prompt_tokens != 55)
    assert abs(np.corrcoef(read.prompt_tokens[ours], read.output_tokens[ours])[0, 1]) < 4 / math.sqrt(ours.sum())


def test_gaps_are_those_of_the_pattern(tmp_path):
    """Gaps of shape a that fill a window are Dirichlet's: K of them have the squared CV (K - 1) / (K a + 1)."""
    for shape in (0.4, 3.0):
        write(tmp_path, {1: [(0, 10.0, "Gamma", shape), (600, 0, "", 0)]}, {1: LENGTHS[10]})
        gaps = np.concatenate(
            [
                np.diff(read_trace(tmp_path, TraceRules(seed=seed)).arrival_s, prepend=0.0, append=600)
                for seed in range(9)
            ]
        )
        per_window = 6001
        assert gaps.size == 9 * per_window
        cv2 = (per_window - 1) / (per_window * shape + 1)
        # the variance of a squared CV over n gaps of a gamma distribution is (2 + 6 / a + ...) / a^2 / n
        spread = math.sqrt((2 + 6 / shape) / shape**2 / gaps.size)
        assert gaps.var() / gaps.mean() ** 2 == pytest.approx(cv2, abs=5 * spread)


@pytest.mark.parametrize(("pattern", "law"), [("Gamma", stats.gamma(0.4)), ("Weibull", stats.weibull_min(0.5))])
def test_an_independent_draw_agrees(tmp_path, pattern, law):
    """SciPy draws as many gaps as ServeGen's generator does, stretched to the window."""
    write(tmp_path, {1: [(0, 1.0, pattern, law.args[0]), (300, 0, "", 0)]}, {1: LENGTHS[10]})
    ours = [read_trace(tmp_path, TraceRules(seed=seed)).arrival_s for seed in range(60)]
    rng = np.random.default_rng(77)
    theirs = []
    for _ in range(60):
        gaps = law.rvs(301, random_state=rng)
        theirs.append(np.cumsum(300 * gaps / gaps.sum())[:-1])
    of = [np.concatenate([np.diff(times, prepend=0.0) for times in each]) for each in (ours, theirs)]
    assert stats.ks_2samp(*of).pvalue > 1e-3
    # numbers in the first third of the window, which say how they cluster
    thirds = [[int((times < 100).sum()) for times in each] for each in (ours, theirs)]
    assert stats.ks_2samp(*thirds).pvalue > 1e-3


def test_rates_that_make_no_whole_number_are_kept_in_the_mean(tmp_path):
    write(tmp_path, {1: [(0, 1.25, "Gamma", 1.0), (1, 1.25, "Gamma", 1.0)]}, {1: LENGTHS[10]})
    counts = [read_trace(tmp_path, TraceRules(seed=seed)).requests for seed in range(600)]
    assert set(counts) == {2, 3, 4}
    assert np.mean(counts) == pytest.approx(2.5, abs=4 * math.sqrt(2 * 0.25 * 0.75 / 600))


def test_the_seed_decides_and_each_client_has_its_own_numbers(tmp_path):
    first, again = read_trace(write(tmp_path)), read_trace(tmp_path)
    assert (first.arrival_s == again.arrival_s).all() and (first.output_tokens == again.output_tokens).all()
    other = read_trace(tmp_path, TraceRules(seed=1))
    assert other.requests == first.requests and (other.arrival_s != first.arrival_s).all()
    for part in ("trace.csv", "dataset.json"):
        (tmp_path / f"chunk-10-{part}").unlink()
    alone = read_trace(tmp_path)
    assert np.isin(alone.arrival_s, first.arrival_s).all()


def test_it_is_named_generated(tmp_path):
    read = read_trace(write(tmp_path), TraceRules(seed=3))
    how = "with seed 3 from the rates of 2 client(s), prompts apart from outputs"
    assert read.facts["generated"] == how
    assert read.warnings == (f"the requests are generated, {how}; another seed draws others",)
    workload = read.workload("w")
    assert read_trace(tmp_path, TraceRules(rate_rps=7.0)).workload("w").rate_rps == 7.0
    assert workload.title == f"{tmp_path.name} (generated ServeGen trace)"
    assert workload.sources == (f"{tmp_path.name}: 4,950 requests; generated {how}",)


def test_a_span_cuts_windows_and_counts_from_its_start(tmp_path):
    read = read_trace(write(tmp_path), TraceRules(span_s=(300.0, 1500.0)))
    assert np.bincount((read.arrival_s // 300).astype(int)).tolist() == [
        600 + 150,
        *np.bincount(
            (read.arrival_s[(read.arrival_s >= 300) & (read.arrival_s < 900)] // 300 - 1).astype(int)
        ).tolist(),
        450,
    ]
    assert read.requests == 750 + 1800 + 450
    assert "from 5 min to 25 min" in read.facts["generated"]
    with pytest.raises(InputError, match=r"has no requests; 1 to 10,000,000 are drawn: give another part with span_s"):
        read_trace(tmp_path, TraceRules(span_s=(9000.0, 9600.0)))


GOOD = "0,1,1,Gamma,1,1\n600,0,0,,0,0\n"
WINDOW = "row 1: must start after the one before, with a rate of 0, or above 0 and Gamma or Weibull with a shape from"
PERIOD = "period '0': must have input_tokens and output_tokens, texts such as"
SHARES = {"input_tokens": "{5: 1}", "output_tokens": "{5: 1}"}


@pytest.mark.parametrize(
    ("trace", "lengths", "message"),
    [
        ("0,1,1,Gamma,1\n", {"0": SHARES}, r"chunk-1-trace\.csv: is not of windows \(start, rate, cv, pattern, shape"),
        ("0,x,1,Gamma,1,1\n", {"0": SHARES}, r"is not of windows .*'x'"),
        ("0,1,1,Gamma,1,1\n", {"0": SHARES}, "has 1 windows; from two on they tell their length"),
        ("600,1,1,Gamma,1,1\n0,1,1,Gamma,1,1\n", {"0": SHARES}, r"row 2: must start .*, got \(0\.0, 1\.0, "),
        ("nan,1,1,Gamma,1,1\n" + GOOD, {"0": SHARES}, WINDOW),
        ("0,-1,1,Gamma,1,1\n600,0,0,,0,0\n", {"0": SHARES}, WINDOW),
        ("0,inf,1,Gamma,1,1\n600,0,0,,0,0\n", {"0": SHARES}, WINDOW),
        ("0,1,1,Pareto,1,1\n600,0,0,,0,0\n", {"0": SHARES}, WINDOW),
        ("0,1,1,,0,0\n600,0,0,,0,0\n", {"0": SHARES}, WINDOW),
        ("0,1,1,Gamma,1e-9,1\n600,0,0,,0,0\n", {"0": SHARES}, WINDOW),
        ("0,1e9,1,Gamma,1,1\n600,0,0,,0,0\n", {"0": SHARES}, "has 600,000,000,000 requests; 1 to 10,000,000 are drawn"),
        ("0,1e-300,1,Gamma,1,1\n600,0,0,,0,0\n", {"0": SHARES}, "has no requests; 1 to 10,000,000 are drawn"),
        (GOOD, {"600": SHARES}, "chunk-1-dataset.json: has no lengths for the requests from 0 s on"),
        (GOOD, {"0": {"text_tokens": "{5: 1}"}}, "period '0': must have input_tokens and output_tokens, texts such as"),
        (GOOD, {"0": SHARES | {"input_tokens": "{5: 0.5}"}}, PERIOD),
        (GOOD, {"0": SHARES | {"output_tokens": "{0: 1}"}}, PERIOD),
        (GOOD, {"0": SHARES | {"input_tokens": "{5.5: 1}"}}, PERIOD),
        (GOOD, {"0": SHARES | {"input_tokens": "{inf: 1}"}}, PERIOD),
        (GOOD, {"0": SHARES | {"input_tokens": "{5: nan}"}}, PERIOD),
        (GOOD, {"0": SHARES | {"input_tokens": "{5: 2, 6: -1}"}}, PERIOD),
        (GOOD, {"0": SHARES | {"input_tokens": "__import__('os')"}}, PERIOD),
        (GOOD, {"0": SHARES | {"input_tokens": {"5": 1}}}, PERIOD),
        (GOOD, {"x": SHARES}, "period 'x': must have input_tokens and output_tokens, texts"),
        (GOOD, [1], "chunk-1-dataset.json: must have input_tokens and output_tokens, texts"),
    ],
)  # fmt: skip
def test_wrong_folders_are_one_line(tmp_path, trace, lengths, message):
    (tmp_path / "chunk-1-trace.csv").write_text(trace)
    (tmp_path / "chunk-1-dataset.json").write_text(json.dumps(lengths))
    with pytest.raises(InputError, match=message) as error:
        read_trace(tmp_path)
    assert "\n" not in str(error.value)


def test_a_client_without_lengths_and_other_misuses(tmp_path):
    write(tmp_path)
    (tmp_path / "chunk-4-dataset.json").unlink()
    with pytest.raises(InputError, match=r"chunk-4-dataset\.json: cannot be read: No such file or directory"):
        read_trace(tmp_path)
    for name, given in (("time_unit", "ms"), ("block_tokens", 16), ("failed_rows", "refuse")):
        with pytest.raises(InputError, match=f"has windows.*; leave out {name}$"):
            read_trace(tmp_path, TraceRules(**{name: given}))
    with pytest.raises(InputError, match="line 1: has windows of ServeGen, no requests: give its folder"):
        read_trace(tmp_path / "chunk-4-trace.csv")
    (tmp_path / "own.csv").write_text("arrival_s,prompt_tokens,output_tokens\n1,2,3\n")
    with pytest.raises(InputError, match="is no folder of ServeGen, of which span_s takes a part"):
        read_trace(tmp_path / "own.csv", TraceRules(span_s=(0.0, 60.0)))


def test_the_least_and_the_largest_shape_make_no_time_that_is_none(tmp_path):
    for shape in trace_windows.SHAPES:
        for pattern in ("Gamma", "Weibull"):
            write(tmp_path, {1: [(0, 0.01, pattern, shape), (600, 1, pattern, shape)]}, {1: LENGTHS[10]})
            times = read_trace(tmp_path).arrival_s
            assert np.isfinite(times).all() and (times >= 0).all() and (times <= 1200).all()

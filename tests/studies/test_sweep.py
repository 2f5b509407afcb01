"""A sweep of sizes against single simulations, brute force, the planner, and its own uninterrupted self."""

from __future__ import annotations

import dataclasses
import json
import math
import signal
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from provisioner import api
from provisioner.api import sweep, vary
from provisioner.errors import InputError, UnknownNameError
from provisioner.options import SimulateOptions
from provisioner.report.chart import HeatMap, LineChart
from provisioner.report.views.registry import charts
from provisioner.results.grid import Grid
from provisioner.simulation.requests import drawn
from provisioner.specs import catalog
from provisioner.specs.metrics import name_of
from provisioner.studies import points as points_module
from provisioner.studies.grid import smallest_of
from provisioner.studies.journal import Journal
from tests.waiting import wait_until

# E2E takes both pools: the limit on it is what prompt machines can be traded for token machines by.
SMALL = SimulateOptions(
    design="splitwise-hh", rate_rps=20.0, duration_s=20.0, slo="splitwise", limits={"e2e_p99": "1.06x"}
)
PROMPT, TOKEN = (3, 4, 5, 6, 7, 8, 9), (1, 2, 3, 4)


@pytest.fixture(scope="module")
def small() -> Grid:
    return sweep(SMALL, prompt="3:9", token=TOKEN, prices="paper")


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> str:
    requests = drawn(catalog.workload("coding"), 20.0, 60.0, np.random.default_rng(7))
    path = tmp_path_factory.mktemp("trace") / "own.csv"
    columns = {
        "arrival_s": requests.arrival_s,
        "prompt_tokens": requests.prompt_tokens,
        "output_tokens": requests.output_tokens,
    }
    pd.DataFrame(columns).to_csv(path, index=False)
    return str(path)


def sizes_of(found: Grid, k: int | None) -> tuple[int, ...]:
    """Machines of each pool of a point."""
    assert k is not None
    return tuple(pool.machines for pool in found.clusters[k].pools)


def brute(found: Grid) -> tuple[set[tuple[int, ...]], tuple[int, ...] | None]:
    """Frontier and optimum from the table alone: every pair of passing cells compared."""
    frame = found.to_frame()
    names = [f"{pool.role}_machines" for pool in found.clusters[0].pools]
    passing = frame[(frame["slo_met"] == True) & (frame["stable"] == True)]  # noqa: E712
    sizes = [tuple(int(n) for n in row) for row in passing[names].to_numpy()]
    minimal = {
        each
        for each in sizes
        if not any(other != each and all(o <= e for o, e in zip(other, each, strict=True)) for other in sizes)
    }
    totals = [column.round(6) for column in (passing["cost_usd_per_h"], passing["power_w"], passing["machines"])]
    ranked = sorted(zip(*totals, passing["worst_ratio"], sizes, strict=True))
    return minimal, (ranked[0][-1] if ranked else None)


def test_every_cell_is_there_in_order_and_its_totals_add_up(small: Grid) -> None:
    frame = small.to_frame()
    assert list(zip(frame["prompt_machines"], frame["token_machines"], strict=True)) == list(product(PROMPT, TOKEN))
    assert (frame["machines"] == frame["prompt_machines"] + frame["token_machines"]).all()
    assert np.allclose(frame["cost_usd_per_h"], 38.08 * frame["machines"])  # the paper's 4.76 $/h of 8 GPUs
    assert {"pass", "fail"} <= set(frame["state"]), "the grid must have both sides"


def test_cells_are_the_simulations_of_their_clusters(small: Grid) -> None:
    frame = small.to_frame().set_index(["prompt_machines", "token_machines"])
    for prompt, token in ((3, 1), (6, 2), (9, 4)):
        alone = api.simulate(dataclasses.replace(SMALL, prompt_machines=prompt, token_machines=token))
        cell = frame.loc[(prompt, token)]
        for each in alone.latency:
            if each.metric != "gap":
                assert cell[f"{name_of(each.metric, each.percentile)}_s"] == each.seconds.mean
                assert cell[f"{name_of(each.metric, each.percentile)}_slowdown"] == each.slowdown.mean
        told = None if pd.isna(cell["stable"]) else bool(cell["stable"])
        assert told is alone.stable and bool(cell["slo_met"]) == alone.slo_met
        ratios = {
            name_of(e.metric, e.percentile): e.judged.mean / e.limit.value for e in alone.latency if e.limit is not None
        }
        assert cell["worst_ratio"] == max(ratios.values()) and ratios[cell["binding"]] == max(ratios.values())
        assert cell["prompt_utilization"] == alone.pools[0].utilization
        assert cell["token_utilization"] == alone.pools[1].utilization


def test_frontier_and_optimum_are_those_of_brute_force(small: Grid) -> None:
    minimal, best = brute(small)
    assert {sizes_of(small, k) for k in small.frontier} == minimal and len(minimal) > 1
    assert sizes_of(small, small.optimum) == best
    frame = small.to_frame()
    assert frame["optimum"].sum() == 1 and frame["frontier"].sum() == len(minimal)


def test_among_equal_totals_the_largest_slack_decides() -> None:
    """Pools that lend machines to each other leave many clusters of one size that pass."""
    found = sweep(
        SimulateOptions(design="splitwise-hh", rate_rps=30.0, duration_s=30.0, policy="splitwise"),
        prompt="6:9",
        token="1:4",
        objective="power",
    )
    _, best = brute(found)
    assert found.optimum is not None and sizes_of(found, found.optimum) == best
    least = found.points[found.optimum]
    power_w = least.totals.power_w
    equal = [k for k, each in enumerate(found.points) if each.state == "pass" and each.totals.power_w == power_w]
    assert len(equal) > 2 and min(sizes_of(found, k) for k in equal) != best, "ties that another order would break"
    assert min(found.points[k].worst_ratio or math.inf for k in equal) == least.worst_ratio


def test_smallest_of_random_clusters_is_brute_force() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        clusters = list({tuple(map(int, rng.integers(1, 8, 2))) for _ in range(12)})
        slow = {
            each
            for each in clusters
            if not any(o != each and all(a <= b for a, b in zip(o, each, strict=True)) for o in clusters)
        }
        assert {clusters[k] for k in smallest_of(clusters)} == slow


@pytest.mark.parametrize(
    ("design", "ranges", "objective"),
    [
        ("splitwise-hh", {"prompt": "2:10", "token": "1:4"}, "cost"),
        ("splitwise-ha", {"prompt": "2:10", "token": "1:5"}, "power"),
        ("baseline-h100", {"mixed": "4:24"}, "machines"),
    ],
)
def test_the_optimum_is_the_plan(design: str, ranges: dict[str, str], objective: str, trace: str) -> None:
    planned = api.plan(
        trace=trace,
        designs=[design],
        prices="paper",
        objective=objective,
        machines=["dgx-a100", "dgx-h100"],
        tensor_parallel="largest",
        batch_tokens="own",
    )
    swept = sweep(SimulateOptions(design=design, trace=trace), prices="paper", objective=objective, **ranges)
    assert swept.optimum is not None
    best = swept.points[swept.optimum]
    assert sizes_of(swept, swept.optimum) == tuple(pool.machines for pool in planned.pools)
    assert best.totals.cost_usd_per_h == pytest.approx(planned.cost_usd_per_h)
    assert best.worst_ratio is not None and 1.0 - best.worst_ratio == pytest.approx(planned.worst_slack)


def test_one_pool_alone_and_several_request_sets() -> None:
    options = SimulateOptions(design="baseline-h100", rate_rps=10.0, duration_s=10.0, sets=3)
    found = sweep(options, mixed="2,4:12:4")
    frame = found.to_frame()
    assert list(frame["mixed_machines"]) == [2, 4, 8, 12] and found.sets == 3
    assert set(frame["state"]) <= {"pass", "undecided", "fail", "unstable"}
    assert (frame["ttft_p99_s_low"] <= frame["ttft_p99_s"]).all()
    for _, row in frame.iterrows():
        alone = api.simulate(
            design="baseline-h100", mixed_machines=row["mixed_machines"], rate_rps=10.0, duration_s=10.0, sets=3
        )
        figure = next(each for each in alone.latency if (each.metric, each.percentile) == ("e2e", 90.0))
        assert (row["e2e_p90_s"], row["e2e_p90_s_high"]) == (figure.seconds.mean, figure.seconds.high)
    (chart,) = charts(found).values()
    assert isinstance(chart, LineChart) and "mixed machines" in chart.x.label


def test_clusters_that_cannot_keep_up_are_rows_with_their_state() -> None:
    found = sweep(SimulateOptions(design="splitwise-hh", rate_rps=60.0, duration_s=20.0), prompt="1:2", token="1:2")
    assert len(found.points) == 4 and found.optimum is None and found.frontier == ()
    assert set(found.states) == {"unstable"}
    assert all("wait ever longer" in point.why for point in found.points)
    assert "no cluster of the 4 swept passes" in str(found)


def test_requests_that_no_machine_holds_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens\n0,100,10\n1,9000000,10\n", encoding="utf-8")
    options = SimulateOptions(design="splitwise-hh", trace=str(path))
    with pytest.raises(InputError, match="of the longest request served"):
        sweep(options, prompt="1:2", token=1, out=[str(tmp_path / "long.json")])
    assert list(tmp_path.iterdir()) == [path]


def test_prices_and_power_scale_totals_and_not_latencies(small: Grid) -> None:
    options = SimulateOptions(
        design="splitwise-hh", rate_rps=20.0, duration_s=20.0, scale={"price": 0.5, "power:dgx-h100": 2.0}
    )
    found = sweep(options, prompt=6, token="2:3", prices="paper").to_frame()
    same = small.to_frame().query("prompt_machines == 6 and token_machines in (2, 3)")
    assert np.allclose(found["cost_usd_per_h"], 0.5 * same["cost_usd_per_h"])
    assert np.allclose(found["power_w"], 2.0 * same["power_w"])
    assert list(found["e2e_p99_s"]) == list(same["e2e_p99_s"])


def test_the_report_and_the_pictures(small: Grid) -> None:
    text = str(small)
    prompt, token = sizes_of(small, small.optimum)
    assert text.startswith(f"# Splitwise-HH: {prompt} dgx-h100 (prompt) + {token} dgx-h100 (token)\n")
    drawn_map = text.split("Map: ")[1].split("```")[1]
    assert drawn_map.count("*") == 2 and drawn_map.count("o ") >= len(small.frontier) - 1  # and the legend's
    drawn = charts(small)
    assert list(drawn) == ["worst", "ttft", "tbt", "e2e"]
    chart, *by_metric = (each for each in drawn.values() if isinstance(each, HeatMap))
    assert chart.rows == PROMPT and chart.columns == TOKEN and chart.middle == 1.0
    for row, each in enumerate(PROMPT):
        for column, other in enumerate(TOKEN):
            point = small.points[row * len(TOKEN) + column]
            assert chart.values[row][column] == point.worst_ratio
            assert ((row, column) in chart.outlined) == (point.state == "pass")
            assert chart.notes[row][column].startswith(f"{each} + {other}: ") and "TBT P99" in chart.notes[row][column]
    (star,) = [mark for mark in chart.marks if mark.symbol == "star"]
    assert (PROMPT[star.row], TOKEN[star.column]) == (prompt, token)
    tops = np.array([each.values for each in by_metric])
    assert tops.shape == (3, len(PROMPT), len(TOKEN)) and np.allclose(tops.max(axis=0), chart.values)
    written: dict[str, Any] = small.to_dict()
    assert len(written["points"]) == len(written["clusters"]) == len(PROMPT) * len(TOKEN)
    assert written["clusters"][written["optimum"]]["pools"][0]["machines"] == prompt
    assert json.loads(json.dumps(written, allow_nan=False)) == written
    assert "--prompt 3:9:1 --token 1:4:1" in written["command"]


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        ({"prompt": "1:4"}, "token_machines: is missing: design Splitwise-HH needs a number of token machines"),
        ({"prompt": "1:4", "token": 1, "mixed": 2}, "mixed_machines: design Splitwise-HH has no mixed machines"),
        ({"prompt": "4:1", "token": 1}, "prompt: must rise, got '4:1': write the smaller number first"),
        ({"prompt": "0:4", "token": 1}, "prompt: must be a whole number of machines, 1 or more, got 0"),
        ({"prompt": "1:4:x", "token": 1}, "prompt: must be a number of machines, got 'x'"),
        ({"prompt": "1:2:3:4", "token": 1}, "prompt: must be FROM:TO[:STEP]"),
        ({"prompt": "1:3,2", "token": 1}, "prompt: 2 is given twice"),
        ({"prompt": "1:1000", "token": "1:1000"}, "1,000,000 clusters are more than the 100,000 of a sweep"),
    ],
)
def test_ranges_that_make_no_sense(ranges: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as refused:
        sweep(SMALL, **ranges)
    assert str(refused.value).startswith(message)


def test_options_of_one_simulation_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="failures: is no option of this question"):
        sweep(SimulateOptions(design="splitwise-hh", failures=("prompt:1@3s",)), prompt=1, token=1)
    with pytest.raises(UnknownNameError, match="objective"):
        sweep(SMALL, prompt=1, token=1, objective="throughput")
    with pytest.raises(InputError, match="resume: goes on with the journal beside the first out"):
        sweep(SMALL, prompt=1, token=1, resume=True)


# --- the journal ------------------------------------------------------------------------------------------

LONG = SimulateOptions(design="splitwise-hh", rate_rps=40.0, duration_s=30.0)
LONG_RANGES = {"prompt": "4:15", "token": "1:8"}
PROGRAM = """
import sys
from provisioner.options import SimulateOptions
from provisioner.api import sweep
options = SimulateOptions(design="splitwise-hh", rate_rps=40.0, duration_s=30.0)
try:
    sweep(options, prompt="4:15", token="1:8", threads=1, out=[sys.argv[1]])
except KeyboardInterrupt as interrupt:
    sys.exit(f"interrupted: {interrupt}")
"""


def stopped_midway(out: Path, how: signal.Signals, lines: int = 12) -> str:
    """Start a sweep, stop it when its journal has some lines, and return its errors."""
    running = subprocess.Popen([sys.executable, "-c", PROGRAM, str(out)], stderr=subprocess.PIPE, text=True)
    journal = Path(f"{out}.journal")
    wait_until(lambda: running.poll() is not None or (journal.exists() and journal.read_bytes().count(b"\n") > lines))
    running.send_signal(how)
    _, said = running.communicate(timeout=60)
    return said


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys of points that are simulated in this process."""
    keys: list[str] = []
    real = points_module.simulate_point

    def counting(shared: Any, point: Any) -> Any:
        keys.append(point.key)
        return real(shared, point)

    monkeypatch.setattr(points_module, "simulate_point", counting)
    return keys


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    out = tmp_path_factory.mktemp("whole") / "whole.json"
    sweep(LONG, out=[str(out)], **LONG_RANGES)
    assert [path.name for path in out.parent.iterdir()] == ["whole.json"]
    return out.read_bytes()


def keys_of(journal: Path) -> list[str]:
    return [json.loads(line)["key"] for line in journal.read_bytes().splitlines()[1:]]


def test_a_killed_sweep_goes_on_where_it_was(tmp_path: Path, uninterrupted: bytes, counted: list[str]) -> None:
    out = tmp_path / "killed.json"
    stopped_midway(out, signal.SIGKILL)
    journal = Path(f"{out}.journal")
    whole = journal.read_bytes()
    whole = whole[: whole.rindex(b"\n") + 1]
    journal.write_bytes(whole)  # what the kill may have cut off
    before = keys_of(journal)
    total = 12 * 8
    assert not out.exists() and 10 <= len(before) < total
    with open(journal, "ab") as file:  # and a line that was cut off for certain
        file.write(b'{"key": "4+1", "record": {"state": "pa')
    with pytest.raises(InputError, match="go on with resume, or delete it"):
        sweep(LONG, out=[str(out)], **LONG_RANGES)
    with pytest.raises(InputError, match="of another question"):
        sweep(LONG, out=[str(out)], resume=True, prompt="4:15", token="1:7")
    assert counted == []
    sweep(LONG, out=[str(out)], resume=True, **LONG_RANGES)
    assert len(set(before)) == len(before) and len(set(counted)) == len(counted)
    assert not set(before) & set(counted) and len(before) + len(counted) == total
    assert out.read_bytes() == uninterrupted
    assert not journal.exists()


def test_a_changed_file_in_the_folder_of_a_trace_is_another_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "chunk-1-trace.csv").write_text("0,1,1,Gamma,1,1\n20,1,1,Gamma,1,1\n")
    lengths = tmp_path / "data" / "chunk-1-dataset.json"
    lengths.write_text('{"0": {"input_tokens": "{500: 1}", "output_tokens": "{20: 1}"}}')
    asked: dict[str, Any] = {"design": "baseline-h100", "trace": str(tmp_path / "data"), "mixed": "1:3", "threads": 1}
    out = str(tmp_path / "data" / "o.csv")
    add = Journal.add

    def add_and_stop(journal: Journal, key: str, record: object) -> None:
        add(journal, key, record)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "add", add_and_stop)
        with pytest.raises(KeyboardInterrupt, match="of 3 points done"):
            sweep(**asked, out=[out])
    text = lengths.read_text()
    lengths.write_text(text.replace("500", "501"))
    with pytest.raises(InputError, match=r"is of another question \(it differs in files\)"):
        sweep(**asked, out=[out], resume=True)
    with pytest.raises(InputError, match=r"is of another question \(it differs in files, options\)"):
        sweep(**asked, seed=1, out=[out], resume=True)
    lengths.write_text(text)
    resumed = sweep(**asked, out=[out], resume=True)
    assert any("generated with seed 0 from the rates of 1 client" in source for source in resumed.sources)


def test_an_interrupt_says_what_was_done(tmp_path: Path, uninterrupted: bytes, counted: list[str]) -> None:
    out = tmp_path / "interrupted.json"
    said = stopped_midway(out, signal.SIGINT)
    done = len(keys_of(Path(f"{out}.journal")))
    assert f"interrupted: {done} of 96 points done; kept in {out}.journal, resume goes on from there" in said
    assert 10 <= done < 96
    sweep(LONG, out=[str(out)], resume=True, **LONG_RANGES)
    assert len(counted) == 96 - done and out.read_bytes() == uninterrupted


def test_progress_tells_points_and_time_left() -> None:
    told: list[str] = []
    sweep(SMALL, prompt="3:4", token="1:2", progress=told.append)
    told = [text for text in told if text.startswith("sweeping")]
    assert told[-1] == "sweeping: 4 of 4" and "left" in told[0] and told[0].startswith("sweeping: 1 of 4")


def test_a_file_that_cannot_be_written_is_refused_before_the_work(counted: list[str], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        sweep(SMALL, prompt="3:4", token=1, out=[str(tmp_path / "none" / "s.json")])
    assert counted == []


def test_limits_on_any_percentile_and_on_the_largest_gap_show_everywhere() -> None:
    limits = {"tbt_p95": "60ms", "ttft_p99.9": "3s", "gap_p99": "30ms"}
    options = dataclasses.replace(SMALL, slo="batch", limits=limits)
    found = sweep(options, prompt="5:7", token="1:2")
    frame = found.to_frame()
    assert {f"{name}_{unit}" for name in limits for unit in ("s", "slowdown")} <= set(frame.columns)
    assert "gap_p50_s" not in frame.columns, "the largest gap shows only where it is limited"
    text = str(found)
    assert "| largest gap P99 | 30 ms |" in text and "G misses largest gap most" in text
    assert list(charts(found)) == ["worst", "ttft", "tbt", "gap"]
    worst = found.points[-1].worst
    assert worst is not None and worst.label == "largest gap P99" and found.points[-1].binding == "gap_p99"
    over_input = vary(
        dataclasses.replace(options, prompt_machines=6, token_machines=2, rate_rps=None), name="rate", values=[10, 30]
    )
    assert "largest gap 99" in str(over_input) and "gap" in charts(over_input)

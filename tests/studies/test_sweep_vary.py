"""An input varied at fixed sizes, against single simulations."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from provisioner import api
from provisioner.api import sweep, vary
from provisioner.errors import InputError, UnknownNameError
from provisioner.options import SimulateOptions
from provisioner.report.chart import LineChart
from provisioner.report.views.registry import charts
from provisioner.results.grid import Grid
from provisioner.specs.metrics import name_of
from provisioner.specs.shipped import data_folder
from provisioner.specs.units import parse_non_negative
from provisioner.studies.points import question_of
from provisioner.studies.ranges import number_range, whole_range

SHORT = SimulateOptions(duration_s=15.0)
CLUSTERS = ("splitwise-hh=8+2", "baseline-h100=8")


@pytest.fixture(scope="module")
def rates() -> Grid:
    return vary(SHORT, name="rate", values="10:50:20", clusters=CLUSTERS, prices="paper")


def test_points_are_the_simulations_of_their_clusters(rates: Grid) -> None:
    frame = rates.to_frame()
    assert list(frame["rate_rps"]) == [10.0, 30.0, 50.0] * 2
    assert list(dict.fromkeys(frame["cluster"])) == ["Splitwise-HH 8 + 2", "Baseline-H100 8"]
    sizes = {0: {"prompt_machines": 8, "token_machines": 2}, 1: {"mixed_machines": 8}}
    for k, row in frame.iterrows():
        alone = api.simulate(
            design=row["design"].lower(), rate_rps=row["rate_rps"], duration_s=15.0, **sizes[int(str(k)) // 3]
        )
        for each in alone.latency:
            if each.metric != "gap":
                assert row[f"{name_of(each.metric, each.percentile)}_slowdown"] == each.slowdown.mean
        assert (None if pd.isna(row["stable"]) else bool(row["stable"])) is alone.stable
        pools = rates.points[int(str(k))].pools
        assert [pool.batch_time_share for pool in pools] == [pool.batch_time_share for pool in alone.pools]
    assert frame["prompt_machines"].isna().tolist() == [False] * 3 + [True] * 3


def test_occupancy_is_a_distribution(rates: Grid) -> None:
    frame = rates.occupancy_frame()
    for _, group in frame.groupby(["cluster", "role", "rate_rps"]):
        assert group["time_share"].sum() == pytest.approx(1.0)
        assert (group["cumulative"].diff().dropna() >= 0.0).all() and group["batch"].tolist() == list(range(len(group)))
        assert np.allclose(group["cumulative"], group["time_share"].cumsum().clip(upper=1.0))


def test_where_clusters_pass(rates: Grid) -> None:
    frame = rates.to_frame()
    for k in range(2):
        mine = frame.iloc[3 * k : 3 * k + 3]
        passing = set(mine["rate_rps"][mine["state"] == "pass"])
        spanned = {v for span in rates.spans(k) for v in rates.values if span.first <= v <= span.last}
        assert spanned == passing
    assert rates.spans(0), "the smallest rate must pass"
    assert rates.points[5].state != "pass", "the largest must not"


def test_pictures_have_the_limits_and_every_point(rates: Grid) -> None:
    worst, *others = (chart for chart in charts(rates).values() if isinstance(chart, LineChart))
    assert [series.name for series in worst.series] == ["Splitwise-HH 8 + 2", "Baseline-H100 8"]
    assert worst.rules[0].value == 1.0 and worst.series[0].x == (10.0, 30.0, 50.0)
    ttft_p99 = next(chart for chart in others if chart.title.startswith("TTFT P99"))
    assert [rule.value for rule in ttft_p99.rules] == [6.0]
    assert ttft_p99.series[1].y == tuple(rates.to_frame()["ttft_p99_slowdown"][3:])
    batches = [chart for chart in others if chart.steps]
    assert len(batches) == 3 and all(series.y[-1] == pytest.approx(1.0) for series in batches[1].series)


def test_limits_scaled_move_the_ratio_alone() -> None:
    options = SimulateOptions(
        design="splitwise-hh", prompt_machines=6, token_machines=2, rate_rps=20.0, duration_s=15.0
    )
    found = vary(options, name="slo", values=(0.25, 0.5, 2.0)).to_frame()
    assert list(found["slo_factor"]) == [0.25, 0.5, 2.0]
    assert found["worst_ratio"].to_numpy() * found["slo_factor"].to_numpy() == pytest.approx(
        [found["worst_ratio"][1] * 0.5] * 3
    )
    assert found["e2e_p99_s"].nunique() == 1 and found["state"].tolist()[-1] == "pass"


def test_the_rate_of_a_trace_is_varied_by_its_times(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    times = np.arange(0.0, 20.0, 0.25)  # 4 requests/s
    lines = [f"{t},{200 + 10 * (k % 7)},{5 + k % 3}" for k, t in enumerate(times)]
    path.write_text("arrival_s,prompt_tokens,output_tokens\n" + "\n".join(lines) + "\n", encoding="utf-8")
    options = SimulateOptions(design="baseline-h100", mixed_machines=2, trace=str(path))
    found = vary(options, name="rate", values="2,8").to_frame()
    assert found["offered_rps"].tolist() == pytest.approx([2.0, 8.0])
    assert found["requests"].tolist() == [80, 80]


def test_what_cannot_be_simulated_is_a_row_with_the_reason() -> None:
    options = SimulateOptions(design="splitwise-hh", prompt_machines=6, token_machines=2, duration_s=5.0, rate_rps=5.0)
    found = vary(options, name="prompt-tokens", values=(1.0, 1000.0))
    assert [point.state for point in found.points][1] == "infeasible"
    assert "of the longest request served" in found.points[1].why
    frame = found.to_frame()
    assert len(frame) == 2 and np.isnan(frame["e2e_p99_s"][1]) and not np.isnan(frame["e2e_p99_s"][0])
    assert "infeasible" in str(found) and len(found.occupancy_frame()["prompt_tokens_factor"].unique()) == 1
    json.dumps(found.to_dict(), allow_nan=False)
    assert charts(found)


@pytest.mark.parametrize(("engine", "least", "most"), [("splitwise", -0.01, 0.01), ("vllm", 1.0, 2.0)])
def test_a_factor_of_one_machine_type(engine: str, least: float, most: float) -> None:
    """TTFT rises where token machines generate the first token: by that iteration, and the rest of the one before."""
    options = SimulateOptions(
        design="splitwise-ha", prompt_machines=6, token_machines=4, rate_rps=10.0, duration_s=10.0, engine=engine
    )
    found = vary(options, name="decode-time:dgx-a100", values="1,2").to_frame()
    assert found["decode_time_dgx_a100_factor"].tolist() == [1.0, 2.0]
    assert found["tbt_p50_s"][1] > 1.5 * found["tbt_p50_s"][0]
    rise = (found["ttft_p50_s"][1] - found["ttft_p50_s"][0]) / found["tbt_p50_s"][0]
    assert least < rise < most


def test_machines_of_ones_own(tmp_path: Path) -> None:
    """A machine like a shipped one but for its name and price gives the same latencies at its own price."""
    shipped = data_folder("hardware_specs")
    for part in ("machines", "prices", "curves"):
        (tmp_path / part).mkdir()
    machine = (shipped / "machines" / "dgx-h100.yaml").read_text(encoding="utf-8")
    for old, new in (("name: dgx-h100\n", "name: zbox\n"), ("letter: H\n", "letter: Z\n"), ("DGX-H100\n", "ZBOX\n")):
        machine = machine.replace(old, new, 1)
    (tmp_path / "machines" / "zbox.yaml").write_text(machine, encoding="utf-8")
    curve = (shipped / "curves" / "dgx-h100__llama2-70b.csv").read_text(encoding="utf-8")
    (tmp_path / "curves" / "zbox__llama2-70b.csv").write_text(curve.replace("dgx-h100", "zbox"), encoding="utf-8")
    price = "  zbox:\n    cost_usd_per_h: 10.0\n    provisioned_power_w: 5000\n    source: a quote\n"
    listed = "name: paper\ntitle: Our prices\ndate: 2026-11-01\ncurrency: USD\nmachines:\n"
    (tmp_path / "prices" / "paper.yaml").write_text(listed + price, encoding="utf-8")
    options = dataclasses.replace(SHORT, rate_rps=20.0, specs=str(tmp_path), scale={"price:zbox": 2.0})
    given: dict[str, Any] = {"name": "decode-time:zbox", "prices": "paper"}
    found = vary(options, values=[1.0, 2.0], clusters=("splitwise-zz=6+2", "splitwise-hh=6+2"), **given).to_frame()
    assert found["cost_usd_per_h"].tolist() == pytest.approx([160.0] * 2 + [8 * 38.08] * 2)
    assert found["e2e_p99_s"][0] == found["e2e_p99_s"][2] == found["e2e_p99_s"][3] < found["e2e_p99_s"][1]
    sizes = sweep(dataclasses.replace(options, design="splitwise-zz"), prompt="6:7", token=2, prices="paper")
    first = sizes.to_frame().iloc[0]
    assert first["e2e_p99_s"] == found["e2e_p99_s"][0] and first["cost_usd_per_h"] == 160.0
    asked = question_of("vary", options, "1", prices="paper")
    assert len(asked["files"]) == 3
    (tmp_path / "prices" / "paper.yaml").write_text(listed + price.replace("10.0", "11.0"), encoding="utf-8")
    assert question_of("vary", options, "1", prices="paper") != asked


@pytest.mark.parametrize(
    ("name", "values", "clusters", "message"),
    [
        ("rates", "1:2:1", CLUSTERS, "unknown input to vary 'rates': did you mean rate?"),
        ("rate", "30:60", CLUSTERS, "name rate: must be FROM:TO:STEP, such as 30:250:10"),
        ("rate", "0:60:10", CLUSTERS, "name rate: must be above 0 requests/s, got 0"),
        ("rate", "10", ("splitwise-hh=8",), "clusters splitwise-hh=8: Splitwise-HH needs the machines of prompt +"),
        ("rate", "10", ("splitwise-hh",), "clusters: must be DESIGN=SIZES, such as splitwise-hh=35+5"),
        ("rate", "10", ("splitwise-hx=8+2",), "unknown design 'splitwise-hx'"),
        ("rate", "10", (CLUSTERS[0], CLUSTERS[0]), "clusters: a cluster is named twice"),
        ("cv:dgx-a100", "1", CLUSTERS, "name cv:dgx-a100: cv is not an input of a machine type"),
    ],
)
def test_questions_that_make_no_sense(name: str, values: str, clusters: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError) as refused:
        vary(SHORT, name=name, values=values, clusters=clusters)
    assert str(refused.value).startswith(message)


def test_an_input_is_given_once() -> None:
    with pytest.raises(InputError, match="name rate: takes its values from the range; leave out rate_rps"):
        vary(SimulateOptions(rate_rps=3.0), name="rate", values="1,2", clusters=CLUSTERS)
    with pytest.raises(InputError, match="is scaled with scale too"):
        vary(SimulateOptions(scale={"slo": 2.0}), name="slo", values="1,2", clusters=CLUSTERS)
    with pytest.raises(UnknownNameError):
        vary(SHORT, name="nope", values="1,2", clusters=CLUSTERS)


def test_ranges() -> None:
    assert whole_range("2:9:3,20", "--x") == (2, 5, 8, 20)
    assert number_range("0.1:0.5:0.1", "--x") == (0.1, 0.2, 0.3, 0.4, 0.5)
    assert number_range("30:250:10", "--x")[-1] == 250.0 and len(number_range("30:250:10", "--x")) == 23
    for bad in (
        "",
        ",",
        "1:",
        ":3",
        "1:2:0.5:4",
        "2:1:0.1",
        "1:2:0",
        "1:1e9:0.001",
        "1:1e300:1e-300",
        "nan",
        "1:inf:1",
    ):
        with pytest.raises(InputError, match=r"^--x: "):
            number_range(bad, "--x")
    assert number_range("0:1:0.5", "--x", parse_non_negative) == (0.0, 0.5, 1.0)
    with pytest.raises(InputError, match=r"^--x: must rise by a step above 0, got '0:1:0'"):
        number_range("0:1:0", "--x", parse_non_negative)
    assert whole_range("0:2", "--x", minimum=0) == (0, 1, 2) and whole_range([3.0, 1], "--x") == (1, 3)
    for refused in ("0:2", "0", 0, 1.5, [1, 1], True):
        with pytest.raises(InputError, match=r"^--x: "):
            whole_range(refused, "--x")

"""Files of a simulation: tables, CSV, records of requests, and the picture."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from provisioner.loading.scenario import load_scenario
from provisioner.options import SimulateOptions
from provisioner.report import records as report
from provisioner.report import timeline
from provisioner.report.document import Boxes, Table
from provisioner.report.numbers import significant
from provisioner.report.tables import csv_text
from provisioner.report.terminal import render
from provisioner.report.views.registry import rows
from provisioner.report.views.simulation import document
from provisioner.results.simulation import Simulation
from provisioner.simulation.assemble import assemble
from provisioner.simulation.records import MIXED, PROMPTS, TOKENS
from provisioner.simulation.run import Run
from provisioner.simulation.serve import serve
from provisioner.specs.metrics import MEASURED
from tests.docs.cli_page import documented

BUSY: dict[str, Any] = {
    "design": "splitwise-ha",
    "prompt_machines": 4,
    "token_machines": 2,
    "rate_rps": 14.0,
    "duration_s": 20.0,
    "token_tensor_parallel": 4,
    "failures": ("prompt:2@5s-8s",),
}


def simulated(**changes: Any) -> tuple[Simulation, list[Run]]:
    scenario = load_scenario(SimulateOptions(**{**BUSY, **changes}))
    served = serve(scenario, keep_requests=True, keep_timeline=True)
    return assemble(scenario, [each.observation for each in served]), [each.run for each in served if each.run]


@pytest.fixture(scope="module")
def busy() -> tuple[Simulation, list[Run]]:
    return simulated(sets=2)


def tables(found: Simulation) -> dict[str, Table]:
    shown = [block.table if isinstance(block, Boxes) else block for block in document(found).blocks]
    return {block.title.partition(", slowdowns")[0]: block for block in shown if isinstance(block, Table)}


def test_the_document_has_a_row_per_percentile_and_pool(busy: tuple[Simulation, list[Run]]) -> None:
    found, _ = busy
    shown = tables(found)
    assert [row[0] for row in shown["Latency"].rows][:4] == ["TTFT P50", "TTFT P90", "TTFT P99", "TBT P50"]
    assert len(shown["Latency"].rows) == 12
    assert [row[:2] for row in shown["Pools"].rows] == [("prompt", "dgx-h100"), ("token", "dgx-a100")]
    of_replica = [row[-1] for row in shown["Queues and memory of a replica"].rows]
    assert of_replica == [significant(pool.generated_tokens_per_s / pool.replicas) for pool in found.pools]
    batches = shown["Share of time by requests in an iteration, %"]
    for row in batches.rows:
        assert sum(map(float, row[2:])) == pytest.approx(100.0, abs=1.0)
    assert max(map(len, render(document(found)).splitlines())) <= 100


def test_one_event_is_not_several(busy: tuple[Simulation, list[Run]]) -> None:
    found = replace(busy[0], moves=1, preemptions=2, restarts=1, unfinished=0)
    said = " ".join(render(document(found)).split())
    assert "1 move to the mixed pool, 2 preemptions, 1 restart after failures" in said


def test_one_set_has_no_interval_columns() -> None:
    found, _ = simulated()
    assert "95 % interval" not in [column.header for column in tables(found)["Latency"].columns]


def test_limits_that_are_missed_stand_out(busy: tuple[Simulation, list[Run]]) -> None:
    found, _ = busy
    results = [replace(each, met="fail" if each.limit else None) for each in found.latency]
    results[1] = replace(results[1], met="undecided")
    shown = replace(found, latency=tuple(results), slo_met=False, stable=False, instability="it is too slow")
    report = document(shown)
    assert report.subtitle.endswith("does not meet SLO splitwise; unstable.")
    facts = dict(report.blocks[0].facts().rows)  # type: ignore[union-attr]
    assert "missed by TTFT P50 (" in facts["SLO"] and "undecided for TTFT P90 (" in facts["SLO"]
    assert facts["stable"] == "no: it is too slow"
    assert tables(shown)["Latency"].strong == frozenset({0, 1, 2, 3, 4, 5, 9, 10, 11})


def test_what_never_comes_is_called_so(busy: tuple[Simulation, list[Run]]) -> None:
    found, _ = busy
    never = replace(found.latency[0].seconds, mean=math.inf, low=None, high=None)
    shown = replace(found, latency=(replace(found.latency[0], seconds=never, slowdown=never, met="fail"),))
    text = render(document(shown))
    assert "TTFT P50  never        never" in text and "TTFT P50 (never for 2x)" in text and "infx" not in text


def test_tables_have_the_values_of_the_json(busy: tuple[Simulation, list[Run]]) -> None:
    found, _ = busy
    values: Any = found.to_dict()
    table = list(csv.DictReader(io.StringIO(csv_text(rows(found)))))
    assert len(table) == len(values["latency"]) == 12
    for row, figure in zip(table, values["latency"], strict=True):
        assert (row["metric"], float(row["percentile"])) == (figure["metric"], figure["percentile"])
        assert float(row["seconds"]) == figure["seconds"]["mean"]
        assert row["limit_kind"] == (figure["limit"]["kind"] if figure["limit"] else "")
    pools = list(csv.DictReader(io.StringIO(csv_text(rows(found, "pools")))))
    assert [float(row["utilization"]) for row in pools] == [pool["utilization"] for pool in values["pools"]]
    batches = rows(found, "batches")
    for pool in values["pools"]:
        assert [row["time_share"] for row in batches if row["role"] == pool["role"]] == pool["batch_time_share"]


def test_records_agree_with_the_percentiles(busy: tuple[Simulation, list[Run]], tmp_path: Path) -> None:
    found, runs = busy
    path = tmp_path / "r.parquet"
    report.write_files(runs, str(path), None)
    frame = pd.read_parquet(path)
    assert list(frame.columns) == documented("The records of a simulation")
    assert frame["set"].value_counts().tolist() == [run.requests.size for run in runs] or set(frame["set"]) == {0, 1}
    for k in (0, 1):
        measured = frame[(frame["set"] == k) & frame.measured]
        for metric in MEASURED:
            column = "largest_gap" if metric == "gap" else metric
            for kind, values in (("seconds", measured[f"{column}_s"]), ("slowdown", measured[f"{column}_slowdown"])):
                for each in found.latency:
                    if each.metric == metric:
                        own = getattr(each, kind).values[k]
                        assert np.percentile(values.dropna(), each.percentile) == pytest.approx(own)
    assert set(frame.prompt_machine) <= {f"prompt:{k}" for k in range(1, 5)} | {"token:1", "token:2"}
    assert (frame.last_token_s >= frame.first_token_s).all() and (frame.first_token_s > frame.arrival_s).all()
    assert frame.e2e_s.to_numpy() == pytest.approx((frame.last_token_s - frame.arrival_s).to_numpy())
    assert frame.restarts.sum() == found.restarts > 0
    assert frame.tbt_s.isna().equals(frame.output_tokens == 1)


def test_records_as_csv_hold_the_same(busy: tuple[Simulation, list[Run]], tmp_path: Path) -> None:
    _, runs = busy
    report.write_files(runs, str(tmp_path / "r.parquet"), None)
    report.write_files(runs, str(tmp_path / "r.csv"), None)
    from_csv, from_parquet = pd.read_csv(tmp_path / "r.csv"), pd.read_parquet(tmp_path / "r.parquet")
    assert list(from_csv.columns) == list(from_parquet.columns)
    assert from_csv.e2e_s.to_numpy() == pytest.approx(from_parquet.e2e_s.to_numpy())
    assert from_csv.prompt_machine.tolist() == from_parquet.prompt_machine.astype(str).tolist()


def test_requests_that_were_never_served_have_no_times(tmp_path: Path) -> None:
    found, runs = simulated(policy="split", failures=("token:1@10s", "token:2@10s"))
    assert found.unfinished > 0
    table = report.records_table(runs[0]).to_pandas()
    lost = table[table.last_token_s.isna()]
    assert len(lost) == found.unfinished
    assert lost.e2e_s.isna().all() and lost.largest_gap_s.isna().all()
    assert lost.prompt_machine.isna().any()
    report.write_files(runs, str(tmp_path / "r.csv"), str(tmp_path / "t.png"))


def stretches(*rows: tuple[float, float]) -> tuple[Any, Any]:
    return np.array([row[0] for row in rows]), np.array([row[1] for row in rows])


def test_busy_time_is_cut_at_the_edges() -> None:
    edges = np.linspace(0.0, 10.0, 6)
    assert timeline.busy_s(*stretches((1.0, 3.0), (3.0, 3.5), (7.0, 10.0)), edges).tolist() == [1, 1.5, 0, 1, 2]
    assert timeline.busy_s(*stretches(), edges).tolist() == [0.0] * 5
    rng = np.random.default_rng(3)
    for _ in range(20):
        times = np.sort(rng.uniform(0, 10, 40))
        start, end = times[::2], times[1::2]
        by_hand = [
            sum(max(min(b, high) - max(a, low), 0.0) for a, b in zip(start, end, strict=True))
            for low, high in pairwise(edges)
        ]
        assert timeline.busy_s(start, end, edges) == pytest.approx(by_hand, abs=1e-12)


def test_the_raster_holds_the_time_of_the_run(busy: tuple[Simulation, list[Run]]) -> None:
    _, runs = busy
    edges, shares, batch = timeline.raster(runs[0], 300)
    width = edges[1] - edges[0]
    done = runs[0].timeline
    for kind in (PROMPTS, TOKENS, MIXED):
        these = done[done["kind"] == kind]
        assert shares[kind].sum() * width == pytest.approx((these["end_s"] - these["start_s"]).sum())
    assert shares.sum(axis=0).max() <= 1.0 + 1e-9
    work = ((done["end_s"] - done["start_s"]) * done["batch"]).sum()
    assert np.nansum(batch * shares.sum(axis=0)) * width == pytest.approx(work)
    inside = timeline.in_cluster(runs[0], np.array([-1.0, 10.0, 1e9]))
    assert inside[0] == inside[2] == 0 < inside[1]


@pytest.mark.parametrize(("ending", "magic"), [("png", b"\x89PNG"), ("svg", b"<svg"), ("pdf", b"%PDF")])
def test_the_picture_is_written_and_the_same_each_time(
    busy: tuple[Simulation, list[Run]], tmp_path: Path, ending: str, magic: bytes
) -> None:
    _, runs = busy
    first, second = (tmp_path / f"{k}.{ending}" for k in "ab")
    for path in (first, second):
        report.write_files(runs, None, str(path))
    assert first.read_bytes().startswith(magic)
    if ending != "pdf":  # its parts have no fixed order
        assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_size < 3e6


def test_the_picture_names_what_it_shows(busy: tuple[Simulation, list[Run]]) -> None:
    _, runs = busy
    spec = timeline.figure(runs[0]).to_dict()
    assert spec["description"].startswith("4 dgx-h100 (prompt) + 2 dgx-a100 (token), llama2-70b")
    above, middle, below = spec["vconcat"]
    assert middle["layer"][0]["encoding"]["color"]["scale"]["domain"] == ["prompts", "mixed", "tokens", "failed"]
    named = middle["layer"][0]["encoding"]["y"]["axis"]["labelExpr"]
    machines = [*(f"prompt:{k}" for k in range(1, 5)), "token:1", "token:1", "token:2", "token:2"]
    assert json.loads(named.removesuffix("[datum.value]")) == machines
    assert below["layer"][0]["encoding"]["x"]["title"] == "time, s"
    marks = spec["datasets"][above["layer"][1]["data"]["name"]]
    assert [row["label"] for row in marks] == ["measured from 2 s", f"to {runs[0].clock['until_s']:.4g} s"]


def test_the_picture_holds_the_time_of_the_run(busy: tuple[Simulation, list[Run]]) -> None:
    _, runs = busy
    spec = timeline.figure(runs[0]).to_dict()
    cells = spec["datasets"][spec["vconcat"][1]["layer"][0]["data"]["name"]]
    drawn_s = sum((cell["to_s"] - cell["from_s"]) * cell["share"] for cell in cells if cell["kind"] != "failed")
    done = runs[0].timeline
    assert drawn_s == pytest.approx((done["end_s"] - done["start_s"]).sum(), rel=0.1)  # shares are in fifths
    assert [(cell["row"], cell["from_s"], cell["to_s"]) for cell in cells if cell["kind"] == "failed"] == [(1, 5, 8)]


def test_many_machines_make_a_small_picture_soon(tmp_path: Path) -> None:
    _, runs = simulated(prompt_machines=600, token_machines=60, rate_rps=500.0, duration_s=5.0, failures=())
    path = tmp_path / "t.png"
    report.write_files(runs, None, str(path))
    assert path.stat().st_size < 3e6


def test_colours_are_apart_in_black_and_white() -> None:
    def lightness(colour: str) -> float:
        channels = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 116.0 * float(np.dot((0.2126, 0.7152, 0.0722), linear)) ** (1 / 3) - 16.0

    shades = sorted([*(lightness(colour) for colour in timeline.COLOURS.values()), 100.0])
    assert min(np.diff(shades)) > 15.0

import csv
import io
import math
from dataclasses import replace

import pandas as pd
import pytest

from provisioner.planning.plan import Plan
from provisioner.report.csv import COLUMNS, plan_csv


def read(plan: Plan) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(plan_csv(plan)))


def test_rows_are_whole_and_different(plan: Plan) -> None:
    rows = list(csv.DictReader(io.StringIO(plan_csv(plan))))
    assert all(tuple(row) == COLUMNS and None not in row.values() for row in rows)
    assert len({(row["section"], row["item"]) for row in rows}) == len(rows)
    sections = list(dict.fromkeys(row["section"] for row in rows))
    assert sections == ["plan", "pool", "latency", "alternative", "input", "version", "source", "warning"]


def test_numbers_come_back_exactly(plan: Plan) -> None:
    frame = read(plan)
    pools = frame[frame.section == "pool"]
    assert pools.machine.tolist() == ["dgx-h100", "dgx-a100"]
    assert pools.machines.tolist() == [15, 2]
    assert pools.utilization.tolist() == [0.8376, 0.41]
    latency = frame[frame.section == "latency"].set_index("item")
    assert latency.loc["tbt p50", "seconds"] == plan.latency[3].seconds
    assert latency.loc["ttft p99", "limit"] == 6
    assert latency.loc["ttft p99", "limit_kind"] == "slowdown"
    assert math.isnan(latency.loc["ttft p50", "limit"])


def test_plan_and_alternatives_can_be_sorted_together(plan: Plan) -> None:
    frame = read(plan)
    designs = frame[frame.section.isin(["plan", "alternative"]) & frame.cost_usd_per_h.notna()]
    assert designs.sort_values("cost_usd_per_h", ascending=False).design.tolist() == ["Splitwise-AA", "Splitwise-HA"]
    assert designs.pools.tolist()[1] == "27 prompt dgx-a100 + 2 token dgx-a100"


def test_inputs_repeat_the_question(plan: Plan) -> None:
    frame = read(plan)
    inputs = frame[frame.section == "input"].set_index("item").text
    assert inputs["rate_rps"] == "70.0"
    assert inputs["slo"] == "p99"
    assert inputs["independent"] == "no"
    assert frame[frame.section == "plan"].text.item().startswith("provision plan --workload coding --rate 70 ")


@pytest.mark.parametrize("reason", ["+24.2% cost", "=cmd()", "@x", "-1"])
def test_a_text_is_never_a_formula(plan: Plan, reason: str) -> None:
    other = replace(plan.alternatives[0], reason=reason)
    frame = read(replace(plan, alternatives=(other,)))
    assert frame[frame.section == "alternative"].text.item() == f"'{reason}"


def test_line_breaks_and_commas_survive(plan: Plan) -> None:
    frame = read(replace(plan, sources=('a, "b"\nc',)))
    assert frame[frame.section == "source"].text.item() == 'a, "b"\nc'

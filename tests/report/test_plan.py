"""A plan as JSON and as tables; its report is tested where it is drawn."""

import io
import json
import math
from dataclasses import replace

import pandas as pd
import pytest

from provisioner.errors import UnknownNameError
from provisioner.report.tables import csv_text
from provisioner.report.views.registry import rows
from provisioner.results.plan import Evidence, Neighbour, Plan
from tests.docs.cli_page import documented


def read(plan: Plan, table: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(csv_text(rows(plan, table))))


def test_keys_are_those_of_the_documentation(plan: Plan) -> None:
    assert sorted(plan.to_dict()) == sorted(documented("The plan as JSON"))


def test_json(plan: Plan) -> None:
    values = json.loads(plan.to_json())
    assert (values["schema_version"], values["kind"], values["design"]) == (2, "plan", "Splitwise-HA")
    assert values["pools"][0] == {
        "role": "prompt",
        "machine": "dgx-h100",
        "tensor_parallel": 8,
        "gpus_per_machine": 8,
        "replicas": 15,
        "machines": 15,
        "min_prompt_tokens": 1,
        "max_prompt_tokens": None,
        "utilization": 0.8376,
        "cost_usd_per_h": 478.8,
        "power_w": 153000.0,
        "binding": ["TTFT P99"],
        "mean_batch": None,
        "link_load": None,
        "extrapolated": [],
        "curves": "measured",
        "batch_tokens": None,
        "engine_arguments": "",
    }
    assert values["latency"][2] == {
        "metric": "ttft",
        "percentile": 99.0,
        "seconds": pytest.approx(0.3),
        "slowdown": 4.5,
        "limit": {"metric": "ttft", "percentile": 99.0, "value": 6.0, "kind": "slowdown"},
        "slack": 0.25,
        "binding": True,
        "extrapolated": False,
        "seconds_range": None,
        "slowdown_range": None,
        "predicted_seconds": None,
        "predicted_slowdown": None,
    }
    assert values["evidence"] is None
    assert values["latency"][3]["limit"] is None
    assert values["alternatives"][0]["pools"][1]["machines"] == 2 and values["alternatives"][0]["machines"] == 29
    assert values["alternatives"][1]["reason"] == "TTFT P99 of 6x is out of reach"
    assert (values["machines"], values["worst_slack"], values["binding"]) == (17, 0.25, ["TTFT P99", "capacity"])
    assert values["tokens_per_usd"] == pytest.approx(1e6 / 0.9764)
    assert (values["question"]["slo"], values["question"]["limits"], values["question"]["rate_rps"]) == ("p99", {}, 70)
    assert values["command"].startswith("provision plan --workload coding --rate 70 ")


def test_numbers_that_are_not_finite_are_null(plan: Plan) -> None:
    worst = tuple(replace(figure, seconds=math.inf, slowdown=math.nan) for figure in plan.latency)
    figure = json.loads(replace(plan, latency=worst).to_json())["latency"][8]
    assert figure["seconds"] is None and figure["slowdown"] is None and figure["slack"] is None


def test_pools_with_the_totals_of_the_plan(plan: Plan) -> None:
    frame = plan.to_frame()
    assert frame[["role", "machine", "machines", "utilization"]].to_dict("list") == {
        "role": ["prompt", "token"],
        "machine": ["dgx-h100", "dgx-a100"],
        "machines": [15, 2],
        "utilization": [0.8376, 0.41],
    }
    assert frame.plan_machines.tolist() == [17, 17]
    assert frame.cost_usd_per_h.sum() == frame.plan_cost_usd_per_h[0]


def test_latency_beside_its_limits(plan: Plan) -> None:
    frame = plan.latency_frame().set_index(["metric", "percentile"])
    assert len(frame) == 9
    assert frame.loc[("ttft", 99.0), "limit"] == 6 and frame.loc[("ttft", 99.0), "limit_kind"] == "slowdown"
    assert frame.loc[("tbt", 50.0), "seconds"] == plan.latency[3].seconds
    assert frame.limit.dtype == "float64"
    assert frame.slack.notna().sum() == frame.limit.notna().sum() == 3


def test_other_designs(plan: Plan) -> None:
    frame = plan.alternatives_frame()
    assert frame.design.tolist() == ["Splitwise-AA", "Baseline-A100"]
    assert frame.split.tolist() == ["27 prompt dgx-a100 + 2 token dgx-a100", ""]
    assert frame.feasible.tolist() == [True, False]
    assert frame.cost_usd_per_h.isna().tolist() == [False, True]
    assert frame.machines[0] == 29
    assert isinstance(replace(plan, alternatives=()).alternatives_frame(), pd.DataFrame)


def test_better_clusters_that_do_not_pass(plan: Plan) -> None:
    near = Neighbour("Splitwise-HA", plan.alternatives[0].pools[:1], 1.0, 2.0, ("TTFT P99 7x of 6x",), 1.2, False)
    evidence = Evidence("a rule", "splitwise", True, 1.0, 0.0, 3, 15, 1, 0, 0, 7, 1.3, False, (near,), (), ())
    frame = replace(plan, evidence=evidence).to_frame("neighbours")
    assert frame[["machines", "breaks", "worst_ratio"]].to_numpy().tolist() == [[27, "TTFT P99 7x of 6x", 1.2]]
    assert plan.to_frame("neighbours").empty


def test_an_unknown_table_is_refused_with_the_names_of_all(plan: Plan) -> None:
    with pytest.raises(UnknownNameError, match="pools, latency, alternatives, neighbours"):
        plan.to_frame("desings")


@pytest.mark.parametrize("reason", ["+24.2% cost", "=cmd()", "@x", "-1"])
def test_a_text_is_never_a_formula(plan: Plan, reason: str) -> None:
    changed = replace(plan, alternatives=(replace(plan.alternatives[0], reason=reason),))
    assert read(changed, "alternatives").reason.item() == f"'{reason}"


def test_line_breaks_and_commas_survive(plan: Plan) -> None:
    changed = replace(plan, alternatives=(replace(plan.alternatives[0], reason='a, "b"\nc'),))
    assert read(changed, "alternatives").reason.item() == 'a, "b"\nc'

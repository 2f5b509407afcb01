import json
import math
from dataclasses import replace

import numpy as np
import pytest

from provisioner.planning.plan import Plan
from provisioner.report.as_json import json_text, plain_value, plan_dict
from tests.docs.cli_page import documented


def test_keys_are_those_of_the_documentation(plan: Plan) -> None:
    assert list(plan_dict(plan)) == documented("The plan as JSON")


def test_content(plan: Plan) -> None:
    values = json.loads(json_text(plan.to_dict()))
    assert values["design"] == "Splitwise-HA"
    assert values["pools"][0] == {
        "role": "prompt",
        "machine": "dgx-h100",
        "machines": 15,
        "tensor_parallel": 8,
        "replicas": 15,
        "utilization": 0.8376,
        "cost_usd_per_h": 478.8,
        "power_w": 153000.0,
        "requests": "all requests",
        "min_prompt_tokens": 1,
        "max_prompt_tokens": None,
        "binding": ["TTFT P99"],
        "mean_batch": None,
        "link_load": None,
        "extrapolated": [],
        "curves": "measured",
    }
    assert values["latency"]["ttft"]["p99"] == {
        "seconds": pytest.approx(0.3),
        "slowdown": 4.5,
        "limit": 6.0,
        "limit_kind": "slowdown",
        "slack": 0.25,
        "binding": True,
        "extrapolated": False,
        "seconds_range": None,
        "slowdown_range": None,
        "predicted_seconds": None,
        "predicted_slowdown": None,
    }
    assert values["evidence"] is None
    assert values["latency"]["tbt"]["p50"]["limit"] is None
    assert values["alternatives"][0]["pools"][1] == {"role": "token", "machine": "dgx-a100", "machines": 2}
    assert values["alternatives"][1]["reason"] == "TTFT P99 of 6x is out of reach"
    assert values["worst_slack"] == 0.25
    assert values["question"]["slo"] == "p99"
    assert values["question"]["limits"] == {}


def test_numbers_that_are_not_finite_are_null(plan: Plan) -> None:
    worst = tuple(replace(f, seconds=math.inf, slowdown=math.nan, slack=-math.inf) for f in plan.latency)
    text = json_text(plan_dict(replace(plan, latency=worst)))
    assert "Infinity" not in text and "NaN" not in text
    assert json.loads(text)["latency"]["e2e"]["p99"]["seconds"] is None


def test_numpy_values_become_plain() -> None:
    assert plain_value({"a": np.float64(1.5), "b": np.arange(3), "c": np.bool_(True)}) == {
        "a": 1.5,
        "b": [0, 1, 2],
        "c": True,
    }
    assert type(plain_value(np.int64(3))) is int


def test_a_value_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="cannot write a object as JSON"):
        plain_value(object())

"""The published JSON schema: up to date, strict, and kept by the output of every command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

import provisioner
from provisioner.report.schema import schema
from provisioner.report.views.registry import VIEWS
from provisioner.results.plan import Evidence, Neighbour, Plan, Promise
from provisioner.results.result import Result

FILE = Path(__file__).parents[2] / "docs" / "reference" / "schema.json"
ONE: dict[str, Any] = {"designs": ["splitwise-hh"], "tensor_parallel": 8, "rate_rps": 20, "slo": "p99"}
FAST: dict[str, Any] = {**ONE, "fast": True}
SHORT: dict[str, Any] = {"duration_s": 10.0, "rate_rps": 10.0}


def validator(kind: str) -> Draft202012Validator:
    """The published schema, of one type of result."""
    published = json.loads(FILE.read_text(encoding="utf-8"))
    return Draft202012Validator({"$defs": published["$defs"], "$ref": f"#/$defs/{kind}"})


def test_the_file_is_up_to_date() -> None:
    published = FILE.read_text(encoding="utf-8")
    assert json.loads(published) == json.loads(json.dumps(schema())), (
        "python -m provisioner.report.schema > docs/reference/schema.json"
    )
    Draft202012Validator.check_schema(json.loads(published))


def asked(name: str) -> Result:
    """A small result of each command."""
    match name:
        case "Plan":
            return provisioner.plan(**FAST, against="p90")
        case "Simulation":
            return provisioner.simulate(**SHORT, design="splitwise-hh", prompt_machines=3, token_machines=1, sets=2)
        case "Comparison":
            return provisioner.compare(**{**FAST, "designs": ["splitwise-hh", "baseline-h100"]}, same="throughput")
        case "Capacity":
            question = {**ONE, "designs": ["baseline-h100"], "sets": 1, "duration_s": 20.0, "additions": False}
            del question["rate_rps"]
            return provisioner.capacity(**question, mixed=2)
        case "Frontier":
            return provisioner.pareto(**FAST)
        case "Grid":
            return provisioner.sweep(**SHORT, design="splitwise-hh", prompt="2:3", token=1)
        case "Sensitivity":
            return provisioner.sensitivity(**FAST, inputs=["rate"], switches={"rate": (1.0, 1.5)}, watch="machines")
        case _:
            return provisioner.reproduce(only=["machines"])


@pytest.mark.parametrize("name", [view.kind.__name__ for view in VIEWS])
def test_the_output_of_every_command_keeps_the_schema(name: str) -> None:
    result = asked(name)
    assert type(result).__name__ == name
    values = json.loads(result.to_json(), parse_constant=pytest.fail)
    validator(name).validate(values)
    assert not validator(name).is_valid(values | {"unknown": 1})
    assert not validator(name).is_valid({key: value for key, value in values.items() if key != "command"})


def test_an_input_varied_keeps_the_schema() -> None:
    grid = provisioner.vary(name="rate", values=[5, 10], clusters=["splitwise-hh=2+1"], duration_s=10.0)
    validator("Grid").validate(grid.to_dict())


def test_every_part_of_a_plan_keeps_the_schema(plan: Plan) -> None:
    near = Neighbour("Splitwise-HA", plan.alternatives[0].pools[:1], 1.0, 2.0, ("TTFT P99 7x of 6x",), 1.2, False)
    evidence = Evidence(
        "a rule", "splitwise", True, 1.0, float("inf"), 3, 15, 1, 0, 0, None, 1.3, False, (near,), (), ()
    )
    whole = replace(plan, evidence=evidence, promise=Promise(slo="p90", reason="none is within it"))
    validator("Plan").validate(whole.to_dict())

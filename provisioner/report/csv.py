"""A plan as one CSV table, for spreadsheets and for comparing plans.

One row per thing, of the kind that ``section`` names: the plan, a pool, a percentile of latency (``item`` "ttft p99"),
another design (alternative), an input, a version, a source, a warning. ``item`` says which one. The same quantity is in
the same column for every section, named as in the JSON and with its unit in the name, so that rows can be filtered by
section and sorted: plan and alternatives by ``cost_usd_per_h``, say. ``text`` holds words: what breaks in a pool with
one machine fewer, why another design lost, the value of an input. Numbers have all their digits; what there is none of
is empty. ``limit`` is in ``limit_kind``, seconds or slowdown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from provisioner.planning.plan import Plan
from provisioner.report.as_json import plain_value, plan_dict
from provisioner.report.command_line import fixed_question
from provisioner.report.tables import csv_text
from provisioner.report.views.view import shown

COLUMNS: Final = (
    "section",
    "item",
    "design",
    "role",
    "machine",
    "machines",
    "tensor_parallel",
    "replicas",
    "utilization",
    "mean_batch",
    "link_load",
    "cost_usd_per_h",
    "cost_usd_per_million_tokens",
    "cost_usd_per_million_output_tokens",
    "power_w",
    "rate_rps",
    "planned_rate_rps",
    "seconds",
    "slowdown",
    "limit",
    "limit_kind",
    "slack",
    "binding",
    "extrapolated",
    "feasible",
    "pools",
    "text",
)


def plan_csv(plan: Plan) -> str:
    """The plan as CSV with a header line."""
    return csv_text(_rows(plan), COLUMNS)


def _rows(plan: Plan) -> Iterator[Mapping[str, Any]]:
    values = plan_dict(plan)
    yield values | {
        "section": "plan",
        "item": plan.design,
        "slack": plan.worst_slack,
        "binding": None,
        "feasible": True,
        "pools": _split((pool.role, pool.machine, pool.machines) for pool in plan.pools),
        "text": values["command"],
    }
    for pool in values["pools"]:
        words = ", ".join(pool["binding"])
        yield pool | {
            "section": "pool",
            "item": f"{pool['role']} {pool['machine']}",
            "binding": None,
            "extrapolated": bool(pool["extrapolated"]),
            "text": words,
        }
    for metric, percentiles in values["latency"].items():
        for percentile, figure in percentiles.items():
            yield figure | {"section": "latency", "item": f"{metric} {percentile}"}
    for other in plan.alternatives:
        row = next(row for row in values["alternatives"] if row["design"] == other.design)
        yield row | {
            "section": "alternative",
            "item": other.design,
            "pools": _split(other.pools),
            "text": other.reason,
        }
    for name, value in fixed_question(plan).items():
        yield {"section": "input", "item": name, "text": shown(plain_value(value))}
    for name, version in plan.versions.items():
        yield {"section": "version", "item": name, "text": version}
    for section, lines in (("source", plan.sources), ("warning", plan.warnings)):
        for number, line in enumerate(lines, start=1):
            yield {"section": section, "item": number, "text": line}


def _split(pools: Any) -> str:
    return " + ".join(f"{machines} {role} {machine}" for role, machine, machines in pools)

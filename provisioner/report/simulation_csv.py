"""A simulation as one CSV table, for spreadsheets and for comparing simulations.

One row per thing, of the kind that ``section`` names: the simulation, a pool, a percentile of latency (``item`` "ttft
p99"), an input, a version, a source, a warning. The same quantity is in the same column for every section, named as
in the JSON and with its unit in the name. ``text`` holds words: the command that repeats it, why the cluster is not
stable, the value of an input. Numbers have all their digits; what there is none of is empty. ``limit`` is in
``limit_kind``, seconds or slowdown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from provisioner.report.as_json import plain_value
from provisioner.report.command_line import simulate_question
from provisioner.report.csv import csv_text
from provisioner.report.plan_document import shown
from provisioner.simulation.result import Simulation

COLUMNS: Final = (
    "section",
    "item",
    "design",
    "role",
    "machine",
    "machines",
    "replicas",
    "tensor_parallel",
    "requests",
    "measured_requests",
    "sets",
    "rate_rps",
    "throughput_rps",
    "throughput_tokens_per_s",
    "slo_met",
    "stable",
    "seconds",
    "seconds_low",
    "seconds_high",
    "slowdown",
    "slowdown_low",
    "slowdown_high",
    "limit",
    "limit_kind",
    "met",
    "utilization",
    "prompt_busy",
    "token_busy",
    "mixed_busy",
    "mixed_pool_share",
    "mean_batch",
    "mean_waiting",
    "most_waiting",
    "kv_memory_mean",
    "kv_memory_most",
    "generated_tokens_per_s",
    "energy_kwh",
    "moves",
    "preemptions",
    "restarts",
    "unfinished",
    "wall_s",
    "text",
)


def simulation_csv(found: Simulation) -> str:
    """The simulation as CSV with a header line."""
    return csv_text(COLUMNS, _rows(found))


def _rows(found: Simulation) -> Iterator[Mapping[str, Any]]:
    values = found.to_dict()
    yield values | {
        "section": "simulation",
        "item": found.design,
        "machines": sum(pool.machines for pool in found.pools),
        "slo_met": found.slo_met,
        "text": values["command"],
    }
    if not found.stable:
        yield {"section": "instability", "stable": False, "text": found.instability}
    for pool in values["pools"]:
        yield pool | {"section": "pool", "item": f"{pool['role']} {pool['machine']}"}
    for row in values["latency"]:
        yield row | {"section": "latency", "item": f"{row['metric']} {row['percentile']}"}
    for name, value in simulate_question(found.question).items():
        yield {"section": "input", "item": name, "text": shown(plain_value(value))}
    for name, version in found.versions.items():
        yield {"section": "version", "item": name, "text": version}
    for section, lines in (("source", found.sources), ("warning", found.warnings)):
        for number, line in enumerate(lines, start=1):
            yield {"section": section, "item": number, "text": line}

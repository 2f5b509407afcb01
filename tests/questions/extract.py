"""The key numbers of an answer, in names that do not depend on the layout of the JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# -------------------------------------------------------------------------------------------- the answers of 0.1's JSON

Json = Any
Extract = Callable[[Json], Json]


def _latencies(rows: list[Json]) -> Json:
    return {
        f"{row['metric']} {row['percentile']}": [row["seconds"], row["slowdown"], row["limit"], row["met"]]
        for row in rows
    }


def _pools(pools: list[Json]) -> Json:
    """Role, machine and number of each pool, and the tensor parallelism where it is said."""
    return [[p["role"], p["machine"], p["machines"], p.get("tensor_parallel")] for p in pools]


def plan_01(data: Json) -> Json:
    evidence = data["evidence"] or {}
    return {
        "design": data["design"],
        "pools": _pools(data["pools"]),
        "utilization": [pool["utilization"] for pool in data["pools"]],
        "cost_usd_per_h": data["cost_usd_per_h"],
        "power_w": data["power_w"],
        "machines": data["machines"],
        "rate_rps": [data["rate_rps"], data["planned_rate_rps"]],
        "usd_per_million": [data["cost_usd_per_million_tokens"], data["cost_usd_per_million_output_tokens"]],
        "optimal": evidence.get("optimal"),
        "bound": [evidence.get("lower_bound"), evidence.get("gap"), data["gap"]],
        "binding": sorted(data["binding"]),
        "worst_slack": data["worst_slack"],
        "latency": {
            f"{metric} {percentile}": [value["seconds"], value["slowdown"], value["limit"], value["slack"]]
            for metric, by_percentile in data["latency"].items()
            for percentile, value in by_percentile.items()
        },
        "alternatives": [
            [a["design"], a["feasible"], a["cost_usd_per_h"], a["power_w"], a["machines"]]
            for a in sorted(data["alternatives"], key=lambda a: str(a["design"]))
        ],
        "fail": [
            [n["design"], [pool["machines"] for pool in n["pools"]], n["worst_ratio"]]
            for n in evidence.get("neighbours", [])
        ],
        "batch": data["batch"] and [data["batch"][key] for key in ("requests", "within_s", "rate_rps", "done_s")],
        "promise": data["promise"] and [data["promise"][key] for key in ("design", "cost_usd_per_h", "machines")],
        "warnings": len(data["warnings"]),
    }


def plan_02(data: Json) -> Json:
    """As in 0.1, whose latencies are by metric and percentile, and their limits numbers."""
    latency: dict[str, dict[str, Json]] = {}
    for figure in data["latency"]:
        by_percentile = latency.setdefault(figure["metric"], {})
        by_percentile[f"p{figure['percentile']:g}"] = figure | {"limit": figure["limit"] and figure["limit"]["value"]}
    return plan_01(data | {"latency": latency})


def promise_02(data: Json) -> Json:
    """A plan with its token budgets, what splitting brings, how far it holds, and what lost machines do."""
    splitting, robustness = data["splitting"], data["robustness"]
    kinds = ("colocated", "split")
    keys = ("design", "batch_tokens", "cost_usd_per_h", "machines")
    factors = ("prompt_time_factor", "decode_time_factor", "both_times_factor", "rate_factor")
    return plan_02(data) | {
        "budgets": [pool["batch_tokens"] for pool in data["pools"]],
        "splitting": splitting
        and [splitting["gain"], *(splitting[kind] and [splitting[kind][key] for key in keys] for kind in kinds)],
        "holds": robustness and [robustness.get(factor) for factor in factors],
        "losses": robustness
        and [[loss[key] for key in ("role", "breaks", "holds_rate_factor")] for loss in robustness["losses"]],
    }


def simulate_01(data: Json) -> Json:
    return {
        "design": data["design"],
        "pools": _pools(data["pools"]),
        "busy": [[pool[key] for key in ("utilization", "mean_batch", "kv_memory_most")] for pool in data["pools"]],
        "latency": _latencies(data["latency"]),
        "slo_met": data["slo"]["met"],
        "stable": data["stable"],
        "requests": [data["requests"], data["measured_requests"], data["sets"], data["unfinished"]],
        "throughput": [data["throughput_rps"], data["throughput_tokens_per_s"]],
        "rate_rps": data["rate_rps"],
        "events": [data["moves"], data["preemptions"], data["restarts"]],
        "policy": data["policy"],
        "warnings": len(data["warnings"]),
    }


def compare_01(data: Json) -> Json:
    keys = [
        "feasible",
        "rate_rps",
        "cost_usd_per_h",
        "power_w",
        "machines",
        "throughput_ratio",
        "cost_ratio",
        "power_ratio",
        "worst_slack",
    ]
    return {
        "baseline": data["baseline"],
        "designs": {
            row["label"]: [row["plan"] and _pools(row["plan"]["pools"]), *(row[key] for key in keys)]
            for row in data["designs"]
        },
    }


def compare_02(data: Json) -> Json:
    """As in 0.1, with totals in the plan of each design, and the ratios of all apart."""

    def row(design: Json) -> Json:
        plan, ratios = design["plan"], data["ratios"][design["label"]]
        totals = {key: plan and plan[key] for key in ("rate_rps", "cost_usd_per_h", "power_w", "machines")}
        totals |= {f"{name}_ratio": ratio for name, ratio in ratios.items()}
        return design | totals | {"feasible": plan is not None, "worst_slack": plan and plan["worst_slack"]}

    return compare_01(data | {"designs": [row(design) for design in data["designs"]]})


def _cell(cell: Json) -> Json:
    keys = [
        "state",
        "worst_ratio",
        "binding",
        "ttft_p99_s",
        "tbt_p99_s",
        "e2e_p99_s",
        "throughput_rps",
        "cost_usd_per_h",
        "power_w",
    ]
    return [*(cell[key] for key in cell if key.endswith("_machines")), *(cell[key] for key in keys)]


def sweep_01(data: Json) -> Json:
    if "points" in data:
        return {
            "values": data["values"],
            "points": [[point["cluster"], point[data["column"]], *_cell(point)] for point in data["points"]],
            "passes": {cluster["cluster"]: cluster["passes"] for cluster in data["clusters"]},
        }
    return {
        "optimum": data["optimum"] and _cell(data["optimum"]),
        "frontier": [_cell(cell) for cell in data["frontier"]],
        "states": data["states"],
        "cells": [_cell(cell) for cell in data["cells"]],
    }


def _small_plan(data: Json) -> Json:
    keys = ["feasible", "design", "pools", "cost_usd_per_h", "power_w", "machines", "rate_rps"]
    return data and [data[key] for key in keys]


def sensitivity_01(data: Json) -> Json:
    return {
        "base": _small_plan(data["base"]),
        "swings": {swing["name"]: [_small_plan(swing["low"]), _small_plan(swing["high"])] for swing in data["swings"]},
        "switches": {
            search["name"]: [
                [s["below"], s["above"], s["before"]["design"], s["after"]["design"]] for s in search["switches"]
            ]
            for search in data["searches"]
        },
        "map": [
            [cell["rate_rps"], cell["ratio"], *(_small_plan(cell[kind]) for kind in ("split", "mixed", "chunked"))]
            for cell in data["cells"]
        ],
    }


def capacity_01(data: Json) -> Json:
    return {
        "design": data["design"],
        "pools": _pools(data["pools"]),
        "rate_rps": data["rate_rps"],
        "failed_rps": data["failed_rps"],
        "binding": data["binding"],
        "breaks": [[b["limit"], b["ratio"]] for b in data["breaks"]],
        "latency": _latencies(data["latency"]),
        "additions": [
            [
                a["design"],
                a["rate_rps"],
                a["feasible"],
                a["added_machines"],
                a["added_cost_usd_per_h"],
                a["cost_usd_per_h"],
            ]
            for a in data["additions"]
        ],
        "cost": [data["cost_usd_per_h"], data["power_w"]],
    }


def pareto_01(data: Json) -> Json:
    return {
        "points": [
            [
                p["design"],
                _pools(p["plan"]["pools"]),
                p["cost_usd_per_h"],
                p["power_w"],
                p["machines"],
                p["worst_slack"],
            ]
            for p in data["points"]
        ],
        "proven": [point["proven"] for point in data["points"]],
        "complete": data["complete"],
        "rate_rps": data["rate_rps"],
    }


def pareto_02(data: Json) -> Json:
    """As in 0.1, whose points had their plan beside its totals, and those that are not proven among them."""
    proven = [plan | {"plan": plan, "proven": True} for plan in data["points"]]
    others = [plan | {"plan": plan, "proven": False} for plan in data["candidates"]]
    return pareto_01(data | {"points": proven + others})


def reproduce_01(data: Json) -> Json:
    return {
        "findings": [
            [f[key] for key in ("experiment", "result", "published", "simulator", "measured")] for f in data["findings"]
        ],
        "values": data["values"],
    }


def _each(data: Json, one: Extract) -> Json:
    """A list by name, or what is shown of one."""
    return {row["name"]: one(row) for row in (data if isinstance(data, list) else [data])}


def machines_01(data: Json) -> Json:
    keys = [
        "gpus",
        "memory_bytes",
        "max_power_w",
        "network_bytes_per_s",
        "gpu_link_gb_per_s",
        "peak_fp16_tflops",
        "released",
    ]
    return _each(
        data,
        lambda row: [
            *(row[key] for key in keys),
            {name: [p["cost_usd_per_h"], p["provisioned_power_w"]] for name, p in row["prices"].items()},
            [[curve["model"], curve["tensor_parallel"]] for curve in row["curves"]],
        ],
    )


def models_01(data: Json) -> Json:
    keys = [
        "layers",
        "hidden_size",
        "heads",
        "kv_heads",
        "parameters",
        "trained_context_tokens",
        "weight_bytes",
        "kv_bytes_per_token",
        "dtype",
    ]
    return _each(
        data,
        lambda row: [
            *(row[key] for key in keys),
            len(row["machines"]),
            sum(m["kv_capacity_tokens"] or 0 for m in row["machines"]),
        ],
    )


def workloads_01(data: Json) -> Json:
    return _each(
        data,
        lambda row: [*(row[key] for key in ("rate_rps", "cv", "classes", "prompt_tokens", "output_tokens"))],
    )


def curves_01(data: Json) -> Json:
    return {
        "measured": [
            [
                c["model"],
                c["machine"],
                c["tensor_parallel"],
                c["points"],
                [e["mape"] for e in c["errors_points_left_out"]],
            ]
            for c in data["measured"]
        ],
        "machines": [[m["machine"], m["evidence"], m["tensor_parallel"], m["errors"]] for m in data["machines"]],
        "coverage": [
            len(data.get("coverage", [])),
            sum(c["kv_capacity_tokens"] or 0 for c in data.get("coverage", [])),
        ],
    }


def workloads_import_01(data: Json) -> Json:
    return {
        key: data[key] for key in ("format", "requests", "prompt_tokens", "output_tokens", "arrivals", "prefix_reuse")
    }


def models_import_01(data: Json) -> Json:
    return {
        key: data[key]
        for key in ("name", "layers", "heads", "kv_heads", "parameters", "weight_bytes", "kv_bytes_per_token")
    }


def curves_import_01(data: Json) -> Json:
    return {
        "points": [
            [p[key] for key in ("phase", "prompt_tokens", "batch", "context_tokens", "latency_s", "repeats")]
            for p in data["points"]
        ],
        "fit": [[f["phase"], f["points"], f["median"], f["largest"]] for f in data["fit"]],
        "identified": [len(data["identified"]), len(data["not_identified"])],
    }


def text_01(lines: Json) -> Json:
    return lines[0]


def _nothing(_: Json) -> Json:
    return None


# --------------------------------------------------------------------------------- the same of layout 2, which 0.2 has


def _number(value: Json) -> Json:
    """A mean over request sets where there is one; infinite and missing numbers are null in the JSON."""
    return value["mean"] if isinstance(value, dict) else value


def _percentile(row: Json) -> str:
    """A percentile as 0.1 names it: ``largest_gap p99.9``."""
    return f"{'largest_gap' if row['metric'] == 'gap' else row['metric']} p{row['percentile']:g}"


def _latencies_02(rows: list[Json]) -> Json:
    return {
        _percentile(row): [
            _number(row["seconds"]),
            _number(row["slowdown"]),
            row["limit"] and row["limit"]["value"],
            row["met"] or "",
        ]
        for row in rows
    }


def simulate_02(data: Json) -> Json:
    return {
        **{key: data[key] for key in ("design", "slo_met", "stable", "rate_rps", "policy")},
        "pools": _pools(data["pools"]),
        "busy": [[pool[key] for key in ("utilization", "mean_batch", "kv_memory_most")] for pool in data["pools"]],
        "latency": _latencies_02(data["latency"]),
        "requests": [data["requests"], data["measured_requests"], data["sets"], data["unfinished"]],
        "throughput": [data["throughput_rps"], data["throughput_tokens_per_s"]],
        "events": [data["moves"], data["preemptions"], data["restarts"]],
        "warnings": len(data["warnings"]),
    }


def _sizes(cluster: str) -> list[int]:
    """Numbers of machines of a cluster's pools by its name: ``Splitwise-HH:2+4 6 + 2``."""
    sizes = cluster.split(" ", maxsplit=1)[1]
    return [int(size.split()[0]) for size in sizes.split(" + ")]


def _point(point: Json) -> Json:
    """A point of a grid in the order of ``_cell``."""
    p99 = {row["metric"]: row["seconds"] for row in point["latency"] if row["percentile"] == 99.0}
    return [
        *_sizes(point["cluster"]),
        *(point[key] for key in ("state", "worst_ratio", "binding")),
        *(p99.get(metric) for metric in ("ttft", "tbt", "e2e")),
        point["throughput_rps"],
        *(point["totals"][key] for key in ("cost_usd_per_h", "power_w")),
    ]


def grid_02(data: Json) -> Json:
    if data["varied"] is not None:
        spans: dict[str, Json] = {point["cluster"]: [] for point in data["points"]}
        for span in data["passes"]:
            spans[span["cluster"]].append([span["first"], span["last"]])
        return {
            "values": data["varied"]["values"],
            "points": [[point["cluster"], point["value"], *_point(point)] for point in data["points"]],
            "passes": spans,
        }
    return {
        "optimum": None if data["optimum"] is None else _point(data["points"][data["optimum"]]),
        "frontier": [_point(data["points"][k]) for k in data["frontier"]],
        "states": data["states"],
        "cells": [_point(point) for point in data["points"]],
    }


def capacity_02(data: Json) -> Json:
    labels = {"ttft": "TTFT", "tbt": "TBT", "gap": "largest gap", "e2e": "E2E"}
    totals = data["totals"]
    return {
        "pools": [[p["role"], p["machine"], p["machines"], None] for p in data["pools"]],
        **{key: data[key] for key in ("design", "rate_rps", "failed_rps", "binding")},
        "breaks": [[f"{labels[b['metric']]} P{b['percentile']:g}", b["over_limit"]] for b in data["breaks"]],
        "latency": _latencies_02(data["latency"]),
        "additions": [
            [
                data["design"],
                a["rate_rps"],
                a["feasible"],
                a["totals"] and a["totals"]["machines"],
                a["totals"] and a["totals"]["cost_usd_per_h"],
                a["totals"] and totals["cost_usd_per_h"] + a["totals"]["cost_usd_per_h"],
            ]
            for a in data["additions"]
        ],
        "cost": [totals["cost_usd_per_h"], totals["power_w"]],
    }


def _outcome(data: Json) -> Json:
    """A plan in brief in the order of ``_small_plan``."""
    cluster = data["cluster"] or {"design": "", "pools": []}
    pools = [[pool["role"], pool["machine"], pool["machines"]] for pool in cluster["pools"]]
    totals = [data["totals"] and data["totals"][key] for key in ("cost_usd_per_h", "power_w", "machines")]
    return [data["feasible"], cluster["design"], pools, *totals, data["rate_rps"]]


def _colocated(cell: Json) -> list[Json]:
    """The best colocated plans of a cell with mixed batching and with chunked prefill."""
    none = {"cluster": None, "totals": None, "feasible": False, "rate_rps": None}
    return [cell["colocated"].get(policy, none) for policy in ("mixed", "chunked")]


def sensitivity_02(data: Json) -> Json:
    return {
        "base": _outcome(data["base"]),
        "swings": {swing["name"]: [_outcome(swing["low"]), _outcome(swing["high"])] for swing in data["swings"]},
        "switches": {
            search["name"]: [
                [s["below"], s["above"], _outcome(s["before"])[1], _outcome(s["after"])[1]] for s in search["switches"]
            ]
            for search in data["searches"]
        },
        "map": [
            [cell["rate_rps"], cell["ratio"], *(_outcome(each) for each in (cell["split"], *_colocated(cell)))]
            for cell in data["cells"]
        ],
    }


EXTRACTORS: dict[str, dict[str, Extract]] = {
    "0.1": {
        "plan": plan_01,
        "simulate": simulate_01,
        "compare": compare_01,
        "sweep": sweep_01,
        "sensitivity": sensitivity_01,
        "capacity": capacity_01,
        "pareto": pareto_01,
        "reproduce": reproduce_01,
        "machines": machines_01,
        "models": models_01,
        "workloads": workloads_01,
        "curves": curves_01,
        "workloads import": workloads_import_01,
        "models import": models_import_01,
        "curves import": curves_import_01,
        "text": text_01,
        "version": _nothing,
        "refusal": _nothing,
    },
    "2": {
        "plan": plan_02,
        "promise": promise_02,
        "simulate": simulate_02,
        "sweep": grid_02,
        "sensitivity": sensitivity_02,
        "capacity": capacity_02,
        "reproduce": reproduce_01,
        "compare": compare_02,
        "pareto": pareto_02,
    },
}

"""A plan as plain values, and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from provisioner.planning.plan import Alternative, BatchPlan, Evidence, LatencyFigure, Plan, PoolPlan, Promise
from provisioner.specs.metrics import METRICS


def plan_dict(plan: Plan) -> dict[str, Any]:
    """The plan as dictionaries, lists, texts and numbers; None where a number is not finite or there is none.

    Units are in the names. ``limit`` is in ``limit_kind``, "seconds" or "slowdown"; ``slack`` is
    (limit - value) / limit.
    """
    from provisioner.report.command_line import command_line

    latency: dict[str, dict[str, Any]] = {metric: {} for metric in METRICS}
    for figure in plan.latency:
        latency[figure.metric][f"p{figure.percentile:g}"] = _figure(figure)
    result: dict[str, Any] = {
        "design": plan.design,
        "pools": [_pool(pool) for pool in plan.pools],
        "cost_usd_per_h": plan.cost_usd_per_h,
        "cost_usd_per_million_tokens": plan.cost_usd_per_million_tokens,
        "cost_usd_per_million_output_tokens": plan.cost_usd_per_million_output_tokens,
        "power_w": plan.power_w,
        "machines": plan.machines,
        "rate_rps": plan.rate_rps,
        "planned_rate_rps": plan.planned_rate_rps,
        "objective": plan.objective,
        "model": plan.model,
        "workload": plan.workload,
        "slo": plan.slo,
        "latency": latency,
        "binding": plan.binding,
        "worst_slack": plan.worst_slack,
        "tokens_per_usd": plan.tokens_per_usd,
        "tokens_per_kwh": plan.tokens_per_kwh,
        "batch": None if plan.batch is None else _batch(plan.batch),
        "promise": None if plan.promise is None else _promise(plan.promise),
        "evidence": None if plan.evidence is None else _evidence(plan.evidence),
        "alternatives": [_alternative(other) for other in plan.alternatives],
        "warnings": plan.warnings,
        "sources": plan.sources,
        "question": plan.question,
        "command": command_line(plan),
        "method": plan.method,
        "solver": plan.solver,
        "gap": plan.gap,
        "seed": plan.seed,
        "versions": plan.versions,
    }
    plain: dict[str, Any] = plain_value(result)
    return plain


def _pool(pool: PoolPlan) -> dict[str, Any]:
    return {
        "role": pool.role,
        "machine": pool.machine,
        "machines": pool.machines,
        "tensor_parallel": pool.tensor_parallel,
        "replicas": pool.replicas,
        "utilization": pool.utilization,
        "cost_usd_per_h": pool.cost_usd_per_h,
        "power_w": pool.power_w,
        "requests": pool.requests,
        "min_prompt_tokens": pool.min_prompt_tokens,
        "max_prompt_tokens": pool.max_prompt_tokens,
        "binding": pool.binding,
        "mean_batch": pool.mean_batch,
        "link_load": pool.link_load,
        "extrapolated": pool.extrapolated,
        "curves": pool.curves,
    }


def _figure(figure: LatencyFigure) -> dict[str, Any]:
    return {
        "seconds": figure.seconds,
        "slowdown": figure.slowdown,
        "limit": None if figure.limit is None else figure.limit.value,
        "limit_kind": None if figure.limit is None else figure.limit.kind,
        "slack": figure.slack,
        "binding": figure.binding,
        "extrapolated": figure.extrapolated,
        "seconds_range": figure.seconds_range,
        "slowdown_range": figure.slowdown_range,
        "predicted_seconds": figure.predicted_seconds,
        "predicted_slowdown": figure.predicted_slowdown,
    }


def _batch(batch: BatchPlan) -> dict[str, Any]:
    job = batch.job
    return {
        "requests": job.requests,
        "within_s": job.within_s,
        "rate_rps": job.rate_rps,
        "feed_s": job.feed_s,
        "done_s": batch.done_s,
    }


def _promise(promise: Promise) -> dict[str, Any]:
    names = ("role", "machine", "machines")
    return asdict(promise) | {"pools": [dict(zip(names, pool, strict=True)) for pool in promise.pools]}


def _evidence(evidence: Evidence) -> dict[str, Any]:
    result = asdict(evidence)
    result["neighbours"] = [
        {**each, "pools": _pools(near.pools)}
        for each, near in zip(result["neighbours"], evidence.neighbours, strict=True)
    ]
    names = ("design", "candidates", "simulated", "cut")
    result["by_design"] = [dict(zip(names, each, strict=True)) for each in evidence.by_design]
    return result


def _pools(pools: Iterable[tuple[str, str, int]]) -> list[dict[str, Any]]:
    return [{"role": role, "machine": machine, "machines": machines} for role, machine, machines in pools]


def _alternative(other: Alternative) -> dict[str, Any]:
    return {
        "design": other.design,
        "feasible": other.feasible,
        "pools": _pools(other.pools),
        "cost_usd_per_h": other.cost_usd_per_h,
        "power_w": other.power_w,
        "machines": other.machines,
        "rate_rps": other.rate_rps,
        "reason": other.reason,
        "basis": other.basis,
    }


def plain_value(value: Any) -> Any:
    """A value of any kind as JSON has them: numbers that are not finite become None, sequences lists.

    >>> plain_value({"a": (1, float("inf")), 2: None})
    {'a': [1, None], '2': None}
    """
    if isinstance(value, Mapping):
        return {str(key): plain_value(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain_value(each) for each in value]
    if hasattr(value, "tolist"):  # numpy's scalars and arrays
        return plain_value(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"cannot write a {type(value).__name__} as JSON")


def json_text(value: Any) -> str:
    """JSON of a value, indented, ending without a newline.

    >>> json_text({"design": "Splitwise-HA"})
    '{\\n  "design": "Splitwise-HA"\\n}'
    """
    return json.dumps(plain_value(value), indent=2, ensure_ascii=False, allow_nan=False)

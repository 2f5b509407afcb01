"""A plan as pandas data frames; pandas is loaded when the first is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from provisioner.planning.plan import Plan

if TYPE_CHECKING:
    import pandas as pd


def pools_frame(plan: Plan) -> pd.DataFrame:
    """One row per pool; the columns ``plan_...`` repeat what holds for all of them together."""
    rows = [
        {
            "design": plan.design,
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
            "max_prompt_tokens": _number(pool.max_prompt_tokens),
            "mean_batch": _number(pool.mean_batch),
            "link_load": _number(pool.link_load),
            "binding": ", ".join(pool.binding),
            "extrapolated": ", ".join(pool.extrapolated),
            "curves": pool.curves,
            "plan_machines": plan.machines,
            "plan_cost_usd_per_h": plan.cost_usd_per_h,
            "plan_power_w": plan.power_w,
            "plan_rate_rps": plan.rate_rps,
        }
        for pool in plan.pools
    ]
    return _frame(rows)


def latency_frame(plan: Plan) -> pd.DataFrame:
    """One row per percentile; ``limit`` is in ``limit_kind``, NaN where there is none."""
    rows = [
        {
            "metric": figure.metric,
            "percentile": f"p{figure.percentile:g}",
            "seconds": figure.seconds,
            "slowdown": figure.slowdown,
            "limit": _number(None if figure.limit is None else figure.limit.value),
            "limit_kind": "" if figure.limit is None else figure.limit.kind,
            "slack": _number(figure.slack),
            "binding": figure.binding,
            "extrapolated": figure.extrapolated,
        }
        for figure in plan.latency
    ]
    return _frame(rows)


def alternatives_frame(plan: Plan) -> pd.DataFrame:
    """One row per other design; numbers are NaN where it has no plan, ``reason`` says why it lost."""
    rows = [
        {
            "design": other.design,
            "feasible": other.feasible,
            "split": other.split,
            "cost_usd_per_h": _number(other.cost_usd_per_h),
            "power_w": _number(other.power_w),
            "machines": _number(other.machines),
            "rate_rps": _number(other.rate_rps),
            "reason": other.reason,
        }
        for other in plan.alternatives
    ]
    names = ["design", "feasible", "split", "cost_usd_per_h", "power_w", "machines", "rate_rps", "reason"]
    return _frame(rows, names)


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)


def _frame(rows: list[dict[str, Any]], columns: list[str] | None = None) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows, columns=columns)

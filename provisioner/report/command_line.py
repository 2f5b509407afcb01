"""The command that asks a plan's question again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any, Final

from provisioner.planning.plan import Plan

# Fields of a question that are one option with one value.
_SINGLE: Final = {
    "workload": "--workload",
    "trace": "--trace",
    "rate_rps": "--rate",
    "headroom": "--headroom",
    "cv": "--cv",
    "model": "--model",
    "slo": "--slo",
    "objective": "--objective",
    "max_cost_usd_per_h": "--max-cost",
    "max_power_w": "--max-power",
    "max_machines": "--max-machines",
    "prices": "--prices",
    "assumptions": "--assumptions",
    "solver": "--solver",
    "seed": "--seed",
}
_REPEATED: Final = {"designs": "--design", "machines": "--machine"}


def command_line(plan: Plan) -> str:
    """The ``provision plan`` command of a plan's question, with its defaults written out."""
    return shlex.join(["provision", "plan", *arguments(fixed_question(plan))])


def fixed_question(plan: Plan) -> dict[str, Any]:
    """The question with the rate that was planned for: a workload's own may change."""
    question = dict(plan.question)
    if question.get("trace") is not None:
        question.pop("workload", None)
        question.pop("rate_rps", None)
    elif question.get("rate_rps") is None and plan.objective != "throughput":
        question["rate_rps"] = plan.rate_rps
    return question


def arguments(question: Mapping[str, Any]) -> list[str]:
    """The options of a question as they are typed.

    >>> arguments({"workload": "coding", "limits": {"ttft_p99": "2s"}, "machines": ("dgx-h100",), "cv": None})
    ['--workload', 'coding', '--ttft-p99', '2s', '--machine', 'dgx-h100']
    """
    typed: list[str] = []
    for name, flag in _SINGLE.items():
        value = question.get(name)
        if value is None or (name == "headroom" and value == 0):
            continue
        typed += [flag, f"{value:.12g}" if isinstance(value, float) else str(value)]
    for name, text in (question.get("limits") or {}).items():
        typed += [f"--{name.replace('_', '-')}", str(text)]
    for name, flag in _REPEATED.items():
        for value in question.get(name) or ():
            typed += [flag, str(value)]
    for machine, count in (question.get("stock") or {}).items():
        typed += ["--stock", f"{machine}={count}"]
    if question.get("independent"):
        typed.append("--independent")
    return typed

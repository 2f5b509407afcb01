"""The command that asks the question of a plan or a simulation again."""

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
    "backlog_requests": "--backlog",
    "within_s": "--within",
    "deadline_s": "--deadline",
    "against": "--against",
    "headroom": "--headroom",
    "cv": "--cv",
    "model": "--model",
    "slo": "--slo",
    "evidence": "--evidence",
    "objective": "--objective",
    "max_cost_usd_per_h": "--max-cost",
    "max_power_w": "--max-power",
    "max_machines": "--max-machines",
    "prices": "--prices",
    "assumptions": "--assumptions",
    "dtype": "--dtype",
    "kv_dtype": "--kv-dtype",
    "reference": "--reference",
    "specs": "--specs",
    "solver": "--solver",
    "seed": "--seed",
}
# Those of the proof, which a plan by the formulas alone does not have.
_PROVEN: Final = {
    "sets": "--seeds",
    "duration_s": "--duration",
    "confidence": "--confidence",
    "policy": "--policy",
    "time_limit_s": "--time-limit",
    "cut_margin": "--cut-margin",
}
_REPEATED: Final = {"designs": "--design", "machines": "--machine", "network": "--network"}
# Those of several values in one, with commas between.
_LISTED: Final = {"tensor_parallel": "--tp", "power_caps": "--power-caps"}


def command_line(plan: Plan) -> str:
    """The ``provision plan`` command of a plan's question, with its defaults written out."""
    return shlex.join(["provision", "plan", *arguments(fixed_question(plan))])


def fixed_question(plan: Plan) -> dict[str, Any]:
    """The question with the rate that was planned for: a workload's own may change."""
    question = dict(plan.question)
    if question.get("trace") is not None:
        question.pop("workload", None)
        question.pop("rate_rps", None)
    elif question.get("backlog_requests") is not None:
        question.pop("rate_rps", None)
    elif question.get("rate_rps") is None and plan.objective != "throughput":
        question["rate_rps"] = plan.rate_rps
        question["scale"] = {name: value for name, value in question.get("scale", {}).items() if name != "rate"}
    return question


def arguments(question: Mapping[str, Any]) -> list[str]:
    """The options of a question as they are typed.

    >>> arguments({"workload": "coding", "limits": {"ttft_p99": "2s"}, "machines": ("dgx-h100",), "cv": None})
    ['--workload', 'coding', '--ttft-p99', '2s', '--machine', 'dgx-h100']
    """
    typed: list[str] = []
    for name, flag in {**_SINGLE, **({} if question.get("fast") else _PROVEN)}.items():
        value = question.get(name)
        if value is None or (name == "headroom" and value == 0):
            continue
        unit = "s" if name in ("within_s", "deadline_s") else ""
        typed += [flag, (f"{value:.12g}" if isinstance(value, float) else str(value)) + unit]
    for name, text in (question.get("limits") or {}).items():
        typed += [f"--{name.replace('_', '-')}", str(text)]
    for name, flag in _REPEATED.items():
        for value in question.get(name) or ():
            typed += [flag, str(value)]
    for name, flag in _LISTED.items():
        given = question.get(name) or ()
        if given:
            typed += [flag, given if isinstance(given, str) else ",".join(f"{value:g}" for value in given)]
    for machine, count in (question.get("stock") or {}).items():
        typed += ["--stock", f"{machine}={count}"]
    typed += _scale(question)
    typed += [f"--{name}" for name in ("independent", "fast", "exhaustive") if question.get(name)]
    return typed


# Fields of a simulation's question that are one option with one value, and their units where they are typed with one.
_SIMULATED: Final = {
    "model": "--model",
    "design": "--design",
    "prompt_machines": "--prompt",
    "token_machines": "--token",
    "mixed_machines": "--mixed",
    "tensor_parallel": "--tp",
    "prompt_tensor_parallel": "--prompt-tp",
    "token_tensor_parallel": "--token-tp",
    "workload": "--workload",
    "trace": "--trace",
    "rate_rps": "--rate",
    "duration_s": "--duration",
    "sets": "--seeds",
    "warm_up": "--warm-up",
    "cool_down": "--cool-down",
    "cv": "--cv",
    "in_flight": "--in-flight",
    "requests": "--requests",
    "slo": "--slo",
    "policy": "--policy",
    "max_pending_tokens": "--max-pending-tokens",
    "batch_tokens": "--batch-tokens",
    "batch_requests": "--batch-requests",
    "max_preemptions": "--max-preemptions",
    "transfer_retry_s": "--transfer-retry",
    "assumptions": "--assumptions",
    "dtype": "--dtype",
    "kv_dtype": "--kv-dtype",
    "reference": "--reference",
    "specs": "--specs",
    "seed": "--seed",
}
_SIMULATED_REPEATED: Final = {
    "pools": "--pool",
    "failures": "--fail",
    "percentiles": "--percentile",
    "network": "--network",
}
# How fast it ran and where it was written to are not part of what was asked.
_NOT_ASKED: Final = ("repeat", "records", "timeline")


def simulate_question(question: Mapping[str, Any]) -> dict[str, Any]:
    """The question of a simulation: its options, less those that mean nothing beside a trace."""
    asked = {name: value for name, value in question.items() if name not in _NOT_ASKED}
    if asked.get("trace") is not None:
        for name in ("workload", "seed", "sets"):
            asked.pop(name, None)
    return asked


def simulate_command(question: Mapping[str, Any]) -> str:
    """The ``provision simulate`` command of a question, with its defaults written out.

    >>> simulate_command({"design": "baseline-h100", "mixed_machines": 51, "limits": {"ttft_p99": "2s"}, "cv": None})
    'provision simulate --design baseline-h100 --mixed 51 --ttft-p99 2s'
    """
    asked = simulate_question(question)
    typed: list[str] = []
    for name, flag in _SIMULATED.items():
        value = asked.get(name)
        if value is not None and not (name == "cool_down" and value == 0):
            typed += [flag, _typed(value) + ("s" if name == "transfer_retry_s" else "")]
    for name, flag in _SIMULATED_REPEATED.items():
        for value in asked.get(name) or ():
            typed += [flag, _typed(value)]
    for name, text in (asked.get("limits") or {}).items():
        typed += [f"--{name.replace('_', '-')}", str(text)]
    typed += _scale(asked)
    if asked.get("rates_rps"):
        typed += ["--rates", ",".join(_typed(rate) for rate in asked["rates_rps"])]
    if asked.get("share_links") is not None:
        typed += ["--links", "shared" if asked["share_links"] else "apart"]
    if asked.get("independent"):
        typed.append("--independent")
    return shlex.join(["provision", "simulate", *typed])


def _scale(question: Mapping[str, Any]) -> list[str]:
    return [part for name, value in (question.get("scale") or {}).items() for part in ("--scale", f"{name}={value:g}")]


def _typed(value: Any) -> str:
    return f"{value:.12g}" if isinstance(value, float) else str(value)

"""The command that asks the question of a plan again."""

from __future__ import annotations

from typing import Any

from provisioner.options import PlanOptions
from provisioner.options.command import command_of
from provisioner.planning.plan import Plan


def command_line(plan: Plan) -> str:
    """The ``provision plan`` command of a plan's question, with the defaults that fix the answer written out."""
    return command_of("plan", fixed_question(plan), PlanOptions)


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

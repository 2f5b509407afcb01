"""The command that asks the question of a plan or a simulation again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from provisioner.options import Options, PlanOptions, SimulateOptions
from provisioner.options.declaration import declaration_of
from provisioner.options.plan import PROOF
from provisioner.planning.plan import Plan


def command_line(plan: Plan) -> str:
    """The ``provision plan`` command of a plan's question, with the defaults that fix the answer written out."""
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


def typed(question: Mapping[str, Any], kind: type[Options]) -> list[str]:
    """The options of a question as they are typed: values other than the defaults, and those that fix the answer.

    >>> typed({"workload": "coding", "limits": {"ttft_p99": "2s"}, "machines": ("dgx-h100",), "cv": None}, PlanOptions)
    ['--workload', 'coding', '--ttft-p99', '2s', '--machine', 'dgx-h100']
    """
    declarations = {each.name: declaration_of(each) for each in fields(kind)}
    given = [(declaration, question[name]) for name, declaration in declarations.items() if name in question]
    return [
        argument
        for declaration, value in given
        if value not in (None, (), [], {}) and (declaration.fixes or value != declaration.default)
        for argument in declaration.typed(value)
    ]


def arguments(question: Mapping[str, Any]) -> list[str]:
    """The options of a plan's question as they are typed, without those of the proof where there is none."""
    proven = [each.name for each in fields(PlanOptions) if declaration_of(each).group == PROOF and each.name != "fast"]
    left_out = {"write_lp", *(proven if question.get("fast") else ())}
    return typed({name: value for name, value in question.items() if name not in left_out}, PlanOptions)


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
    """The ``provision simulate`` command of a question, with the defaults that fix the answer written out.

    >>> simulate_command({"design": "baseline-h100", "mixed_machines": 51, "limits": {"ttft_p99": "2s"}, "cv": None})
    'provision simulate --ttft-p99 2s --design baseline-h100 --mixed 51'
    """
    return shlex.join(["provision", "simulate", *typed(simulate_question(question), SimulateOptions)])

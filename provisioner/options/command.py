"""The command that asks a question again, from the values of its options."""

import shlex
from collections.abc import Mapping
from typing import Any, Final

from provisioner.options.base import Options
from provisioner.options.declaration import Option, declarations_of
from provisioner.options.plan import PROOF
from provisioner.spelling import spelled

# Options on speed and files are no part of the question.
_NOT_ASKED: Final = ("write_lp", "repeat", "records", "timeline")


def typed(question: Mapping[str, Any], kind: type[Options]) -> list[str]:
    """The options of a question as they are typed: values other than the defaults, and those that fix the answer.

    A plan by the formulas has none of the proof.

    >>> from provisioner.options import PlanOptions
    >>> typed({"workload": "coding", "limits": {"ttft_p99": "2s"}, "machines": ("dgx-h100",), "cv": None}, PlanOptions)
    ['--workload', 'coding', '--ttft-p99', '2s', '--machine', 'dgx-h100']
    """
    return [
        argument
        for name, declaration in _asked(question, kind).items()
        if (value := question[name]) not in (None, (), [], {}) and (declaration.fixes or value != declaration.default)
        for argument in declaration.typed(value)
    ]


def _asked(question: Mapping[str, Any], kind: type[Options]) -> dict[str, Option]:
    """The declarations of the options of a question that mean something."""
    asked = {name: each for name, each in declarations_of(kind).items() if name in question and name not in _NOT_ASKED}
    if question.get("fast"):
        return {name: each for name, each in asked.items() if name == "fast" or each.group != PROOF}
    return asked


def given_and_defaults(
    question: Mapping[str, Any], kind: type[Options]
) -> tuple[tuple[tuple[str, str], ...], tuple[tuple[str, str], ...]]:
    """The options of a question with their values as they are written: those given, and those left at their defaults.

    Names are flags or keywords, as the caller writes them. A default of nothing is left out.

    >>> from provisioner.options import PlanOptions
    >>> question = {"slo": "p99", "limits": {"tbt_p99": "60ms"}, "objective": "cost", "independent": False, "cv": None}
    >>> given_and_defaults(question, PlanOptions)
    ((('slo', 'p99'), ('tbt_p99', '60ms')), (('objective', 'cost'),))
    >>> given_and_defaults({"limits": {"tbt_p99.9": "3s"}}, PlanOptions)[0]
    (('limits', 'tbt-p99.9=3s'),)
    """
    given: list[tuple[str, str]] = []
    defaults: list[tuple[str, str]] = []
    for name, declaration in _asked(question, kind).items():
        value = question[name]
        if value is None or (value == declaration.default and (value is False or value in ((), [], {}))):
            continue
        rows = defaults if value == declaration.default else given
        if declaration.members:
            rows += [(spelled(entry), text) for entry, text in value.items() if entry in declaration.members]
            unnamed = {entry: text for entry, text in value.items() if entry not in declaration.members}
            rows += [(spelled(name), text) for text in declaration.kind.texts(unnamed)]
        else:
            text = ", ".join(declaration.kind.texts(value)) if not declaration.switch else "yes" if value else "no"
            rows.append((spelled(name), text))
    return tuple(given), tuple(defaults)


def command_of(name: str, question: Mapping[str, Any], kind: type[Options]) -> str:
    """The command that asks a question again, with the defaults that fix the answer written out.

    >>> from provisioner.options import SimulateOptions
    >>> command_of("simulate", {"design": "baseline-h100", "mixed_machines": 51, "cv": None}, SimulateOptions)
    'provision simulate --design baseline-h100 --mixed 51'
    """
    return shlex.join(["provision", name, *typed(question, kind)])


def simulate_question(question: Mapping[str, Any]) -> dict[str, Any]:
    """The question of a simulation: its options, less those that mean nothing beside a trace."""
    left_out = _NOT_ASKED if question.get("trace") is None else (*_NOT_ASKED, "workload", "seed", "sets")
    return {name: value for name, value in question.items() if name not in left_out}


def plan_question(question: Mapping[str, Any], rate_rps: float) -> dict[str, Any]:
    """The question of a plan: its options with the rate that was planned for, as a workload's own may change."""
    asked = dict(question)
    if asked.get("trace") is not None:
        asked.pop("workload", None)
        asked.pop("rate_rps", None)
    elif asked.get("backlog_requests") is not None:
        asked.pop("rate_rps", None)
    elif asked.get("rate_rps") is None and asked.get("objective") != "throughput":
        asked["rate_rps"] = rate_rps
        asked["scale"] = {name: value for name, value in asked.get("scale", {}).items() if name != "rate"}
    return asked

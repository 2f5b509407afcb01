"""The result of a reproduction: a paper's published results beside computed ones."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from provisioner.results.result import Result

Values = Mapping[str, Any]  # type: ignore[explicit-any]  # each experiment has numbers, texts and lists of its own
"""Numbers of one experiment under one set of assumptions, by names of their own."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One published result beside ours; ``remark`` says why they differ where they do."""

    experiment: str
    result: str
    published: str
    simulator: str
    measured: str
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reproduction(Result):
    """All results of a paper, with the numbers computed for them by set of assumptions and experiment.

    ``sets`` request sets of ``duration_s`` judged each cluster. ``command`` computes the same again.
    """

    paper: str
    findings: tuple[Finding, ...]
    values: Mapping[str, Mapping[str, Values]]
    sets: int
    duration_s: float
    seed: int
    sources: tuple[str, ...]
    versions: Mapping[str, str]
    question: Mapping[str, object]
    command: str
    kind: Literal["reproduction"] = "reproduction"

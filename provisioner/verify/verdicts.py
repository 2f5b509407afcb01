"""Verdicts and request sets of earlier simulations, shared by questions that no verdict tells apart."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from threading import Lock
from typing import Any, Final

from provisioner.planning.answer import Setting
from provisioner.planning.proof import Candidate, Verdict
from provisioner.verify.judge import SimulationJudge
from provisioner.verify.request_sets import RequestSets

# Options on which no verdict depends.
_CHOOSES: Final[Mapping[str, Any]] = {
    "designs": (),
    "machines": (),
    "objective": "cost",
    "max_cost_usd_per_h": None,
    "max_power_w": None,
    "max_machines": None,
    "stock": {},
    "prices": "",
    "solver": "",
    "write_lp": None,
    "fast": False,
    "exhaustive": False,
    "time_limit_s": None,
    "against": None,
}
_REMEMBERED_SETS: Final = 4  # rates whose request sets are kept


class Verdicts:
    """Verdicts and request sets, for questions that differ in prices, caps, objective or designs only.

    A cluster that was simulated for one of them is not simulated for another.
    """

    def __init__(self) -> None:
        self._verdicts: dict[str, dict[Candidate, Verdict]] = {}
        self._sets: OrderedDict[str, RequestSets] = OrderedDict()
        self._lock = Lock()

    def _known(self, setting: Setting, rate_rps: float) -> tuple[RequestSets, dict[Candidate, Verdict]]:
        """The request sets of a question at a rate, and the verdicts that are known on them."""
        key = self._key(setting, rate_rps)
        with self._lock:
            sets = self._sets.pop(key, None) or RequestSets(setting, rate_rps)
            self._sets[key] = sets
            if len(self._sets) > _REMEMBERED_SETS:
                self._sets.popitem(last=False)
            return sets, self._verdicts.setdefault(key, {})

    @staticmethod
    def _key(setting: Setting, rate_rps: float) -> str:
        """The options that verdicts depend on: all but those that only choose among clusters, or how to search them."""
        options = setting.options
        scale = {name: factor for name, factor in options.scale.items() if name.split(":")[0] not in ("price", "power")}
        same = replace(options, scale=scale, **_CHOOSES)
        return f"{rate_rps!r} {setting.slo} {same}"

    def judge(self, setting: Setting, rate_rps: float) -> tuple[RequestSets, SimulationJudge]:
        """The request sets of a question at a rate, and the judge on them, who knows the verdicts of before."""
        options = setting.options
        sets, known = self._known(setting, rate_rps)
        for k in range(sets.count):
            sets(k)
        return sets, SimulationJudge(
            setting.replicas,
            setting.slo,
            sets,
            sets.count,
            policy=options.policy,  # type: ignore[arg-type]
            confidence=options.confidence,
            cut_margin=options.cut_margin,
            job=setting.job,
            known=known,
        )

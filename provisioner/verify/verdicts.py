"""Verdicts and request sets of earlier simulations, shared by questions that no verdict tells apart."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from threading import Lock
from typing import Final

from provisioner.planning.proof import Candidate, Verdict
from provisioner.planning.setting import Setting
from provisioner.verify.judge import SimulationJudge
from provisioner.verify.request_sets import RequestSets

_REMEMBERED_SETS: Final = 4  # rates whose request sets are kept


class Verdicts:
    """Verdicts and request sets, for questions that differ in prices, caps, objective or designs only.

    A cluster that was simulated for one of them is not simulated for another. Another process begins without any.
    """

    def __init__(self) -> None:
        self._verdicts: dict[Hashable, dict[Candidate, Verdict]] = {}
        self._sets: OrderedDict[Hashable, RequestSets] = OrderedDict()
        self._lock = Lock()

    def __reduce__(self) -> tuple[type[Verdicts], tuple[()]]:
        return Verdicts, ()

    def judge(self, setting: Setting, rate_rps: float) -> tuple[RequestSets, SimulationJudge]:
        """The request sets of a question at a rate, and the judge on them, who knows the earlier verdicts."""
        judging = setting.judging
        key = (rate_rps, setting.slo, judging, setting.verdicts_rest_on)
        with self._lock:
            sets = self._sets.pop(key, None) or RequestSets(setting, rate_rps)
            self._sets[key] = sets
            if len(self._sets) > _REMEMBERED_SETS:
                self._sets.popitem(last=False)
            known = self._verdicts.setdefault(key, {})
        for k in range(sets.count):
            sets(k)
        return sets, SimulationJudge(
            setting.replicas,
            setting.slo,
            sets,
            sets.count,
            policy=judging.policy,
            confidence=judging.confidence,
            cut_margin=judging.cut_margin,
            job=setting.job,
            known=known,
        )

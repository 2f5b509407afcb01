"""From a loaded question to its plan: by the formulas or proven by simulation, and recomputed before it is returned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from provisioner.planning.answer import Setting, answer
from provisioner.planning.check import check

if TYPE_CHECKING:
    from provisioner.planning.plan import Plan
    from provisioner.verified import Memory


def planned(setting: Setting, progress: Callable[[str], None] = lambda _: None, memory: Memory | None = None) -> Plan:
    """The plan that answers a question; ``InfeasibleError`` where there is none.

    Every plan is recomputed from the specs before it is returned; what does not agree is among its warnings.
    ``memory`` is that of ``verified``.
    """
    if setting.options.fast:
        found = answer(setting, progress)
    else:
        from provisioner.verified import verified

        found = verified(setting, progress, memory)
    wrong = (f"not confirmed when recomputed from the specs: {each}" for each in check(found, setting))
    return replace(found, warnings=(*found.warnings, *wrong))

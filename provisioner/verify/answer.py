"""From a loaded question to its plan: by the formulas or proven by simulation, and recomputed before it is returned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from provisioner.errors import InfeasibleError, InputError
from provisioner.planning.answer import answer
from provisioner.planning.check import confirmed
from provisioner.planning.proof_program import write_lp
from provisioner.planning.setting import Setting
from provisioner.results.plan import Plan, Promise
from provisioner.verify.prove import proof_of
from provisioner.verify.throughput import largest_throughput
from provisioner.verify.verdicts import Verdicts


def with_promise(
    plan: Plan, slo: str, load: Callable[[], Setting], progress: Callable[[str], None] = lambda _: None
) -> Plan:
    """A plan with that of the same load within another SLO beside it, which ``load`` loads."""
    progress(f"the plan within SLO {slo}, to compare")
    try:
        found = best_plan(load(), progress)
    except InfeasibleError as error:
        why = f"no plan is within it{f', for {error.binding}' if error.binding else ''}"
        return replace(plan, promise=Promise(slo=slo, reason=why))
    except InputError as error:
        return replace(plan, promise=Promise(slo=slo, reason=f"cannot be planned: {error}"))
    promise = Promise(
        slo=slo,
        design=found.design,
        pools=found.pools,
        rate_rps=found.rate_rps,
        cost_usd_per_h=found.cost_usd_per_h,
        power_w=found.power_w,
    )
    return replace(plan, promise=promise)


def best_plan(
    setting: Setting, progress: Callable[[str], None] = lambda _: None, verdicts: Verdicts | None = None
) -> Plan:
    """The plan that answers a question; ``InfeasibleError`` where there is none.

    Every plan is recomputed from the specs before it is returned; what does not agree is among its warnings.
    ``verdicts`` are those of ``proven_plan``.
    """
    found = answer(setting, progress) if setting.searching.fast else proven_plan(setting, progress, verdicts)
    return confirmed(found, setting)


def proven_plan(
    setting: Setting, progress: Callable[[str], None] = lambda _: None, verdicts: Verdicts | None = None
) -> Plan:
    """The best plan that the simulator accepts, with the proof; ``InfeasibleError`` with the nearest miss for none.

    ``verdicts`` has those of simulations for other questions, and keeps those of this one.
    """
    if setting.objective == "throughput":
        return largest_throughput(setting, progress, verdicts).plan
    found = proof_of(setting, progress, verdicts)
    if setting.searching.write_lp is not None and found.proof.program.positions:
        write_lp(found.proof.program, setting.searching.write_lp)
    plan = found.plan()
    if plan is None:
        raise found.why_none(progress)
    return plan

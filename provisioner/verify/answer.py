"""From a loaded question to its plan: by the formulas or proven by simulation, and recomputed before it is returned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from provisioner.errors import InfeasibleError, InputError
from provisioner.planning.answer import answer
from provisioner.planning.check import confirmed
from provisioner.planning.proof_program import write_lp
from provisioner.planning.setting import Setting
from provisioner.progress import Progress
from provisioner.results.plan import Plan, Promise
from provisioner.verify.prove import proof_of
from provisioner.verify.throughput import largest_throughput
from provisioner.verify.verdicts import Verdicts


def with_promise(plan: Plan, slo: str, load: Callable[[], Setting], progress: Progress = lambda _: None) -> Plan:
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


def best_plan(setting: Setting, progress: Progress = lambda _: None, verdicts: Verdicts | None = None) -> Plan:
    """The plan that answers a question; ``InfeasibleError``, with the nearest miss, where there is none.

    The best that the simulator accepts, with the proof, or the formulas' where they are asked alone. It is recomputed
    from the specs before it is returned; what does not agree is among its warnings. ``verdicts`` has those of
    simulations for other questions, and keeps those of this one.
    """
    if setting.searching.fast:
        return confirmed(answer(setting, progress), setting)
    if setting.objective == "throughput":
        return confirmed(largest_throughput(setting, progress, verdicts).plan, setting)
    proven = proof_of(setting, progress, verdicts)
    if setting.searching.write_lp is not None and proven.proof.program.positions:
        write_lp(proven.proof.program, setting.searching.write_lp)
    return confirmed(proven.plan(progress), setting)

"""From a loaded question to its plan: by the formulas or proven by simulation, and recomputed before it is returned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from provisioner.errors import InfeasibleError, InputError
from provisioner.loading.setting import load_setting
from provisioner.options import PlanOptions
from provisioner.planning.answer import Setting, answer
from provisioner.planning.check import confirmed
from provisioner.planning.proof_program import write_lp
from provisioner.results.plan import Plan, Promise
from provisioner.specs.slo import load_slo
from provisioner.verify.prove import proof_of
from provisioner.verify.throughput import largest_throughput
from provisioner.verify.verdicts import Verdicts


def against(options: PlanOptions) -> str | None:
    """The SLO whose plan is set beside that of a question: the one asked for, or ``splitwise`` for batch work.

    Batch work has no limit but a deadline; ``batch`` with limits of one's own is a way to give these alone.
    """
    slo = options.against or ("splitwise" if options.slo == "batch" and not options.limits else "none")
    if slo == "none":
        return None
    load_slo(slo)
    return slo


def with_promise(plan: Plan, slo: str, options: PlanOptions, progress: Callable[[str], None] = lambda _: None) -> Plan:
    """A plan with that of the same load within another SLO beside it.

    The load is the same, arriving at random, for a deadline and a batch job too; caps are dropped but where throughput
    is asked for, which is then the largest within them.
    """
    asked = replace(options, slo=slo, limits={}, backlog_requests=None, within_s=None, deadline_s=None, write_lp=None)
    if options.backlog_requests is not None:  # which has its rate from its window, whatever the factor on rates
        scale = {name: factor for name, factor in options.scale.items() if name != "rate"}
        asked = replace(asked, rate_rps=plan.rate_rps, scale=scale)
    if options.objective != "throughput":
        asked = replace(asked, max_cost_usd_per_h=None, max_power_w=None, max_machines=None)
    progress(f"the plan within SLO {slo}, to compare")
    try:
        found = best_plan(load_setting(asked), progress)
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
    found = answer(setting, progress) if setting.options.fast else proven_plan(setting, progress, verdicts)
    return confirmed(found, setting)


def proven_plan(
    setting: Setting, progress: Callable[[str], None] = lambda _: None, verdicts: Verdicts | None = None
) -> Plan:
    """The best plan that the simulator accepts, with the proof; ``InfeasibleError`` with the nearest miss for none.

    ``verdicts`` has what was simulated for other questions, and keeps what is simulated for this one.
    """
    if setting.options.objective == "throughput":
        return largest_throughput(setting, progress, verdicts).plan
    found = proof_of(setting, progress, verdicts)
    if setting.options.write_lp is not None and found.proof.program.positions:
        write_lp(found.proof.program, setting.options.write_lp)
    plan = found.plan()
    if plan is None:
        raise found.why_none(progress)
    return plan

"""Machines with too little work: the smallest machine types with the same GPUs that would do in their place."""

from dataclasses import replace
from itertools import product
from typing import Final

from provisioner.deadline import TimeIsUp
from provisioner.perf.assumptions import ReplicaPerf
from provisioner.planning.candidates import DesignLatency, LatencyInputs
from provisioner.planning.designs import Design, ReplicaKey
from provisioner.planning.proof import Candidate
from provisioner.planning.setting import Setting
from provisioner.results.plan import Plan, PlanPool, SmallerMachine
from provisioner.verify.judge import Verdicts

_MOST_TRIED: Final = 12  # clusters of smaller machines, the smallest first

_Choice = tuple[tuple[ReplicaPerf, float | None], ...]


def with_smaller(plan: Plan, setting: Setting, verdicts: Verdicts) -> Plan:
    """A plan with the smaller machine types that would do, where every pool is of one machine.

    They would do if the cluster of them passes as the plan did, simulated or by the formulas, and costs no more. Types
    of one cloud are taken together. Nothing is said if a time limit is reached before it is known.
    """
    design = next((design for design in setting.designs if design.name == plan.design), None)
    if design is None or setting.objective == "throughput" or any(pool.machines > 1 for pool in plan.pools):
        return plan
    try:
        return next(
            (
                replace(plan, smaller=tuple(map(_smaller, plan.pools, choice)))
                for choice in _choices(plan, setting)
                if _passes(setting, verdicts, design, choice)
            ),
            plan,
        )
    except TimeIsUp:
        return plan


def _smaller(pool: PlanPool, replica: tuple[ReplicaPerf, float | None]) -> SmallerMachine:
    perf, cost = replica
    return SmallerMachine(pool.role, perf.machine.name, perf.machine.gpus, pool.gpus_per_machine, cost)


def _choices(plan: Plan, setting: Setting) -> list[_Choice]:
    """A replica on a machine type with fewer GPUs for each pool, with the cost of the type: by GPUs, then cost."""
    options = []
    for pool in plan.pools:
        replica = setting.replica(pool.machine, pool.tensor_parallel)
        smaller = setting.smaller.get(pool.machine, ())
        options.append(
            [(replace(replica, machine=each), cost) for each, cost in smaller if each.gpus >= pool.tensor_parallel]
        )

    def rank(choice: _Choice) -> tuple[int, float]:
        costs = [float("inf") if cost is None else cost for _, cost in choice]
        return sum(perf.machine.gpus for perf, _ in choice), sum(costs)

    together = [choice for choice in product(*options) if len({perf.machine.cloud for perf, _ in choice}) == 1]
    known = ((sum(cost or 0.0 for _, cost in choice), choice) for choice in together)
    return sorted((choice for cost, choice in known if cost <= plan.cost_usd_per_h), key=rank)[:_MOST_TRIED]


def _passes(setting: Setting, verdicts: Verdicts, design: Design, choice: _Choice) -> bool:
    """Whether a cluster of one machine of each type passes: by the formulas, or by simulation."""
    keys = {ReplicaKey(perf.machine.name, perf.tensor_parallel): perf for perf, _ in choice}
    with_them = replace(setting, replicas={**setting.replicas, **keys})
    slots = zip(design.slots, choice, strict=True)
    smaller = replace(design, slots=tuple(replace(slot, machine=perf.machine) for slot, (perf, _) in slots))
    sizes = (1,) * len(choice)
    if setting.searching.fast:
        inputs = LatencyInputs(setting.traffic, setting.predicted, setting.reference, with_them.replicas)
        latency = DesignLatency(inputs, smaller)
        return latency.stable(sizes) and all(latency.meets(limit, sizes) for limit in inputs.slo.limits)
    _, judge = verdicts.judge(with_them, setting.traffic.peak_rps)
    return judge.judge(Candidate(smaller, sizes)).passes

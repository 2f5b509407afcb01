"""The gain of splitting: the best cluster that splits the phases and the best colocated one, each proven."""

from dataclasses import replace

from provisioner.deadline import TimeIsUp
from provisioner.options.defaults import ENGINE_POLICIES
from provisioner.planning.answer import amount, loss, ranked
from provisioner.planning.proof import Judged
from provisioner.progress import Progress
from provisioner.results.plan import Alternative, Contender, Plan, Splitting
from provisioner.verify.evidence import Proven
from provisioner.verify.regions import Scope


def splitting(proven: Proven, progress: Progress = lambda _: None) -> Splitting | None:
    """The best cluster of each kind over the designs of a proof that found a plan.

    None if they are of one kind, or not under policies of engines: the paper's baselines are none that anyone deploys.
    The kind that the plan is not of is proven by itself, with the verdicts that are known. Raises ``TimeIsUp`` at the
    time limit.
    """
    case, best = proven.case, proven.proof.best
    kinds = {kind: tuple(design for design in case.designs if design.splits == kind) for kind in (True, False)}
    if best is None or not all(kinds.values()) or case.judge.policy not in ENGINE_POLICIES:
        return None
    wins = best.candidate.design.splits
    progress(f"the best {'colocated' if wins else 'split'} cluster, to compare")
    proof = replace(case, designs=kinds[not wins]).prove(progress, Scope())
    if not proof.ties_judged:
        raise TimeIsUp
    other = proof.best

    def contender(found: Judged | None) -> Contender | None:
        if found is None:
            return None
        design, sizes = found.candidate.design, found.candidate.sizes
        return Contender(
            policy=case.judge.policy_of(design).name,
            batch_tokens=case.judge.shown_tokens_of(found.candidate),
            **case.setting.priced(design, sizes, found.totals),
        )

    split, colocated = (contender(best if kind == wins else other) for kind in (True, False))
    return Splitting(split, colocated, case.setting.criterion, bool(case.judge.batch_tokens))


def with_splitting(plan: Plan, proven: Proven, progress: Progress = lambda _: None) -> Plan:
    """A plan with what splitting brings, and the other kind's best cluster among its alternatives."""
    found = splitting(proven, progress)
    if found is None:
        return plan
    other = found.colocated if plan.cluster.splits else found.split
    if other is not None and proven.proof.best is not None:
        totals = {name: amount(other, name) for name in proven.proof.best.totals}
        shown = {name: getattr(other, name) for name in ("design", "pools", "cost_usd_per_h", "power_w")}
        proved = Alternative(**shown, reason=loss(totals, proven.proof.best.totals), basis="simulated")
        others = [proved if each.design == other.design else each for each in plan.alternatives]
        plan = replace(plan, alternatives=ranked(others, proven.case.setting.criterion))
    return replace(plan, splitting=found)

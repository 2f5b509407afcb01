"""What the Splitwise paper publishes, computed again: by the published simulator's rules, and by the measurements.

Every result of the paper that this tool can compute stands beside ours under two sets of assumptions: those of the
published simulator, and the measured decode curve with today's colocated baseline (chunked prefill) beside the paper's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from provisioner.errors import InfeasibleError, InputError, Interrupted, UnknownNameError
from provisioner.loading.common import versions
from provisioner.loading.scenario import load_scenario
from provisioner.loading.setting import load_setting
from provisioner.options import DURATION_S, PlanOptions, SimulateOptions
from provisioner.planned import planned
from provisioner.progress import Step, worded
from provisioner.studies import splitwise_paper as paper
from provisioner.studies.capacity import capacity
from provisioner.studies.compare import Comparison, compare
from provisioner.studies.journal import Journal
from provisioner.studies.result import StudyResult

if TYPE_CHECKING:
    import pandas as pd

    from provisioner.report.chart import Chart
    from provisioner.report.document import Document

PAPERS: Final = ("splitwise",)
WORLDS: Final = ("splitwise-sim", "measured")
"""The two sets of assumptions, as ``--assumptions`` names them."""

_SETS: Final = 5
# In the batch job so many requests are in flight on each machine, and so many times as many are served.
_IN_FLIGHT: Final = 100
_TURNS: Final = 6
_EXAMPLE_TOKENS: Final = 1500  # the median coding prompt
_EXAMPLE_OUTPUT: Final = 13

Values = Mapping[str, Any]
"""What one experiment gave under one set of assumptions: plain values."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One published result beside ours; ``remark`` says why they differ where they do."""

    experiment: str
    result: str
    published: str
    simulator: str
    measured: str
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Reproduction(StudyResult):
    """All results of a paper, with what was computed for them by experiment and set of assumptions."""

    paper: str
    findings: tuple[Finding, ...]
    values: Mapping[str, Mapping[str, Values]]
    sets: int
    duration_s: float
    seed: int
    sources: tuple[str, ...]
    versions: Mapping[str, str]
    question: Mapping[str, Any] = field(default_factory=dict)

    def to_frame(self) -> pd.DataFrame:
        """One row per result."""
        import pandas as pd

        return pd.DataFrame([asdict(finding) for finding in self.findings])

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values: what ``--json`` prints."""
        return asdict(self)

    def document(self) -> Document:
        """The report."""
        from provisioner.report.reproduction_document import reproduction_document

        return reproduction_document(self, inputs=True)

    def charts(self) -> tuple[Chart, ...]:
        """Throughput of the designs within the same power and cost, both ways."""
        from provisioner.report.reproduction_document import reproduction_charts

        return reproduction_charts(self)


@dataclass(frozen=True, slots=True)
class World:
    """One set of assumptions under which everything is computed, at the paper's prices."""

    assumptions: str
    sets: int
    duration_s: float
    seed: int

    def options(self, **changes: Any) -> PlanOptions:
        """The paper's question: BLOOM-176B, its nine SLOs, its prices; lengths drawn as its trace generator does."""
        asked: dict[str, Any] = {
            "model": paper.MODEL,
            "tensor_parallel": "largest",  # the paper has all eight GPUs of a machine
            "slo": "splitwise",
            "prices": "paper",
            "assumptions": self.assumptions,
            "independent": self.assumptions == "splitwise-sim",
            "sets": self.sets,
            "duration_s": self.duration_s,
            "seed": self.seed,
        }
        return PlanOptions(**{**asked, **changes})


Experiment = Callable[[World, Mapping[str, Values], Callable[[str], None]], Values]


def _fig_12(world: World, _: Mapping[str, Values], progress: Callable[[str], None]) -> Values:
    """The cheapest Splitwise-HH for coding at 70 requests/s."""
    options = world.options(workload="coding", rate_rps=paper.RATE_RPS, designs=("splitwise-hh",))
    plan = planned(load_setting(options), progress)
    return {"sizes": [pool.machines for pool in plan.pools], "cost_usd_per_h": plan.cost_usd_per_h}


def _compared(found: Comparison) -> Values:
    return {
        row.label: {
            "sizes": [] if row.plan is None else [pool.machines for pool in row.plan.pools],
            "reason": row.reason,
            **(row.totals() or {}),
        }
        for row in found.rows
    }


def _iso(workload: str, same: str) -> Experiment:
    """Every design at its largest throughput within the power, or the cost, of 40 DGX-H100."""

    def run(world: World, _: Mapping[str, Values], progress: Callable[[str], None]) -> Values:
        options = world.options(workload=workload, designs=paper.DESIGNS)
        chunked = world.assumptions == "measured"
        found = compare(options, same=same, budget=paper.BUDGET, chunked=chunked, progress=progress)  # type: ignore[arg-type]
        return _compared(found)

    return run


def _iso_throughput(objective: str) -> Experiment:
    """Every design with the least power, or cost, at the throughput of Baseline-H100 with 40 machines."""

    def run(world: World, known: Mapping[str, Values], progress: Callable[[str], None]) -> Values:
        rate_rps = known["iso-power-conversation"]["Baseline-H100"]["throughput"]
        options = world.options(workload="conversation", rate_rps=rate_rps, designs=paper.DESIGNS, objective=objective)
        found = compare(options, same="throughput", chunked=world.assumptions == "measured", progress=progress)
        return _compared(found)

    return run


def _changed_workload(world: World, known: Mapping[str, Values], progress: Callable[[str], None]) -> Values:
    """Conversation on the clusters that are best for coding, against those that are best for conversation."""
    coding, conversation = known["iso-power-coding"], known["iso-power-conversation"]
    return {
        label: _held(
            world.options(workload="conversation"), label, coding[label]["sizes"], conversation[label], progress
        )
        for label in paper.CHANGED_WORKLOAD_LOSS
        if coding.get(label, {}).get("sizes") and conversation.get(label, {}).get("sizes")
    }


def _changed_model(world: World, known: Mapping[str, Values], progress: Callable[[str], None]) -> Values:
    """Llama2-70B on the clusters that are best for BLOOM-176B, against those that are best for it."""
    options = world.options(model="llama2-70b", workload="conversation", designs=paper.DESIGNS)
    best = _compared(compare(options, same="power", budget=paper.BUDGET, progress=progress))
    bloom = known["iso-power-conversation"]
    return {
        label: _held(replace(options, designs=()), label, bloom[label]["sizes"], best[label], progress)
        for label in best
        if bloom.get(label, {}).get("sizes") and best[label]["sizes"]
    }


def _held(
    options: PlanOptions, design: str, sizes: Sequence[int], best: Values, progress: Callable[[str], None]
) -> Values:
    """The throughput that a cluster in hand holds, and the share of the best one's that it loses."""
    roles = ("mixed",) if len(sizes) == 1 else ("prompt", "token")
    asked = replace(options, designs=(design.lower(),))
    try:
        in_hand: dict[str, Any] = dict(zip(roles, sizes, strict=True))
        found = capacity(asked, additions=False, progress=progress, **in_hand)
        rate_rps = found.rate_rps
    except InfeasibleError:
        rate_rps = 0.0
    return {
        "sizes": list(sizes),
        "throughput": rate_rps,
        "best_sizes": best["sizes"],
        "best_throughput": best["throughput"],
        "loss": 1.0 - rate_rps / best["throughput"],
    }


def _batch(world: World, known: Mapping[str, Values], progress: Callable[[str], None]) -> Values:
    """Requests/s for a dollar without any latency limit, at saturation, on the clusters of equal power."""
    from provisioner.simulation.assemble import assemble
    from provisioner.simulation.serve import serve

    found = {}
    for label, cluster in known["iso-power-conversation"].items():
        sizes = cluster["sizes"]
        design, _, policy = label.partition(", ")
        if not sizes:
            continue
        machines = sum(sizes)
        roles = ("mixed_machines",) if len(sizes) == 1 else ("prompt_machines", "token_machines")
        scenario = load_scenario(
            SimulateOptions(
                model=paper.MODEL,
                design=design.lower(),
                workload="conversation",
                slo="batch",
                assumptions=world.assumptions,
                independent=world.assumptions == "splitwise-sim",
                in_flight=_IN_FLIGHT * machines,
                requests=_TURNS * _IN_FLIGHT * machines,
                policy=policy or None,
                seed=world.seed,
                **dict(zip(roles, sizes, strict=True)),
            )
        )
        result = assemble(scenario, [each.observation for each in serve(scenario, progress=progress)])
        found[label] = {
            "sizes": sizes,
            "throughput": result.throughput_rps,
            "rps_per_usd_per_h": result.throughput_rps / cluster["cost"],
        }
    return found


def _transfer(world: World, _: Mapping[str, Values], __: Callable[[str], None]) -> Values:
    """What shipping the KV cache of a prompt of 1,500 tokens costs, alone on its machines."""
    from provisioner.perf.assumptions import replica
    from provisioner.perf.transfer import serialized_s

    found = {}
    for machine in ("dgx-a100", "dgx-h100"):
        of = replica(paper.MODEL, machine, assumptions=world.assumptions)  # type: ignore[arg-type]
        prompt_s, gap_s = float(of.prompt_s(_EXAMPLE_TOKENS)), float(of.decode_s(1, _EXAMPLE_TOKENS))
        visible_s = float(of.transfer_visible_s(_EXAMPLE_TOKENS, of))
        whole_s = float(serialized_s(_EXAMPLE_TOKENS * of.kv_bytes_per_token, of.link_bytes_per_s))
        e2e_s = prompt_s + (_EXAMPLE_OUTPUT - 1) * gap_s
        found[machine] = {
            "visible_s": visible_s,
            "of_prompt": visible_s / prompt_s,
            "of_e2e": visible_s / e2e_s,
            "of_e2e_serialized": whole_s / e2e_s,
            "of_second_token": visible_s / gap_s,
            "of_second_token_serialized": whole_s / gap_s,
        }
    return found


def _machines(world: World, _: Mapping[str, Values], __: Callable[[str], None]) -> Values:
    """One machine: Table IV, the prompt in output tokens, and how decoding slows with the batch."""
    from provisioner.perf.assumptions import reference, replica
    from provisioner.specs import catalog

    def of(model: str, machine: str) -> Any:
        return replica(model, machine, assumptions=world.assumptions)  # type: ignore[arg-type]

    coding = catalog.workload("coding")
    prompt, output = coding.quantile("prompt", 0.5), coding.quantile("output", 0.5)
    alone = reference("llama2-70b", world.assumptions)  # type: ignore[arg-type]
    ttft, tbt = [], []
    for machine in ("dgx-h100", "dgx-a100"):
        here = replace(alone, replica=of("llama2-70b", machine))
        ttft.append(float(here.ttft_s(prompt)))
        tbt.append(float(here.tbt_s(prompt, output)))
    bloom = of(paper.MODEL, "dgx-h100")
    context = prompt + output / 2
    capped = of(paper.MODEL, "dgx-h100-capped")
    return {
        "ttft_h100_a100": ttft[0] / ttft[1],
        "tbt_h100_a100": tbt[0] / tbt[1],
        "prompt_in_tokens": float(bloom.prompt_s(_EXAMPLE_TOKENS)) / float(bloom.decode_s(1, _EXAMPLE_TOKENS)),
        "tbt_64": float(bloom.decode_s(64, 64 * context)) / float(bloom.decode_s(1, context)),
        "prompt_rate_2048_512": (2048 / float(bloom.prompt_s(2048))) / (512 / float(bloom.prompt_s(512))),
        "prompt_rate_8192_2048": (8192 / float(bloom.prompt_s(8192))) / (2048 / float(bloom.prompt_s(2048))),
        "capped_decode": float(capped.decode_s(1, context)) / float(bloom.decode_s(1, context)),
        "capped_prompt": float(capped.prompt_s(_EXAMPLE_TOKENS)) / float(bloom.prompt_s(_EXAMPLE_TOKENS)),
    }


def _held_out(world: World, _: Mapping[str, Values], __: Callable[[str], None]) -> Values:
    """Error of the latency curves on a fifth of the measurements that they were not given."""
    from provisioner.perf.curves import curve_groups, load_curve_set
    from provisioner.perf.holdout import interpolation_error
    from provisioner.specs import catalog

    if world.assumptions != "measured":
        return {}
    found: dict[str, list[float]] = {}
    for model, machine, tensor_parallel in curve_groups():
        curves = load_curve_set(catalog.model(model), catalog.machine(machine), tensor_parallel)
        try:
            errors = interpolation_error(curves, "repeats")
        except InputError:  # one of assumed curves
            continue
        for error in errors:
            found.setdefault(error.axis.split(":")[0], []).append(error.mape)
    return {phase: max(errors) for phase, errors in found.items()}


EXPERIMENTS: Final[Mapping[str, Experiment]] = {
    "machines": _machines,
    "curves": _held_out,
    "transfer": _transfer,
    "fig-12": _fig_12,
    "iso-power-coding": _iso("coding", "power"),
    "iso-power-conversation": _iso("conversation", "power"),
    "iso-cost-conversation": _iso("conversation", "cost"),
    "iso-throughput-power": _iso_throughput("power"),
    "iso-throughput-cost": _iso_throughput("cost"),
    "changed-workload": _changed_workload,
    "changed-model": _changed_model,
    "batch": _batch,
}
"""Every experiment by name, in the order in which they are run: later ones use what earlier ones found."""

NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "iso-throughput-power": ("iso-power-conversation",),
    "iso-throughput-cost": ("iso-power-conversation",),
    "changed-workload": ("iso-power-coding", "iso-power-conversation"),
    "changed-model": ("iso-power-conversation",),
    "batch": ("iso-power-conversation",),
}


def reproduce(
    name: str = "splitwise",
    *,
    only: Sequence[str] = (),
    sets: int = _SETS,
    duration_s: float = DURATION_S,
    seed: int = 0,
    out: Sequence[str] = (),
    resume: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Reproduction:
    """The published results of a paper beside ours.

    ``only`` names experiments (``EXPERIMENTS``; what they need is run too), all unless given. ``sets`` request sets
    of ``duration_s`` judge each cluster. ``out`` are files to write; finished experiments are kept in a journal beside
    the first, and ``resume`` goes on from it.
    """
    from provisioner.report.files import check_outputs, write_outputs

    if name not in PAPERS:
        raise UnknownNameError("paper", name, PAPERS)
    for each in only:
        if each not in EXPERIMENTS:
            raise UnknownNameError("experiment", each, tuple(EXPERIMENTS))
    outputs = check_outputs(out, kind=Reproduction)
    wanted = [each for each in EXPERIMENTS if not only or each in only or any(each in NEEDS.get(o, ()) for o in only)]
    question = {"paper": name, "only": list(only), "sets": sets, "duration_s": duration_s, "seed": seed}
    values: dict[str, dict[str, Values]] = {world: {} for world in WORLDS}
    with _journal(outputs[0].given if outputs else None, question, resume) as (known, keep):
        steps = [(world, each) for world in WORLDS for each in wanted]
        for position, (world, each) in enumerate(steps):
            key = f"{world} {each}"
            if key not in known:
                here = Step(f"{position} of {len(steps)} experiments done; {each} ({world})", position, len(steps))
                progress(here)
                try:
                    found = EXPERIMENTS[each](
                        World(world, sets, duration_s, seed),
                        values[world],
                        partial(_told, progress, here),
                    )
                except KeyboardInterrupt:
                    kept = f"kept in {outputs[0].given}.journal, --resume goes on from there" if outputs else ""
                    raise Interrupted(
                        f"{position} of {len(steps)} experiments done", kept or "nothing written"
                    ) from None
                keep(key, found)
                known[key] = found
            values[world][each] = known[key]
        from provisioner.studies.reproduced import findings

        result = Reproduction(
            paper=name,
            findings=tuple(findings(values["splitwise-sim"], values["measured"])),
            values=values,
            sets=sets,
            duration_s=duration_s,
            seed=seed,
            sources=(paper.SOURCE,),
            versions=versions(("provisioner", "numpy", "scipy", "numba", "pulp", "highspy")),
            question=question,
        )
        write_outputs(result, outputs)
    return result


def _told(progress: Callable[[str], None], where: str, text: str) -> None:
    progress(worded(where, after=f": {text}"))


@contextmanager
def _journal(
    out: str | None, question: Mapping[str, Any], resume: bool
) -> Iterator[tuple[dict[str, Any], Callable[[str, Any], None]]]:
    """What an earlier session found, and how to keep more; the journal goes when all is written."""
    if out is None:
        if resume:
            raise InputError(
                "--resume: goes on with the journal beside the first --out; give the --out of the first run"
            )
        yield {}, lambda key, found: None
        return
    journal = Journal.open(f"{out}.journal", question, resume)
    finished = False
    try:
        yield dict(journal.done), journal.add
        finished = True
    finally:
        journal.close(finished)

"""The experiments of the Splitwise paper: by the published simulator's rules, and by the measurements."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Literal

from provisioner.errors import InfeasibleError, InputError
from provisioner.loading.scenario import load_scenario
from provisioner.loading.setting import load_setting
from provisioner.options import CapacityOptions, CompareOptions, PlanOptions, ReproduceOptions, SimulateOptions
from provisioner.options.defaults import policies
from provisioner.perf.assumptions import ReplicaPerf, reference, replica
from provisioner.perf.curves import Assumptions, curve_groups, load_curve_set
from provisioner.perf.summary import interpolation_error
from provisioner.perf.transfer import serialized_s
from provisioner.results.comparison import COMPARED
from provisioner.results.reproduction import Values
from provisioner.simulation.assemble import assemble
from provisioner.simulation.serve import serve
from provisioner.specs import catalog
from provisioner.studies.capacity import capacity
from provisioner.studies.compare import compare
from provisioner.studies.splitwise import paper
from provisioner.verify.answer import best_plan

# The closed loop of the batch job, for each machine: requests in flight, and how often that number is served.
_IN_FLIGHT: Final = 100
_TURNS: Final = 6
_EXAMPLE_TOKENS: Final = 1500  # the median coding prompt
_EXAMPLE_OUTPUT: Final = 13

Known = Mapping[str, Values]  # values of the experiments that are finished, by name
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class World:
    """One set of assumptions under which everything is computed, at the paper's prices."""

    assumptions: Assumptions
    asked: ReproduceOptions

    @property
    def published(self) -> bool:
        """Whether the published simulator's rules hold, and its trace generator's independent lengths."""
        return self.assumptions == "splitwise-sim"

    @property
    def options(self) -> PlanOptions:
        """The paper's question: BLOOM-176B, its nine SLOs, its prices; lengths drawn as its trace generator does."""
        return PlanOptions(
            model=paper.MODEL,
            tensor_parallel="largest",  # the paper has all eight GPUs of a machine
            batch_tokens=(),  # chunks as large as the engine's own
            slo="splitwise",
            prices="paper",
            assumptions=self.assumptions,
            engine=paper.ENGINE,
            policy=paper.POLICY,
            independent=self.published,
            **{name: getattr(self.asked, name) for name in ("sets", "duration_s", "seed")},
        )

    def replica(self, machine: str, model: str = paper.MODEL) -> ReplicaPerf:
        """A replica under these assumptions."""
        return replica(model, machine, assumptions=self.assumptions, engine=catalog.engine(paper.ENGINE))


Experiment = Callable[[World, Known, Progress], Values]


def _fig_12(world: World, _: Known, progress: Progress) -> Values:
    """The cheapest Splitwise-HH for coding at 70 requests/s."""
    options = replace(world.options, workload="coding", rate_rps=paper.RATE_RPS, designs=("splitwise-hh",))
    plan = best_plan(load_setting(options), progress)
    return {"sizes": [pool.machines for pool in plan.pools], "cost_usd_per_h": plan.cost_usd_per_h}


def _compared(options: PlanOptions, progress: Progress, **own: object) -> Values:
    """The sizes and totals of each of the paper's designs in a comparison; why it has no plan."""
    asked = CompareOptions.made(replace(options, designs=paper.DESIGNS), own)
    return {
        design.label: {
            "sizes": [] if design.plan is None else [pool.machines for pool in design.plan.pools],
            "reason": design.reason,
            **({} if design.plan is None else {name: design.of(name) for name in COMPARED}),
        }
        for design in compare(asked, progress=progress).designs
    }


def _iso(world: World, _: Known, progress: Progress, *, workload: str, same: Literal["power", "cost"]) -> Values:
    """Every design at its largest throughput within the power, or the cost, of 40 DGX-H100."""
    options = replace(world.options, workload=workload)
    return _compared(options, progress, same=same, budget=paper.BUDGET, chunked=not world.published)


def _iso_throughput(world: World, known: Known, progress: Progress, *, objective: Literal["power", "cost"]) -> Values:
    """Every design with the least power, or cost, at the throughput of Baseline-H100 with 40 machines."""
    rate_rps = known["iso-power-conversation"]["Baseline-H100"]["throughput"]
    options = replace(world.options, workload="conversation", rate_rps=rate_rps, objective=objective)
    return _compared(options, progress, same="throughput", chunked=not world.published)


def _changed_workload(world: World, known: Known, progress: Progress) -> Values:
    """Conversation on the clusters that are best for coding, against those that are best for conversation."""
    best = {label: known["iso-power-conversation"].get(label, {}) for label in paper.CHANGED_WORKLOAD_LOSS}
    return _held(replace(world.options, workload="conversation"), known["iso-power-coding"], best, progress)


def _changed_model(world: World, known: Known, progress: Progress) -> Values:
    """Llama2-70B on the clusters that are best for BLOOM-176B, against those that are best for it."""
    options = replace(world.options, model="llama2-70b", workload="conversation")
    best = _compared(options, progress, same="power", budget=paper.BUDGET)
    return _held(options, known["iso-power-conversation"], best, progress)


def _held(options: PlanOptions, in_hand: Values, best: Values, progress: Progress) -> Values:
    """The throughput that each cluster in hand holds, and the share of the best one's that it loses."""
    held = {}
    for design in best:
        sizes, best_sizes = in_hand.get(design, {}).get("sizes"), best[design].get("sizes")
        if not sizes or not best_sizes:
            continue
        prompt, token, mixed = (None, None, *sizes) if len(sizes) == 1 else (*sizes, None)
        machines = {"prompt": prompt, "token": token, "mixed": mixed, "additions": False}
        asked = CapacityOptions.made(replace(options, designs=(design.lower(),)), machines)
        try:
            rate_rps = capacity(asked, progress=progress).rate_rps
        except InfeasibleError:
            rate_rps = 0.0
        held[design] = {
            "sizes": list(sizes),
            "throughput": rate_rps,
            "best_sizes": best_sizes,
            "best_throughput": best[design]["throughput"],
            "loss": 1.0 - rate_rps / best[design]["throughput"],
        }
    return held


def _batch(world: World, known: Known, progress: Progress) -> Values:
    """Requests/s for a dollar without any latency limit, at saturation, on the clusters of equal power."""
    saturated = {}
    clusters = {label: cluster for label, cluster in known["iso-power-conversation"].items() if cluster["sizes"]}
    for label, cluster in clusters.items():
        sizes = cluster["sizes"]
        design, _, policy = label.partition(", ")
        roles = ("mixed_machines",) if len(sizes) == 1 else ("prompt_machines", "token_machines")
        in_flight = _IN_FLIGHT * sum(sizes)
        scenario = load_scenario(
            SimulateOptions(
                model=paper.MODEL,
                design=design.lower(),
                workload="conversation",
                slo="batch",
                assumptions=world.assumptions,
                independent=world.published,
                in_flight=in_flight,
                requests=_TURNS * in_flight,
                engine=paper.ENGINE,
                policy=policy or policies(paper.POLICY)[len(sizes) == 1],
                seed=world.asked.seed,
                **dict(zip(roles, sizes, strict=True)),
            )
        )
        simulation = assemble(scenario, [each.observation for each in serve(scenario, progress=progress)])
        saturated[label] = {
            "sizes": sizes,
            "throughput": simulation.throughput_rps,
            "rps_per_usd_per_h": simulation.throughput_rps / cluster["cost"],
        }
    return saturated


def _transfer(world: World, _: Known, __: Progress) -> Values:
    """The cost of shipping the KV cache of a prompt of 1,500 tokens, alone on its machines."""
    by_machine = {}
    for machine in ("dgx-a100", "dgx-h100"):
        perf = world.replica(machine)
        prompt_s, gap_s = float(perf.prompt_s(_EXAMPLE_TOKENS)), float(perf.decode_s(1, _EXAMPLE_TOKENS))
        visible_s = float(perf.transfer_visible_s(_EXAMPLE_TOKENS, perf))
        whole_s = float(serialized_s(_EXAMPLE_TOKENS * perf.kv_bytes_per_token, perf.link_bytes_per_s))
        e2e_s = prompt_s + (_EXAMPLE_OUTPUT - 1) * gap_s
        by_machine[machine] = {
            "visible_s": visible_s,
            "of_prompt": visible_s / prompt_s,
            "of_e2e": visible_s / e2e_s,
            "of_e2e_serialized": whole_s / e2e_s,
            "of_second_token": visible_s / gap_s,
            "of_second_token_serialized": whole_s / gap_s,
        }
    return by_machine


def _machines(world: World, _: Known, __: Progress) -> Values:
    """One machine: Table IV, the prompt in output tokens, and how decoding slows with the batch."""
    coding = catalog.workload("coding")
    prompt, output = coding.quantile("prompt", 0.5), coding.quantile("output", 0.5)
    context = prompt + output / 2
    alone = reference("llama2-70b", world.assumptions)
    h100, a100 = (replace(alone, replica=world.replica(name, "llama2-70b")) for name in ("dgx-h100", "dgx-a100"))
    bloom, capped = world.replica("dgx-h100"), world.replica("dgx-h100-capped")
    prompt_rate = {tokens: tokens / float(bloom.prompt_s(tokens)) for tokens in (512, 2048, 8192)}
    return {
        "ttft_h100_a100": float(h100.ttft_s(prompt)) / float(a100.ttft_s(prompt)),
        "tbt_h100_a100": float(h100.tbt_s(prompt, output)) / float(a100.tbt_s(prompt, output)),
        "prompt_in_tokens": float(bloom.prompt_s(_EXAMPLE_TOKENS)) / float(bloom.decode_s(1, _EXAMPLE_TOKENS)),
        "tbt_64": float(bloom.decode_s(64, 64 * context)) / float(bloom.decode_s(1, context)),
        "prompt_rate_2048_512": prompt_rate[2048] / prompt_rate[512],
        "prompt_rate_8192_2048": prompt_rate[8192] / prompt_rate[2048],
        "capped_decode": float(capped.decode_s(1, context)) / float(bloom.decode_s(1, context)),
        "capped_prompt": float(capped.prompt_s(_EXAMPLE_TOKENS)) / float(bloom.prompt_s(_EXAMPLE_TOKENS)),
    }


def _held_out(world: World, _: Known, __: Progress) -> Values:
    """Error of the latency curves on a fifth of the measurements that they were not given."""
    if world.published:
        return {}
    errors: dict[str, float] = {}
    for model, machine, tensor_parallel in curve_groups():
        curves = load_curve_set(catalog.model(model), catalog.machine(machine), tensor_parallel)
        with suppress(InputError):  # curves that are assumed
            for error in interpolation_error(curves, "repeats"):
                phase = error.axis.split(":")[0]
                errors[phase] = max(errors.get(phase, 0.0), error.mape)
    return errors


CALCULATED: Final = frozenset({"machines", "curves", "transfer"})
"""Experiments that simulate nothing."""

EXPERIMENTS: Final[Mapping[str, Experiment]] = {
    "machines": _machines,
    "curves": _held_out,
    "transfer": _transfer,
    "fig-12": _fig_12,
    "iso-power-coding": partial(_iso, workload="coding", same="power"),
    "iso-power-conversation": partial(_iso, workload="conversation", same="power"),
    "iso-cost-conversation": partial(_iso, workload="conversation", same="cost"),
    "iso-throughput-power": partial(_iso_throughput, objective="power"),
    "iso-throughput-cost": partial(_iso_throughput, objective="cost"),
    "changed-workload": _changed_workload,
    "changed-model": _changed_model,
    "batch": _batch,
}
"""Every experiment by name, in the order in which they are run: later ones use the values of earlier ones."""

NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "iso-throughput-power": ("iso-power-conversation",),
    "iso-throughput-cost": ("iso-power-conversation",),
    "changed-workload": ("iso-power-coding", "iso-power-conversation"),
    "changed-model": ("iso-power-conversation",),
    "batch": ("iso-power-conversation",),
}

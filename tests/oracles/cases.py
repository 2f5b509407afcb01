"""Random clusters, with the results of the simulator, the slow oracle and the queueing formulas."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray

from provisioner.perf.assumptions import Reference, reference, replica
from provisioner.queueing.mixed_stage import MixedStage
from provisioner.queueing.stages import PromptStage, SplitLatency, TokenStage
from provisioner.queueing.traffic import Classes, Traffic
from provisioner.simulation.cluster import Cluster, Pool
from provisioner.simulation.measure import percentiles
from provisioner.simulation.policy import Policy
from provisioner.simulation.requests import drawn, sets
from provisioner.simulation.run import Prepared, prepare, run
from provisioner.simulation.stability import Backlog, backlog, stability
from provisioner.specs import catalog
from provisioner.studies.splitwise import paper
from tests.oracles.simulation import Requests, draw, simulate_mixed, simulate_split

Array = NDArray[np.float64]

QUANTILES = (0.5, 0.9, 0.99)
METRICS = tuple((metric, kind) for kind in ("seconds", "slowdown") for metric in ("ttft", "tbt", "e2e"))
MACHINES = ("dgx-a100", "dgx-h100", "dgx-h100-capped")
DESIGNS: tuple[tuple[str, str | None], ...] = (*product(MACHINES, MACHINES), *((machine, None) for machine in MACHINES))
ENGINE = catalog.engine(paper.ENGINE)  # of the memory that both have; the policies are the paper's
WARM_UP = 0.2  # share of the requests left out at the start
COOL_DOWN = 0.02  # and at the end, while the cluster drains


@dataclass(frozen=True)
class Case:
    """A cluster and its traffic; ``token_machine`` None is one mixed pool of ``prompts`` machines."""

    model: str
    workload: str
    prompt_machine: str
    token_machine: str | None
    prompts: int
    tokens: int
    rate_rps: float
    cv: float = 1.0

    @property
    def traffic(self) -> Traffic:
        """The workload's classes at this case's rate."""
        w = catalog.workload(self.workload)
        return Traffic(Classes(w.prompt.tokens, w.output.tokens, w.weight), ((self.rate_rps, 1.0),), self.cv)

    def analytic(self) -> Analytic:
        """The formulas' stages for this case."""
        return Analytic(self)

    def requests(self, count: int, seed: int) -> Requests:
        """Requests drawn from the workload at this case's rate."""
        return draw(catalog.workload(self.workload), self.rate_rps, count, seed, self.cv)


class Analytic:
    """The queueing formulas on one case."""

    def __init__(self, case: Case) -> None:
        self.case, self.traffic, self.reference = case, case.traffic, reference(case.model)
        perf = replica(case.model, case.prompt_machine, engine=ENGINE)
        self.sizes = np.array([case.prompts], dtype=np.int64)
        self.token_sizes = np.array([case.tokens], dtype=np.int64)
        if case.token_machine is None:
            self.mixed = MixedStage(perf, self.traffic, self.reference)
            return
        token_perf = replica(case.model, case.token_machine, engine=ENGINE)
        self.prompt = PromptStage(perf, self.traffic, self.reference)
        self.token = TokenStage(token_perf, self.traffic, self.reference, perf)
        self.pair = SplitLatency(self.prompt, self.token, self.traffic)

    @property
    def loads(self) -> tuple[float, ...]:
        """Load of each pool."""
        if self.case.token_machine is None:
            return (float(self.mixed.load(self.sizes)[0]),)
        return float(self.prompt.load(self.sizes)[0]), float(self.token.load(self.token_sizes)[0])

    def load_of(self, metric: str) -> float:
        """Load of the pool that decides a metric: the busier one for E2E."""
        loads = self.loads
        return {"ttft": loads[0], "tbt": loads[-1], "e2e": max(loads)}[metric]

    def share(self, metric: str, kind: str, value: float) -> float:
        """Share of requests above a limit."""
        if self.case.token_machine is None:
            return float(self.mixed.exceedance(metric, kind, value, self.sizes)[0])
        if metric == "ttft":
            return float(self.prompt.exceedance(kind, value, self.sizes)[0])
        if metric == "tbt":
            return float(self.token.exceedance(kind, value, self.token_sizes)[0])
        return float(self.pair.exceedance(kind, value, self.sizes, self.case.tokens)[0])

    def percentile(self, metric: str, kind: str, quantile: float) -> float:
        """The smallest value that at most 1 - quantile of the requests exceed, to 1e-3; inf if there is none."""
        low, high = 1e-4, 1e-2
        while self.share(metric, kind, high) > 1.0 - quantile:
            low, high = high, high * 2.0
            if high > 1e6:
                return float("inf")
        while high / low > 1.0 + 1e-3:
            middle = float(np.sqrt(low * high))
            low, high = (middle, high) if self.share(metric, kind, middle) > 1.0 - quantile else (low, middle)
        return high

    def percentiles(self) -> Array:
        """P50, P90 and P99 (6, 3) of ``METRICS``."""
        return np.array([[self.percentile(metric, kind, q) for q in QUANTILES] for metric, kind in METRICS])


def simulated(case: Case, count: int, seed: int) -> Array:
    """P50, P90 and P99 (6, 3) of ``METRICS`` over the requests between warm-up and cool-down."""
    requests, perf = case.requests(count, seed), replica(case.model, case.prompt_machine, engine=ENGINE)
    per_machine = perf.replicas_per_machine
    if case.token_machine is None:
        seen = simulate_mixed(requests, perf, case.prompts * per_machine)
    else:
        token_perf = replica(case.model, case.token_machine, engine=ENGINE)
        token_replicas = case.tokens * token_perf.replicas_per_machine
        seen = simulate_split(requests, perf, token_perf, case.prompts * per_machine, token_replicas)
    kept = slice(int(WARM_UP * count), int((1.0 - COOL_DOWN) * count))
    p, o = requests.prompt_tokens[kept].astype(np.float64), requests.output_tokens[kept].astype(np.float64)
    alone: Reference = reference(case.model)
    values = {"ttft": seen.ttft_s[kept], "tbt": seen.tbt_s[kept], "e2e": seen.e2e_s[kept]}
    single = {"ttft": alone.ttft_s(p), "tbt": alone.tbt_s(p, o), "e2e": alone.e2e_s(p, o)}
    return np.array(
        [
            np.nanquantile(values[metric] if kind == "seconds" else values[metric] / single[metric], QUANTILES)
            for metric, kind in METRICS
        ]
    )


@dataclass(frozen=True)
class Simulated:
    """Results of the compiled simulator for a case on S independent request sets.

    ``percentiles`` (S, 6, 3) are P50, P90 and P99 of ``METRICS``; ``unstable`` says why the case is not stable, judged
    on all sets together ("" if it is); ``growth`` is the mean growth of the delay, in s/s.
    """

    percentiles: Array
    unstable: str
    growth: float


@lru_cache(maxsize=4)
def _prepared(
    model: str, workload: str, rate_rps: float, cv: float, duration_s: float, seed: int, count: int
) -> tuple[Prepared, ...]:
    """Request sets ready for runs; a case is run twice on them."""
    requests = catalog.workload(workload)
    made = sets(
        lambda rng: drawn(requests, rate_rps, duration_s, rng, cv=cv, warm_up=WARM_UP, cool_down=COOL_DOWN), seed, count
    )
    return tuple(prepare(each, reference(model)) for each in made)


def simulated_percentiles(
    case: Case, duration_s: float, seed: int, count: int, *, share_links: bool = True
) -> Simulated:
    """Simulate ``count`` sets: strict pools under the policy ``split``, one pool under ``mixed``."""
    first = replica(case.model, case.prompt_machine, engine=ENGINE)
    if case.token_machine is None:
        cluster = Cluster((Pool("mixed", first, case.prompts),), Policy("mixed"))
    else:
        second = replica(case.model, case.token_machine, engine=ENGINE)
        pools = Pool("prompt", first, case.prompts), Pool("token", second, case.tokens)
        cluster = Cluster(pools, Policy("split", share_links=share_links))
    found, backlogs = [], list[Backlog]()
    for prepared in _prepared(case.model, case.workload, case.rate_rps, case.cv, duration_s, seed, count):
        latencies = run(cluster, prepared).latencies
        both = {metric: latencies.both(metric) for metric in ("ttft", "tbt", "e2e")}
        found.append(
            [percentiles(both[metric][kind == "slowdown"], [100.0 * q for q in QUANTILES]) for metric, kind in METRICS]
        )
        backlogs.append(backlog(latencies))
    growth = float(np.mean([each.growth for each in backlogs]))
    return Simulated(np.array(found), stability(backlogs)[1], growth)


def at_load(case: Case, load: float) -> Case:
    """The case at the rate at which its busier pool has this load."""
    low, high = 1e-3, 1e5
    while high / low > 1.0 + 1e-6:
        middle = float(np.sqrt(low * high))
        within = max(replace(case, rate_rps=middle).analytic().loads) < load
        low, high = (middle, high) if within else (low, middle)
    return replace(case, rate_rps=float(f"{low:.4g}"))


def random_case(rng: np.random.Generator, least_load: float = 0.3, most_load: float = 0.95) -> Case:
    """All designs of the three machine types, both models and workloads; pools of 1 to 60 machines, as often small as
    large; the busier pool's load uniform.

    The token pool of a split design is drawn around the size at which both pools are equally busy.
    """
    prompt_machine, token_machine = DESIGNS[int(rng.integers(len(DESIGNS)))]
    model, workload = str(rng.choice(["bloom-176b", "llama2-70b"])), str(rng.choice(["coding", "conversation"]))
    prompts = int(np.exp(rng.uniform(0.0, np.log(60.99))))
    case = Case(model, workload, prompt_machine, token_machine, prompts, 1, 1.0)
    if token_machine is not None:
        prompt_load, token_load = case.analytic().loads
        balanced = token_load / prompt_load  # token machines as busy as the prompt pool
        tokens = int(np.clip(np.rint(balanced * np.exp(rng.uniform(-0.7, 0.7))), 1, 60))
        case = replace(case, tokens=tokens)
    return at_load(case, float(rng.uniform(least_load, most_load)))

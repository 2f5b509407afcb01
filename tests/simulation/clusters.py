"""Clusters and requests for the simulator's tests: shipped replicas, replicas with made-up curves, small sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from provisioner.options.defaults import SPLITTING
from provisioner.perf.assumptions import Reference, ReplicaPerf, reference, replica
from provisioner.perf.curves import Assumptions, MixedIteration
from provisioner.simulation.cluster import Cluster, Outage, Pool
from provisioner.simulation.measure import student_t
from provisioner.simulation.policy import Policy
from provisioner.simulation.requests import RequestSet
from provisioner.simulation.run import Prepared, Run, prepare, run
from provisioner.specs import catalog
from provisioner.specs.hardware import Machine
from provisioner.specs.model import ModelArchitecture

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Rows = Sequence[tuple[float, int, int]]


@dataclass(frozen=True, eq=False)
class Degenerate:
    """A replica with made-up curves: prompt time by tokens, decode time by (batch, context), in s."""

    prompt: Callable[[Floats], Floats]
    decode: Callable[[Floats, Floats], Floats] = lambda batch, context: 1e-3 + 0.0 * batch * context
    kv_capacity_tokens: float = 1e12
    kv_bytes_per_token: float = 0.0
    link_bytes_per_s: float = 1e9
    replicas_per_machine: int = 1
    machine: Machine = field(default_factory=lambda: catalog.machine("dgx-h100"))
    model: ModelArchitecture = field(default_factory=lambda: catalog.model("llama2-70b"))
    assumptions: Assumptions = "measured"
    sources: tuple[str, ...] = ()
    mixed: MixedIteration = field(default_factory=MixedIteration)

    @property
    def tensor_parallel(self) -> int:
        """A replica on all GPUs of the machine, or on its share of them."""
        return self.machine.gpus // self.replicas_per_machine

    @property
    def link_share_bytes_per_s(self) -> float:
        """A replica's part of its machine's link."""
        return self.link_bytes_per_s * self.tensor_parallel / self.machine.gpus

    def prompt_s(self, tokens: ArrayLike) -> Floats:
        """Time of a prompt iteration."""
        return self.prompt(np.asarray(tokens, dtype=np.float64))

    def decode_s(self, batch: ArrayLike, context_tokens: ArrayLike) -> Floats:
        """Time of a decode iteration."""
        return self.decode(np.asarray(batch, dtype=np.float64), np.asarray(context_tokens, dtype=np.float64))


@lru_cache
def shipped(model: str, machine: str, assumptions: Assumptions = "measured", tp: int | None = None) -> ReplicaPerf:
    """A replica as shipped, the same object each time."""
    return replica(model, machine, tp, assumptions)


@lru_cache
def alone(model: str, assumptions: Assumptions = "measured") -> Reference:
    """The reference of slowdowns."""
    return reference(model, assumptions)


def request_set(rows: Rows, **fields: Any) -> RequestSet:
    """Requests (arrival_s, prompt tokens, output tokens)."""
    arrival, prompt, output = zip(*rows, strict=True)
    return RequestSet(np.array(arrival, float), np.array(prompt), np.array(output), rate_rps=1.0, **fields)


def ready(requests: RequestSet | Rows, reference: Reference | None = None) -> Prepared:
    """Requests made ready for runs."""
    if not isinstance(requests, RequestSet):
        requests = request_set(requests)
    return prepare(requests, reference or alone("llama2-70b"))


def cluster(
    policy: str | Policy, first: Any, machines: int = 1, second: Any = None, others: int = 1, *outages: Outage
) -> Cluster:
    """Prompt and token machines (``second`` None: of the same type), or mixed ones, as the policy needs."""
    if isinstance(policy, str):
        policy = Policy(policy)  # type: ignore[arg-type]
    if policy.name not in SPLITTING:
        return Cluster((Pool("mixed", first, machines),), policy, outages)
    return Cluster((Pool("prompt", first, machines), Pool("token", second or first, others)), policy, outages)


def serve(which: Cluster, requests: Prepared | RequestSet | Rows, **options: Any) -> Run:
    """A run, of requests made ready or not."""
    return run(which, requests if isinstance(requests, Prepared) else ready(requests), **options)


def ttft_s(done: Run) -> Floats:
    """Times to first token of all requests, measured or not."""
    return np.asarray(done.requests["first_s"] - done.requests["arrival_s"])


def e2e_s(done: Run) -> Floats:
    """Times to last token of all requests, measured or not."""
    return np.asarray(done.requests["last_s"] - done.requests["arrival_s"])


def confidence_interval(values: ArrayLike, confidence: float = 0.999) -> tuple[float, float]:
    """Student's t interval of a mean over independent sets."""
    array = np.asarray(values, dtype=np.float64)
    half = student_t(0.5 + confidence / 2, array.size - 1) * array.std(ddof=1) / np.sqrt(array.size)
    return float(array.mean() - half), float(array.mean() + half)


def assert_mean(values: ArrayLike, expected: float, slack: float = 0.0, narrow: float = 0.1) -> None:
    """Assert that the interval holds the theory's value (within its own error), and is narrow enough."""
    low, high = confidence_interval(values)
    assert low - slack <= expected <= high + slack, (low, expected, high)
    assert high - low <= 2 * narrow * expected + slack, (low, expected, high)

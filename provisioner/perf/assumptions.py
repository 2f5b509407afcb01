"""Performance of one replica, for queueing and planning: times, memory and transfer under a named set of assumptions.

``measured`` is the default, ``splitwise-sim`` the published simulator's whole set, for reproducing published results.
"""

from dataclasses import dataclass, fields, replace
from typing import Final, get_args

import numpy as np
from numpy.typing import ArrayLike

from provisioner.errors import InputError, UnknownNameError
from provisioner.options.defaults import EVIDENCE
from provisioner.perf import evidence, memory, transfer
from provisioner.perf.checks import Floats
from provisioner.perf.curves import Assumptions, CurveSet, MixedIteration, curve_groups, load_curve_set, no_curves
from provisioner.specs import catalog
from provisioner.specs.engine import DEFAULT_ENGINE, Batch, Engine
from provisioner.specs.hardware import Machine
from provisioner.specs.model import ModelArchitecture

REFERENCE_MACHINE: Final = "dgx-a100"
REFERENCE_TENSOR_PARALLEL: Final = 8


@dataclass(frozen=True, slots=True, eq=False)
class ReplicaPerf:
    """One replica of a model on ``tensor_parallel`` GPUs of a machine, without a queue, as measured: the default.

    All times in s, all arrays broadcast. ``kv_bytes_per_token`` is the KV cache of one token, ``kv_capacity_tokens``
    the tokens of KV cache that the replica holds; ``engine`` serves it. The factors are a what-if on the times of the
    curve and on the link.

    >>> h = replica("llama2-70b", "dgx-h100")
    >>> h.tensor_parallel, round(1e3 * float(h.decode_s(64, 64 * 576)), 1)
    (8, 50.2)
    """

    machine: Machine
    model: ModelArchitecture
    tensor_parallel: int
    curve: CurveSet
    kv_bytes_per_token: float
    kv_capacity_tokens: float
    engine: Engine
    prompt_factor: float = 1.0
    decode_factor: float = 1.0
    link_factor: float = 1.0

    @property
    def assumptions(self) -> Assumptions:
        """The named set of assumptions."""
        return self.curve.assumptions

    @property
    def batch(self) -> Batch:
        """Tokens of an iteration and requests of a batch by default."""
        return self.engine.batch(self.machine)

    @property
    def behaviour(self) -> tuple[object, ...]:
        """Everything that a replica's service of requests depends on, but for its link: equal on machines alike."""
        names = (field.name for field in fields(self) if field.name != "machine")
        values = ((name, getattr(self, name)) for name in names)
        return tuple(value.times if name == "curve" else value for name, value in values)

    @property
    def link_share_bytes_per_s(self) -> float:
        """Bandwidth of the replica's share of its machine's link in bytes/s: one port per GPU."""
        return self.link_bytes_per_s * self.tensor_parallel / self.machine.gpus

    @property
    def mixed(self) -> MixedIteration:
        """Rule for the time of an iteration that carries both phases: the curve's, scaled like the decode times."""
        return self.curve.mixed.with_decode(self.decode_factor)

    @property
    def replicas_per_machine(self) -> int:
        """Replicas that one machine runs: GPUs // tensor parallelism."""
        return self.machine.gpus // self.tensor_parallel

    @property
    def link_bytes_per_s(self) -> float:
        """Bandwidth of the whole machine's link in bytes/s: all its InfiniBand ports."""
        return self.link_factor * self.machine.network_bytes_per_s

    def prompt_s(self, tokens: ArrayLike) -> Floats:
        """Time of one prompt iteration over ``tokens``: several prompts up to 2,048 tokens, one beyond."""
        return self.prompt_factor * self.curve.prompt_s(tokens)

    def decode_s(self, batch: ArrayLike, context_tokens: ArrayLike) -> Floats:
        """Time of one decode iteration of ``batch`` sequences that hold ``context_tokens`` in total."""
        return self.decode_factor * self.curve.decode_s(batch, context_tokens)

    def mixed_s(self, prompt_tokens: ArrayLike, batch: ArrayLike, context_tokens: ArrayLike) -> Floats:
        """Time of one iteration over ``prompt_tokens`` and a decode batch together.

        1.1 x prompt time of (prompt tokens + batch) as in the paper, or the sum that derived curves have; at least
        the decode time of the batch alone, which the iteration contains.
        """
        decode_s = self.decode_s(batch, context_tokens)
        return np.maximum(self._by_rule_s(prompt_tokens, batch, context_tokens), decode_s)

    def _by_rule_s(self, prompt_tokens: ArrayLike, batch: ArrayLike, context_tokens: ArrayLike) -> Floats:
        tokens = np.asarray(prompt_tokens, dtype=np.float64) + np.asarray(batch, dtype=np.float64)
        return self.mixed.s(self.prompt_s(tokens), batch, context_tokens)

    def transfer_visible_s(self, prompt_tokens: ArrayLike, destination: "ReplicaPerf") -> Floats:
        """Time that the second token waits for the KV cache to reach ``destination``.

        ``transfer.visible_s`` with the time of the prompt running alone. The slower of the two replicas' shares
        of their machines' links counts.
        """
        tokens = np.asarray(prompt_tokens, dtype=np.float64)
        shares = (r.link_share_bytes_per_s for r in (self, destination))
        return transfer.visible_s(
            tokens * self.kv_bytes_per_token,
            self.prompt_s(tokens),
            layers=self.model.layers,
            link_bytes_per_s=min(shares),
        )


@dataclass(frozen=True, slots=True, eq=False)
class SplitwiseSimReplica(ReplicaPerf):
    """One replica by the published simulator's rules, for reproducing its results.

    >>> s = replica("bloom-176b", "dgx-a100", assumptions="splitwise-sim")
    >>> round(1e3 * float(s.decode_s(64, 64 * 576)), 1)     # almost flat: 96.6 ms were measured
    47.6
    """

    @property
    def link_bytes_per_s(self) -> float:
        """Bandwidth of the link in bytes/s: 200 GiB/s between any two machines."""
        return self.link_factor * transfer.SIMULATOR_LINK_BYTES_PER_S

    def mixed_s(self, prompt_tokens: ArrayLike, batch: ArrayLike, context_tokens: ArrayLike) -> Floats:
        """Time of one mixed iteration: 1.1 x prompt curve at (prompt tokens + batch)."""
        return self._by_rule_s(prompt_tokens, batch, context_tokens)

    def transfer_visible_s(self, prompt_tokens: ArrayLike, destination: ReplicaPerf) -> Floats:
        """Time of the transfer, all of it visible: KV bytes / 200 GiB/s."""
        tokens = np.asarray(prompt_tokens, dtype=np.float64)
        return transfer.serialized_s(tokens * self.kv_bytes_per_token, self.link_bytes_per_s)


def replica(
    model: str | ModelArchitecture,
    machine: str | Machine,
    tensor_parallel: int | None = None,
    assumptions: Assumptions = "measured",
    own: catalog.Catalog | None = None,
    batch_tokens: int | None = None,
    engine: Engine | None = None,
    context_tokens: int | None = None,
) -> ReplicaPerf:
    """One replica of a model on a machine; without ``tensor_parallel``, the largest with the best kind of curve.

    ``own`` has more specs and curves; memory is kept for ``batch_tokens``, those of the ``engine`` unless given, and
    has to hold a request of ``context_tokens``, the model's full context unless given; the engine is the default one
    unless given. Raises ``ModelDoesNotFitError`` with the
    numbers, ``UnknownNameError``, or ``InputError`` with the machines that have curves if this one has none.
    """
    if assumptions not in get_args(Assumptions):
        raise UnknownNameError("set of assumptions", assumptions, get_args(Assumptions))
    measured = assumptions == "measured"
    known = catalog.with_own(None) if own is None else own
    architecture = known.model(model) if isinstance(model, str) else model
    hardware = known.machine(machine) if isinstance(machine, str) else machine
    if measured:
        degrees = evidence.degrees_of(architecture, hardware, own)
    else:
        of_machine = (group for group in curve_groups() if group[:2] == (architecture.name, hardware.name))
        degrees = {degree: "measured" for *_, degree in of_machine}
    best = min((EVIDENCE.index(kind) for kind in degrees.values()), default=0)
    largest = (tp for tp, kind in degrees.items() if EVIDENCE.index(kind) == best and tp <= hardware.gpus)
    gpus = tensor_parallel or max(largest, default=hardware.gpus)
    engine = engine or catalog.engine(DEFAULT_ENGINE)
    room = batch_tokens, engine, context_tokens
    capacity = memory.kv_capacity_tokens(architecture, hardware, gpus, assumptions, *room)
    if not degrees:
        why = evidence.why_not_derived(architecture, hardware) if measured else ""
        raise InputError(why or no_curves(architecture.name, hardware.name, own))
    asked = architecture, hardware, gpus
    curve = evidence.curves(*asked, own, engine) if measured else load_curve_set(*asked, assumptions)
    kv_bytes = memory.kv_bytes_per_token(architecture, assumptions)
    made = ReplicaPerf if measured else SplitwiseSimReplica
    return made(hardware, architecture, gpus, curve, kv_bytes, capacity, engine)


def scaled(perf: ReplicaPerf, *, prompt_time: float = 1.0, decode_time: float = 1.0, link: float = 1.0) -> ReplicaPerf:
    """A replica with its prompt times, decode times and link bandwidth multiplied: a what-if, not a measurement."""
    return replace(
        perf,
        prompt_factor=perf.prompt_factor * prompt_time,
        decode_factor=perf.decode_factor * decode_time,
        link_factor=perf.link_factor * link,
    )


def with_batch_tokens(perf: ReplicaPerf, batch_tokens: int | None) -> ReplicaPerf:
    """A replica with the KV memory that is left beside the activations of a token budget; below 1 if there is none."""
    where = perf.model, perf.machine, perf.tensor_parallel, perf.assumptions
    left_bytes = memory.memory_bytes(*where, batch_tokens, perf.engine)["KV cache"]
    return replace(perf, kv_capacity_tokens=left_bytes / perf.kv_bytes_per_token)


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """A request alone on the reference machine, the denominator of its slowdown; all times in s.

    >>> r = reference("llama2-70b")
    >>> r.replica.machine.name, round(1e3 * float(r.ttft_s(256)), 1)
    ('dgx-a100', 66.8)
    """

    replica: ReplicaPerf

    def __str__(self) -> str:
        return f"{self.replica.machine.name} at TP {self.replica.tensor_parallel}"

    def ttft_s(self, prompt_tokens: ArrayLike) -> Floats:
        """TTFT of the request alone: its prompt time; any shape."""
        return self.replica.prompt_s(prompt_tokens)

    def tbt_s(self, prompt_tokens: ArrayLike, output_tokens: ArrayLike) -> Floats:
        """Mean gap between tokens of the request alone: decode at its mean context, prompt + output / 2; broadcast.

        The published simulator reads the token curve at the prompt's tokens, whatever the output.
        """
        prompt = np.asarray(prompt_tokens, dtype=np.float64)
        output = np.asarray(output_tokens, dtype=np.float64)
        if self.replica.assumptions == "measured":
            return self.replica.decode_s(1, prompt + output / 2)
        shape = np.broadcast_shapes(prompt.shape, output.shape)
        return np.broadcast_to(self.replica.decode_s(prompt, 0), shape)

    def e2e_s(self, prompt_tokens: ArrayLike, output_tokens: ArrayLike) -> Floats:
        """E2E of the request alone: TTFT + (output - 1) x TBT; broadcast."""
        gaps = np.asarray(output_tokens, dtype=np.float64) - 1
        return self.ttft_s(prompt_tokens) + gaps * self.tbt_s(prompt_tokens, output_tokens)


def reference(
    model: str | ModelArchitecture,
    assumptions: Assumptions = "measured",
    own: catalog.Catalog | None = None,
    machine: str = REFERENCE_MACHINE,
    tensor_parallel: int | None = REFERENCE_TENSOR_PARALLEL,
) -> Reference:
    """The reference of slowdowns: the model alone on a machine, a DGX-A100 at TP 8 unless another is named."""
    return Reference(replica(model, machine, tensor_parallel, assumptions, own))


def tbt_divisor(output_tokens: ArrayLike, assumptions: Assumptions) -> Floats:
    """Divisor of a request's time after its first token that gives its TBT: its gaps, or all outputs as published."""
    output = np.asarray(output_tokens, dtype=np.float64)
    return output - 1 if assumptions == "measured" else output


def slo_strict(assumptions: Assumptions) -> bool:
    """Whether a limit is met only strictly below it (the published simulator), not at equality too."""
    return assumptions == "splitwise-sim"

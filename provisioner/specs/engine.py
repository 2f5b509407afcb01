"""Serving engines: their schedule, their time on host and GPU beside the kernels, their memory, and their handover."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, Self, get_args

from provisioner.errors import InputError, UnknownNameError
from provisioner.specs.hardware import Machine
from provisioner.specs.kernels import Preference, Take
from provisioner.specs.units import parse_duration, parse_number, parse_positive, parse_whole, quoted, unit_of

DEFAULT_ENGINE: Final = "vllm"
"""The engine of every question that names none."""

BY_HAND: Final = "given by hand"
"""The basis of a number that a question changes."""

Order = Literal["decode-first", "prompt-first"]
Admission = Literal["recompute", "reserve", "estimate"]
Role = Literal["prompt", "token"]
SETTINGS: Final = ("tensor_parallel", "batch_tokens", "batch_requests", "share", "context_tokens")  # that have flags

_RANGES: Final = {
    "from_gib": (0, 4096),
    "batch_tokens": (1, 1_000_000),
    "batch_requests": (1, 100_000),
    "iteration_s": (0, 0.1),
    "sequence_s": (0, 0.01),
    "prompt_layer_s": (0, 0.01),
    "graph_tokens": (0, 1_000_000),
    "elementwise_share": (0, 1),
    "above_hidden_size": (0, 1_000_000),
    "share": (0.1, 1),
    "driver_gib": (0, 10),
    "context_gib": (0, 10),
    "collectives_gib": (0, 20),
    "pcie_collectives_gib": (0, 20),
    "graphs_gib_per_layer": (0, 1),
    "workspace_gib": (0, 50),
    "bytes_per_logit": (0, 64),
    "sampled": (1, 100_000),
    "sampled_on_large_cards": (1, 100_000),
    "large_card_gib": (1, 4096),
    "handover_s": (0, 10),
    "first_share": (0, 1),
    "least_share": (0, 1),
    "decay_iterations": (1, 1_000_000),
    "clip_tokens": (1, 10_000_000),
    "retract_tokens": (0, 100_000),
    "reserved_tokens": (0, 1_000_000),
}
"""Plausible range of each number, by its name in every part of an engine."""


_PARTS: Final = ("scheduling", "estimate", "execution", "memory", "handover")
_BY_CARD: Final = ("batch_tokens", "batch_requests")  # numbers of a batch


class _Part:
    """A part of an engine, whose numbers are in their ranges and whose words are known."""

    __slots__ = ()

    def __post_init__(self) -> None:
        for each in dataclasses.fields(self):  # type: ignore[arg-type]
            value, words = getattr(self, each.name), get_args(each.type)
            if words and isinstance(value, str) and value not in words:
                raise InputError(f"{each.name}: must be {' or '.join(words)}, got {quoted(value)}")
            if each.name in _RANGES:
                low, high = _RANGES[each.name]
                if not low <= parse_number(value, each.name, unit_of(each.name)) <= high:
                    unit = f" {unit_of(each.name)}".rstrip()
                    raise InputError(f"{each.name}: must be from {low:g} to {high:,.12g}{unit}, got {value:g}")


@dataclass(frozen=True, slots=True)
class Batch(_Part):
    """Most tokens of an iteration and most requests of a batch, by default on cards of ``from_gib`` of memory or more.

    With ``gpus``, only on those whose name has one of these words, whatever their memory.
    """

    from_gib: float
    batch_tokens: int
    batch_requests: int
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Scheduling(_Part):
    """The schedule of one replica.

    ``order``: in each iteration the sequences that decode come first, or waiting prompts do, without them.
    ``admission``: a request joins when its prompt finds room, and the last to join is evicted and computed again if
    tokens find none; or the prompt and the most output are reserved; or room is kept for an ``Estimate`` of the output.
    ``batches`` are the defaults by card.
    """

    order: Order
    admission: Admission
    batches: tuple[Batch, ...]

    def __post_init__(self) -> None:
        _Part.__post_init__(self)
        from_gib = [batch.from_gib for batch in self.batches if not batch.gpus]
        if not from_gib or from_gib[0] != 0 or from_gib != sorted(set(from_gib)):
            raise InputError(f"batches: must rise from from_gib 0, got {from_gib}")

    def batch(self, gpu: str, card_gib: float) -> Batch:
        """The default on a GPU of that name and memory."""
        named = [batch for batch in self.batches if any(word in gpu for word in batch.gpus)]
        return (named or [batch for batch in self.batches if not batch.gpus and batch.from_gib <= card_gib])[-1]


@dataclass(frozen=True, slots=True)
class Estimate(_Part):
    """Room that admission by estimate keeps for output, as SGLang does.

    A request joins a replica that computes prompts if its tokens and its most output find room beside a share of what
    every running request may still generate; each most output counts ``clip_tokens`` at most. The share begins at
    ``first_share``, when the replica has been idle, and falls to ``least_share`` in equal steps over
    ``decay_iterations`` that decode. Where memory runs out, the request with the fewest tokens generated is evicted
    until the rest fit; of them the share is then that of their most output that they have after ``retract_tokens``
    more each. Token replicas keep ``reserved_tokens`` for each request instead.
    """

    first_share: float
    least_share: float
    decay_iterations: int
    clip_tokens: int
    retract_tokens: int
    reserved_tokens: int

    def __post_init__(self) -> None:
        _Part.__post_init__(self)
        if self.least_share > self.first_share:
            raise InputError(
                f"least_share: must be at most first_share ({self.first_share:g}), got {self.least_share:g}"
            )

    @property
    def decay(self) -> float:
        """Fall of the share with an iteration."""
        return (self.first_share - self.least_share) / self.decay_iterations


@dataclass(frozen=True, slots=True)
class FusedNorms(_Part):
    """Models and GPUs on which the norms of a layer are computed by the sums over GPUs before them.

    With ``models`` or ``gpus``, those whose name has one of these words; of a hidden size ``above_hidden_size``.
    """

    gpus: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    above_hidden_size: int = 0

    def fits(self, model: str, hidden_size: int, gpu: str) -> bool:
        """Whether a model on a GPU is one of them.

        >>> FusedNorms(models=("llama",), above_hidden_size=4096).fits("llama-3.1-8b", 4096, "h100-sxm-80gb")
        False
        """
        named = ((self.models, model), (self.gpus, gpu))
        return hidden_size > self.above_hidden_size and all(
            not words or any(word.lower() in name.lower() for word in words) for words, name in named
        )


@dataclass(frozen=True, slots=True)
class Execution(_Part):
    """Time of an iteration beside its kernels, in s: of every iteration, and of each sequence.

    Iterations up to ``graph_tokens`` replay CUDA graphs; ``prompt_layer_s`` is the least time of a layer in an
    iteration with prompts beyond, whose kernels the host launches one by one. ``elementwise_share`` is the part of the
    time of norms, rotations and activations that is left where they are fused with other kernels. In CUDA graphs over
    several GPUs with NVLink, the norms of what fits an entry of ``fused_norms`` take no time of their own.
    """

    iteration_s: float = 0.0
    sequence_s: float = 0.0
    prompt_layer_s: float = 0.0
    graph_tokens: int = 512
    elementwise_share: float = 1.0
    fused_norms: tuple[FusedNorms, ...] = ()

    def launch(self, tokens: float) -> Literal["graph", "eager"]:
        """Launch of an iteration's kernels: together as a CUDA graph, or one by one."""
        return "graph" if tokens <= self.graph_tokens else "eager"

    def fuses_norms(self, model: str, hidden_size: int, gpu: str) -> bool:
        """Whether sums over several GPUs compute the norms of a model on a GPU."""
        return any(entry.fits(model, hidden_size, gpu) for entry in self.fused_norms)


@dataclass(frozen=True, slots=True)
class EngineMemory(_Part):
    """Memory of a GPU that an engine gives neither to weights nor to KV cache.

    ``share`` of the memory is used at most. ``driver_gib`` are not reported by CUDA, ``collectives_gib`` are for sums
    over several GPUs, ``workspace_gib`` for activations that no shape explains. Memory is kept for sampling ``sampled``
    sequences at once, ``sampled_on_large_cards`` from ``large_card_gib`` on. Sources, ranges and errors:
    docs/explanation/memory.md.
    """

    share: float
    driver_gib: float
    context_gib: float
    collectives_gib: float
    pcie_collectives_gib: float
    graphs_gib_per_layer: float
    workspace_gib: float
    bytes_per_logit: float
    sampled: int
    sampled_on_large_cards: int
    large_card_gib: float

    def sequences(self, card_gib: float) -> int:
        """Sequences for whose sampling a card keeps memory."""
        return self.sampled_on_large_cards if card_gib >= self.large_card_gib else self.sampled


@dataclass(frozen=True, slots=True)
class Handover(_Part):
    """Handover from a prompt to a token replica: what sends the KV cache, who emits the first token, time beside."""

    connector: str
    first_token: Role
    handover_s: float


@dataclass(frozen=True, slots=True)
class KernelTables:
    """Kernel tables in the order in which they are taken, as ENGINE or ENGINE-VERSION; of an operator and a GPU.

    Without ``operator`` or ``gpu``, of all; ``any`` stands for the newest of any software.
    """

    tables: tuple[str, ...]
    operator: str = ""
    gpu: str = ""

    def __post_init__(self) -> None:
        self.take.check()

    @property
    def take(self) -> Take:
        """The entry as it is taken; a table without a version is the newest.

        >>> KernelTables(("vllm-0.24.0", "tensorrt-llm"), "gemm").take
        Take(sources=(('vllm', '0.24.0'), ('tensorrt-llm', None)), operator='gemm', gpu='')
        """
        split = ((table, *table.rpartition("-")) for table in self.tables)
        order = ((of, version) if of and version[0].isdigit() else (table, None) for table, of, _, version in split)
        return Take(tuple(order), self.operator, self.gpu)


def _value(name: str, text: str, kind: type) -> str | int | float:
    """Value of a number or word from its text; a time may have its unit."""
    if kind is str:
        return text
    if kind is int:
        return parse_whole(text, name, minimum=0)
    timed = unit_of(name) == "s" and text[-1:].isalpha()
    return parse_duration(text, name) if timed else parse_number(text, name, unit_of(name))


@dataclass(frozen=True, slots=True)
class ServedError:
    """Mean absolute errors, as fractions, of TTFT and TPOT against runs that were served on a GPU in a number type.

    The runs are such that no constant of the engine was fitted to, if there are any.
    """

    gpu: str
    dtype: str
    runs: int
    prompt: float
    decode: float

    def __post_init__(self) -> None:
        for name in ("runs", "prompt", "decode"):
            parse_positive(getattr(self, name), name)


@dataclass(frozen=True, slots=True)
class Engine:
    """A serving engine of a version: parts of numbers, each with its ``basis``: a source, or a fit with its error.

    Of ``kernels``, the first entry that fits an operator on a GPU counts. ``errors`` are those of derived curves; an
    engine that states none has those of docs/explanation/validation.md for all GPUs. ``flags`` are the options of its
    command by the setting that they make. Engines whose admission is by estimate have an ``estimate``.

    >>> from provisioner.specs.catalog import engine
    >>> engine("provisioner-0.1,batch_tokens=4096").scheduling.batch("L4", 24.0).batch_tokens
    4096
    """

    name: str
    title: str
    scheduling: Scheduling
    execution: Execution
    memory: EngineMemory
    handover: Handover
    kernels: tuple[KernelTables, ...]
    basis: Mapping[str, str] = field(hash=False)
    errors: tuple[ServedError, ...] = ()
    sources: tuple[str, ...] = ()
    note: str = ""
    flags: Mapping[str, str] | None = field(default=None, hash=False)
    estimate: Estimate | None = None

    def __post_init__(self) -> None:
        if self.scheduling.admission == "estimate" and self.estimate is None:
            raise InputError(
                f"engine {self.name}: admission: estimate needs the numbers of an estimate, which the engine has not: "
                "take another engine, such as sglang"
            )
        for name, flag in (self.flags or {}).items():
            if name not in SETTINGS:
                raise InputError(f"engine {self.name}: flags: {UnknownNameError('setting', name, SETTINGS)}")
            if len(flag.split()) != 1:  # reports take arguments apart at spaces: a flag, a value
                raise InputError(f"engine {self.name}: flags: {name}: must be one word, got {quoted(flag)}")
        known = [name for name, _, _ in self.numbers()]
        for name in known:
            if name not in self.basis:
                raise InputError(f"engine {self.name}: basis: has no source of {name}")
        for name in self.basis:
            if name not in known:
                raise InputError(f"engine {self.name}: basis: {UnknownNameError('number', name, known)}")

    def numbers(self) -> Iterator[tuple[str, str, Any]]:
        """Yield (name, part, value) of every number and word of the parts; of what differs by card, all values.

        An engine that fuses no norms has no number of that name.
        """
        for part, numbers in ((part, getattr(self, part)) for part in _PARTS if getattr(self, part) is not None):
            for each in dataclasses.fields(numbers):
                value = getattr(numbers, each.name)
                if each.name == "batches":
                    yield from ((name, part, tuple(getattr(batch, name) for batch in value)) for name in _BY_CARD)
                elif value != ():
                    yield each.name, part, value

    def with_values(self, changes: Mapping[str, str]) -> Self:
        """The engine with other numbers, from their texts, which its name shows; ``InputError`` for a wrong one."""
        parts = {name: (part, value) for name, part, value in self.numbers()}
        engine = self
        for name, text in changes.items():
            if name not in parts:
                raise UnknownNameError("number of an engine", name, parts)
            part, old = parts[name]
            if name == "fused_norms":
                raise InputError(f"{name}: must be given in a file of an own engine, not by hand")
            kind = type(old[0] if name in _BY_CARD else old)
            value = _value(name, text, kind)
            one: Any = getattr(engine, part)
            changed: dict[str, Any] = {name: value}
            if name in _BY_CARD:
                changed = {"batches": tuple(replace(batch, **changed) for batch in one.batches)}
            engine = replace(engine, **{part: replace(one, **changed)})
        basis = {**self.basis, **dict.fromkeys(changes, BY_HAND)}
        name = ",".join((self.name, *(f"{name}={text}" for name, text in changes.items())))
        return replace(engine, name=name, basis=basis)

    def arguments(self, **settings: float) -> str:
        """The arguments of its command that make these settings, of those that it has flags for.

        >>> from provisioner.specs.catalog import engine
        >>> engine("vllm").arguments(tensor_parallel=2, batch_tokens=4096, batch_requests=1024)
        '--tensor-parallel-size 2 --max-num-batched-tokens 4096 --max-num-seqs 1024'
        """
        flags = self.flags or {}
        return " ".join(f"{flags[name]} {value:.12g}" for name, value in settings.items() if name in flags)

    def batch(self, machine: Machine) -> Batch:
        """Tokens of an iteration and requests of a batch by default on a machine's GPUs."""
        return self.scheduling.batch(machine.gpu, machine.memory_gib_per_gpu)

    @property
    def preference(self) -> Preference:
        """Choice of kernel tables."""
        return tuple(entry.take for entry in self.kernels)

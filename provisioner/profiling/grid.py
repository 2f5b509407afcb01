"""Iterations to time for a curve."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from provisioner.errors import InputError
from provisioner.options import ProfileOptions, declared
from provisioner.perf.points import Phase
from provisioner.specs.units import parse_whole

_DEFAULT = {name: each.default for name, each in declared(ProfileOptions).items()}


@dataclass(frozen=True, slots=True)
class Work:
    """One iteration: ``batch`` prompts of ``tokens`` each, or a token for each of ``batch`` sequences.

    A decoding sequence attends to ``tokens`` tokens, its new token included.
    """

    phase: Phase
    tokens: int
    batch: int

    @property
    def label(self) -> str:
        """Text of the work: ``prompt 512 x 4``, ``decode 8 at 1024``."""
        if self.phase == "prompt":
            return f"prompt {self.tokens} x {self.batch}"
        return f"decode {self.batch} at {self.tokens}"

    @property
    def new_tokens(self) -> int:
        """Tokens that the iteration passes through the layers."""
        return self.batch * (self.tokens if self.phase == "prompt" else 1)

    @property
    def held_tokens(self) -> int:
        """Tokens of KV cache that the iteration needs room for."""
        return self.batch * self.tokens


@dataclass(frozen=True, slots=True)
class Grid:
    """Grid of the work to time.

    It has single prompts of ``prompt_tokens``, ``prompt_batches`` of prompts of ``batched_prompt_tokens``, and
    ``decode_batches`` at ``context_tokens`` per sequence, which are the axis of the decode curve. For the effect of
    the context it has ``context_batches`` at each of ``other_context_tokens``. A curve is fitted to the axis and to
    the single sequences; batches at other contexts serve for comparison.
    """

    prompt_tokens: tuple[int, ...] = _DEFAULT["prompt_tokens"]
    batched_prompt_tokens: int = _DEFAULT["batched_prompt_tokens"]
    prompt_batches: tuple[int, ...] = _DEFAULT["prompt_batches"]
    context_tokens: int = _DEFAULT["context_tokens"]
    decode_batches: tuple[int, ...] = _DEFAULT["decode_batches"]
    other_context_tokens: tuple[int, ...] = _DEFAULT["other_context_tokens"]
    context_batches: tuple[int, ...] = _DEFAULT["context_batches"]

    def __post_init__(self) -> None:
        for field in fields(self):
            value: Any = getattr(self, field.name)
            many = isinstance(value, Sequence) and not isinstance(value, str)
            unit = "tokens" if field.name.endswith("_tokens") else ""
            checked = [parse_whole(each, f"grid: {field.name}", unit) for each in (value if many else [value])]
            object.__setattr__(self, field.name, tuple(sorted(set(checked))) if many else checked[0])
        others = set(self.other_context_tokens) - {self.context_tokens}
        object.__setattr__(self, "other_context_tokens", tuple(sorted(others)))
        if len({work.new_tokens for work in self.works() if work.phase == "prompt"}) < 2:
            raise InputError("grid: prompt_tokens: must have 2 or more sizes, else there is no curve")
        batched = sum(batch > 1 for batch in self.decode_batches)
        if len(self.decode_batches) < 2:
            raise InputError("grid: decode_batches: must have 2 or more batches, else there is no curve")
        if others and sum(batch > 1 for batch in self.context_batches) >= batched:
            raise InputError(
                "grid: context_batches: must have fewer batches above 1 than decode_batches, whose context is the"
                f" curve's, got {self.context_batches} and {self.decode_batches}"
            )

    def works(self) -> tuple[Work, ...]:
        """All iterations to time, each once: prompts, then decode at rising contexts."""
        works = (
            *(Work("prompt", tokens, 1) for tokens in self.prompt_tokens),
            *(Work("prompt", self.batched_prompt_tokens, batch) for batch in self.prompt_batches),
            *(Work("decode", self.context_tokens, batch) for batch in self.decode_batches),
            *(Work("decode", tokens, batch) for tokens in self.other_context_tokens for batch in self.context_batches),
        )
        return tuple(dict.fromkeys(works))

    @property
    def longest_tokens(self) -> int:
        """The longest sequence of the grid, in tokens."""
        return max(work.tokens for work in self.works())


def curve_possible(works: Sequence[Work], context_tokens: int) -> bool:
    """Whether the work suffices for a curve: 2 prompt sizes, and 2 decode batches at one context."""
    prompts = {work.new_tokens for work in works if work.phase == "prompt"}
    decodes = {work.batch for work in works if work.phase == "decode" and work.tokens == context_tokens}
    return len(prompts) >= 2 and len(decodes) >= 2

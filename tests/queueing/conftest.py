from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import ArrayLike, NDArray

from provisioner.queueing.prompt_pool import BATCH_TOKENS, Filling, PromptPool, PromptTime, prompt_pools

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Linear:
    """A prompt curve proportional to the tokens, so that batching gains nothing."""

    s_per_token: float

    def __call__(self, tokens: ArrayLike) -> Array:
        return self.s_per_token * np.asarray(tokens, dtype=np.float64)


def exponential_tokens(mean: float, classes: int = 400) -> Array:
    """Equally likely classes at the conditional means of an exponential distribution."""
    edges = -np.log(1.0 - np.arange(classes) / classes)
    lower = np.append((edges + 1.0) * np.exp(-edges), 0.0)
    means: Array = -np.diff(lower) * classes * mean
    return means


def prompt_pool(
    prompt_s: PromptTime,
    prompt_tokens: Array,
    weight: Array,
    rate_rps: float,
    replicas: NDArray[np.int64],
    cv: float = 1.0,
    batch_tokens: int = BATCH_TOKENS,
    one_queue: bool = False,
) -> PromptPool:
    """Prompt pools of several sizes with one packing."""
    fill = Filling(prompt_tokens, weight, batch_tokens)
    return prompt_pools(fill, [(fill.packed(prompt_s), replicas)], rate_rps, cv, one_queue)[0]


@pytest.fixture
def linear() -> Callable[[float], Linear]:
    return Linear

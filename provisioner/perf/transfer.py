"""KV-cache transfer from the prompt to the token machine, for which the user's second token waits."""

from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from provisioner.perf.checks import Floats

PER_LAYER_FIXED_S: Final = 0.0062
"""Fixed cost of a per-layer transfer in s, sensible from 0.0048 to 0.0076.

Mean of 7.6 and 4.8 ms: the paper's visible 8 ms (200 Gb/s) and 5 ms (400 Gb/s per GPU) of BLOOM-176B, less the last
layer's own transfer (6.02 GB / 70 layers over 200 and 400 GB/s for 1,500 tokens).
"""

SIMULATOR_LINK_BYTES_PER_S: Final = 200 * 2.0**30
"""Link of the published simulator between any two machines, in bytes/s."""


def serialized_s(kv_bytes: ArrayLike, link_bytes_per_s: float) -> Floats:
    """Time of a transfer that starts when the prompt ends, in s: bytes / bandwidth; any shape."""
    return np.asarray(kv_bytes, dtype=np.float64) / link_bytes_per_s


def per_layer_visible_s(kv_bytes: ArrayLike, prompt_s: ArrayLike, *, layers: int, link_bytes_per_s: float) -> Floats:
    """Part of a per-layer transfer that is left when the prompt ends, in s; any shape, broadcast.

    max(bytes / layers / bandwidth, bytes / bandwidth - prompt time) + fixed: each layer's cache leaves
    while the next layers compute, so the last layer's cache remains, or all bytes that the link is behind.
    """
    all_s = serialized_s(kv_bytes, link_bytes_per_s)
    return np.maximum(all_s / layers, all_s - np.asarray(prompt_s, dtype=np.float64)) + PER_LAYER_FIXED_S


def visible_s(kv_bytes: ArrayLike, prompt_s: ArrayLike, *, layers: int, link_bytes_per_s: float) -> Floats:
    """Time that the second token waits for the KV cache, in s: the better of serialized and per layer.

    Small prompts go serialized, larger ones per layer, overlapped with the prompt's computation (Splitwise,
    section IV-C). Any shape, broadcast.

    >>> kv = np.array([100, 1500]) * 4_014_080                      # BLOOM-176B, eight links of 400 Gb/s
    >>> (1e3 * visible_s(kv, [0.05, 0.19], layers=70, link_bytes_per_s=400e9)).round(2).tolist()
    [1.0, 6.42]
    """
    per_layer_s = per_layer_visible_s(kv_bytes, prompt_s, layers=layers, link_bytes_per_s=link_bytes_per_s)
    return np.minimum(serialized_s(kv_bytes, link_bytes_per_s), per_layer_s)

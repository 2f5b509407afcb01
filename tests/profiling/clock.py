"""A clock for tests of profiles."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest

from provisioner.profiling.timing import Timing


def by_work(step: Callable[[], object], *_: object) -> Timing:
    """A clock that no other work on these cores disturbs: a second for 10^9 products of matrices and of attention."""
    functional = import_module("torch").nn.functional
    products = [0]
    linear, attend = functional.linear, functional.scaled_dot_product_attention

    def counted_linear(x: Any, weight: Any) -> Any:
        products[0] += x.numel() * weight.shape[0]
        return linear(x, weight)

    def counted_attend(queries: Any, keys: Any, values: Any, **more: Any) -> Any:
        products[0] += 2 * queries.numel() * keys.shape[2]
        return attend(queries, keys, values, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(functional, "linear", counted_linear)
        patch.setattr(functional, "scaled_dot_product_attention", counted_attend)
        step()
    return Timing(products[0] / 1e9, products[0] / 1.1e9, products[0] / 0.9e9)

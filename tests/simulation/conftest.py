"""Arrays that the compiled event loop leaves behind, for tests that look inside."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from provisioner.options.defaults import ENGINE_POLICIES
from provisioner.simulation import records
from provisioner.simulation import run as run_module


class Inside:
    """The arrays of the latest run."""

    arrays: dict[str, NDArray[Any]]

    def list_lengths(self) -> NDArray[np.int64]:
        """Lengths of every replica's lists (replicas, kinds)."""
        return np.asarray(self.arrays["lists"]["length"]).reshape(-1, records.LISTS)

    def assert_empty(self, done: run_module.Run) -> None:
        """Nothing is promised, taken, waiting or running any more."""
        for field in ("pending_tokens", "scheduled_tokens", "used_tokens", "behind"):
            assert not done.replicas[field].any(), (field, done.replicas[field])
        if done.cluster.policy.name not in ENGINE_POLICIES:
            assert not done.replicas["context_tokens"].any()
        assert not self.list_lengths().any()
        for counter in ("heap_size", "moving", "in_system", "held"):
            assert int(done.clock[counter]) == 0, counter
        assert int(done.clock["done"]) == done.requests.size


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> Inside:
    """Keeps the arrays of each run."""
    seen, make = Inside(), run_module._world

    def keep(*arguments: Any) -> Any:
        arrays, world = make(*arguments)
        seen.arrays = arrays
        return arrays, world

    monkeypatch.setattr(run_module, "_world", keep)
    return seen

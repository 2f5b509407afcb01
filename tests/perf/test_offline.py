"""Published offline throughput that nothing was fitted to: sums over PCIe, and what estimates on MI300X are worth."""

from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import pytest

from provisioner.perf.operators import load_operators
from provisioner.specs import catalog
from tests.oracles.offline import mlperf_ratio, trtllm_ratios


@pytest.fixture
def served(shared_data: Path) -> Path:
    folder = shared_data / "serving-measurements"
    if not folder.is_dir():
        pytest.skip(f"{folder.name} is not on this machine")
    return folder


def test_four_l40s_reach_what_nvidia_published(served: Path) -> None:
    """At TP 4 as well as at TP 1, where there are no sums."""
    one, four = (list(trtllm_ratios(served / "trtllm_offline.csv", degree)) for degree in (1, 4))
    assert len(one) == len(four) == 9
    assert 0.85 < median(one) < 1.0 and min(four) > 0.85 and max(four) < 1.1


def test_an_mi300x_is_slower_than_estimated_as_its_machine_says(served: Path) -> None:
    ratios = {name: mlperf_ratio(served / "mlperf_llama2_70b_offline.csv", name) for name in ("dgx-h100", "dgx-h200")}
    amd = mlperf_ratio(served / "mlperf_llama2_70b_offline.csv", "mi300x-x8")
    assert min(ratios.values()) > 0.8 and max(ratios.values()) < 0.88
    assert 1.33 < amd < 1.37  # 0.74 of the estimate
    assert 1.53 < amd / ratios["dgx-h200"] < 1.57
    assert "1.4 to 1.6 times as long" in catalog.machine("mi300x-x8").estimate_note


def test_sums_over_pcie_are_a_ring_at_the_rate_of_two_gpus(shared_data: Path) -> None:
    found = load_operators("l40s-48gb")
    gpus, size = (x.ravel() for x in np.meshgrid([2, 4, 8], 4.0 ** np.arange(5, 15)))
    ring_s = 2 * (gpus - 1) * (3e-6 + size / gpus / 20e9)
    for launch in ("graph", "eager"):
        assert found.sources["all_reduce", launch] == ("pcie-ring", "4.0")
        np.testing.assert_allclose(found.all_reduce_s(gpus, size, launch), ring_s, rtol=2e-2)  # type: ignore[arg-type]
    for path in (
        "aic-kernels/l40s__custom_allreduce__vllm-0.14.0.parquet",
        "dense-kernels-2026/l40s__custom_allreduce__sglang-0.5.14.parquet",
        "dense-kernels-2026/l40s__custom_allreduce__trtllm-1.3.0rc20.parquet",
    ):
        if not (shared_data / path).is_file():
            pytest.skip(f"{path} is not on this machine")
        rows = pd.read_parquet(shared_data / path).query("num_gpus == 2 and message_size >= 2**23")
        rate = 2 * rows.message_size / rows.latency * 1e3
        assert rate.min() > 17e9 and rate.max() < 20.5e9

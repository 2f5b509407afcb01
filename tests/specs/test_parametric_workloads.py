"""The workloads of published numbers, against a second computation: integrals instead of points."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import lognorm, norm

from provisioner.specs import catalog
from provisioner.specs.shipped import data_folder

PARAMETRIC = ("summarisation", "rag", "agents")
Z90 = norm.ppf(0.9)


@pytest.fixture(scope="module")
def script(repo_root: Path) -> ModuleType:
    path = repo_root / "workloads" / "parametric_workloads.py"
    spec = importlib.util.spec_from_file_location("parametric_workloads", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", PARAMETRIC)
def test_computing_again_gives_the_shipped_files_byte_for_byte(name: str, script: ModuleType, tmp_path: Path) -> None:
    assert script.main(["--name", name, "--out", str(tmp_path)]) == 0
    shipped = data_folder("workloads")
    assert {path.name for path in tmp_path.iterdir()} == {f"{name}.yaml", f"{name}.csv"}
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (shipped / path.name).read_bytes()


def test_a_missing_folder_is_one_line(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert script.main(["--out", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.endswith("none: must be a folder that exists\n")


@pytest.mark.parametrize("name", PARAMETRIC)
def test_nothing_measured_is_claimed(name: str) -> None:
    workload = catalog.workload(name)
    assert workload.arrivals is None and workload.cv == 1.0
    assert "Parametric" in workload.note and "not a measurement" in workload.note
    assert workload.sources


@pytest.mark.parametrize("name", PARAMETRIC)
def test_the_bins_keep_the_means_and_percentiles_of_the_points(
    name: str, script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = []

    def kept(_: str, prompt: NDArray[np.int64], output: NDArray[np.int64], **fields: object) -> None:
        lengths.extend([prompt, output])

    monkeypatch.setattr(script, "from_lengths", kept)
    script.WORKLOADS[name]()
    shipped = catalog.workload(name)
    for side, points, mean in zip(
        ("prompt", "output"), lengths, (shipped.mean_prompt_tokens, shipped.mean_output_tokens), strict=True
    ):
        assert mean == pytest.approx(points.mean(), rel=1e-6)
        for q in (0.5, 0.9, 0.99):
            assert shipped.quantile(side, q) == pytest.approx(np.quantile(points, q), rel=0.005)  # type: ignore[arg-type]


def quantile(cdf: Callable[[float], float], q: float, low: float, high: float) -> float:
    return float(brentq(lambda x: cdf(x) - q, low, high))


def test_summarisation_has_the_published_percentiles() -> None:
    # Sarathi-Serve, OSDI 2024: P50 and P90 of prompts and outputs of arxiv_summarization, of at most 16,384 tokens
    workload = catalog.workload("summarisation")
    assert workload.quantile("prompt", 0.5) == pytest.approx(7059, rel=0.002)
    assert workload.quantile("prompt", 0.9) == pytest.approx(12985, rel=0.002)
    assert workload.quantile("output", 0.5) == pytest.approx(208, abs=1)
    assert workload.quantile("output", 0.9) == pytest.approx(371, abs=2)


def test_summarisation_by_integrals() -> None:
    prompt = lognorm(0.6504, scale=7886)
    output = lognorm(np.log(371 / 208) / Z90, scale=208)
    x = np.arange(0.5, 16_384)
    density = prompt.pdf(x) * output.cdf(16_384 - x)  # of prompts that are left after the cut
    density /= density.sum()
    reached = np.cumsum(density)
    workload = catalog.workload("summarisation")
    for q in (0.1, 0.5, 0.9, 0.99):
        at = x[np.searchsorted(reached, q)]
        assert workload.quantile("prompt", q) == pytest.approx(at, rel=0.01 if q in (0.5, 0.9, 0.99) else 0.03)
    mean = density @ x
    assert workload.mean_prompt_tokens == pytest.approx(mean, rel=0.002)
    assert np.sqrt(density @ (x - mean) ** 2) == pytest.approx(3590, abs=30)  # as the note says; published 3,638
    assert output.std() == pytest.approx(110, abs=2)


def test_rag_by_its_mixture() -> None:
    workload = catalog.workload("rag")
    parts = {
        "prompt": ((0.76, lognorm(0.126, scale=3270)), (0.24, lognorm(0.157, scale=1208))),
        "output": ((0.76, lognorm(0.63, scale=222)), (0.24, lognorm(0.59, scale=115))),
    }
    for side, mixed in parts.items():
        for q in (0.5, 0.9, 0.99):
            at = quantile(lambda x, mixed=mixed: sum(share * of.cdf(x) for share, of in mixed), q, 1, 1e5)  # type: ignore[misc]
            assert workload.quantile(side, q) == pytest.approx(at, rel=0.01)  # type: ignore[arg-type]
    # means; prompts below 1,050 tokens are held to it: E max(X, c) = c F(c) + the integral of 1 - F above c
    x = np.arange(1050.5, 20_000)
    mean = 1050 + sum(share * of.sf(x).sum() for share, of in parts["prompt"])
    assert workload.mean_prompt_tokens == pytest.approx(mean, rel=0.002)
    assert workload.mean_output_tokens == pytest.approx(sum(s * of.mean() for s, of in parts["output"]), rel=0.003)


U = (np.arange(4_000) + 0.5) / 4_000


def steps_below(script: ModuleType, tokens: float) -> float:
    """Steps with a prompt of at most ``tokens`` tokens, by integration over the cached prefix of every bin."""
    total = 0.0
    for bins in script.AGENT_STEPS.values():
        for low, high, steps, p50, p90 in bins:
            room = tokens - low * (high / low) ** U
            appended = lognorm(np.log(p90 / p50) / Z90, scale=p50).cdf(np.maximum(room, 0.0))
            total += steps * appended.mean()
    return total


def test_agents_by_integrals(script: ModuleType) -> None:
    workload = catalog.workload("agents")
    kept = steps_below(script, 128_000)
    every = sum(steps for bins in script.AGENT_STEPS.values() for _, _, steps, _, _ in bins)
    assert kept / every == pytest.approx(0.52, abs=0.006)  # as the note says
    for q in (0.1, 0.5, 0.9, 0.99):
        at = quantile(lambda x, q=q: steps_below(script, x) / kept, q, 10, 128_000)  # type: ignore[misc]
        assert workload.quantile("prompt", q) == pytest.approx(at, rel=0.01 if q > 0.1 else 0.04)
    # the mean is the integral of the share above x
    x = np.arange(250.0, 128_000, 500)
    mean = 500 * sum(1 - steps_below(script, each) / kept for each in x)
    assert workload.mean_prompt_tokens == pytest.approx(mean, rel=0.003)
    output = lognorm(np.sqrt(2 * np.log(523 / 250)), scale=250)
    assert output.mean() == pytest.approx(523)
    for q in (0.5, 0.9, 0.99):
        assert workload.quantile("output", q) == pytest.approx(output.ppf(q), rel=0.01)
    assert workload.mean_output_tokens == pytest.approx(523, rel=0.01)


def test_all_steps_of_agents_have_the_published_totals(script: ModuleType) -> None:
    # TraceLab: 357,161 steps, 54.9e9 input tokens, 52.6e9 of them cached, 186.9e6 output tokens
    assert sum(steps for bins in script.AGENT_STEPS.values() for *_, steps, _, _ in bins) == pytest.approx(
        357_161, rel=1e-4
    )
    prefix, appended, output = script.agent_steps()
    # the published inputs are 153,700 tokens a step: what the bins hide (log-uniform prefixes) costs 6 %
    assert (prefix + appended).mean() == pytest.approx(54.9e9 / 357_161, rel=0.07)
    assert prefix.sum() / (prefix + appended).sum() == pytest.approx(52.6 / 54.9, abs=0.005)
    assert output.mean() == pytest.approx(186.9e6 / 357_161, rel=0.01)


def test_points_fill_the_cube_evenly(script: ModuleType) -> None:
    for dimensions in (2, 3):
        points = script.spread(20_000, dimensions)
        assert points.shape == (dimensions, 20_000)
        counts, _ = np.histogramdd(points.T, bins=[5] * dimensions, range=[(0, 1)] * dimensions)
        assert np.abs(counts / counts.mean() - 1).max() < 0.08  # random points: 0.2 in three dimensions
        for each in points:
            assert np.abs(np.sort(each) - (np.arange(20_000) + 0.5) / 20_000).max() < 1e-3


def test_log_normal_has_what_it_is_made_of(script: ModuleType) -> None:
    u = (np.arange(200_000) + 0.5) / 200_000
    tokens = script.LogNormal.of(1_000, 3_000).at(u)
    assert np.quantile(tokens, [0.5, 0.9]) == pytest.approx([1_000, 3_000], rel=1e-3)
    tokens = script.LogNormal.with_mean(1_000, 1_300).at(u)
    assert (np.median(tokens), tokens.mean()) == (pytest.approx(1_000, rel=1e-3), pytest.approx(1_300, rel=1e-3))
    held = script.LogNormal(100, 1.0, least=50, most=200).at(u)
    assert (held.min(), held.max()) == (50, 200)

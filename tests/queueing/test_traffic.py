import numpy as np
import pytest

from provisioner.queueing.traffic import Classes, Traffic, windows_of
from provisioner.specs import catalog


def classes_of(workload: str) -> Classes:
    w = catalog.workload(workload)
    return Classes(w.prompt.tokens, w.output.tokens, w.weight)


@pytest.mark.parametrize("workload", ["coding", "conversation"])
def test_grouped_classes_keep_the_means_and_the_weight(workload: str) -> None:
    requests = Traffic(classes_of(workload), ((1.0, 1.0),))
    for fewer in (requests.joint, requests.by_output, requests.by_prompt):
        assert fewer.weight.sum() == pytest.approx(1.0)
        assert fewer.weight.size < requests.classes.weight.size
        for name in ("prompt_tokens", "output_tokens"):
            assert fewer.weight @ getattr(fewer, name) == pytest.approx(
                requests.classes.weight @ getattr(requests.classes, name)
            )


def test_short_outputs_are_kept_exactly() -> None:
    c = Classes(np.full(5, 100.0), np.array([1.0, 2.0, 3.0, 100.0, 103.0]), np.full(5, 0.2))
    assert sorted(c.grouped(3.0, 1.25).output_tokens.tolist())[:3] == pytest.approx([1.0, 2.0, 3.0])


def test_peak_and_mean_rate_of_windows() -> None:
    requests = Traffic(classes_of("coding"), ((10.0, 0.25), (30.0, 0.75)))
    assert requests.peak_rps == 30.0
    assert requests.mean_rps == pytest.approx(20.0)  # 250 requests at 10/s and 750 at 30/s: 1,000 in 50 s
    assert requests.scaled(2.0).windows == ((20.0, 0.25), (60.0, 0.75))


def test_a_part_of_the_requests_is_nearer_to_poisson() -> None:
    requests = Traffic(classes_of("coding"), ((10.0, 1.0),), cv=3.0)
    inside = requests.classes.prompt_tokens <= 1500.0
    part = requests.restricted(inside, 0.25)
    assert part.classes.weight.sum() == pytest.approx(1.0)
    assert part.windows == ((2.5, 1.0),)
    assert part.cv == pytest.approx(np.sqrt(1.0 + 0.25 * 8.0))


def test_a_steady_poisson_trace_is_about_one_window_of_cv_one() -> None:
    rng = np.random.default_rng(3)
    windows, cv = windows_of(np.cumsum(rng.exponential(1.0 / 20.0, 24_000)))
    assert sum(share for _, share in windows) == pytest.approx(1.0)
    assert len(windows) <= 2
    assert all(rate == pytest.approx(20.0, rel=0.12) for rate, _ in windows)
    assert cv == pytest.approx(1.0, abs=0.06)


def test_a_trace_with_a_busy_half_has_windows_of_both_rates() -> None:
    rng = np.random.default_rng(4)
    slow, busy = np.cumsum(rng.exponential(0.2, 3000)), np.cumsum(rng.exponential(0.02, 30_000))
    windows, _ = windows_of(np.concatenate((slow, slow[-1] + busy)))
    assert windows[0][0] == pytest.approx(5.0, rel=0.1)
    assert windows[-1][0] == pytest.approx(50.0, rel=0.1)
    assert windows[-1][1] == pytest.approx(30 / 33, rel=0.1)


def test_bursts_within_the_minute_raise_the_cv() -> None:
    rng = np.random.default_rng(5)
    bursts = np.sort(rng.uniform(0.0, 1200.0, 2400))
    _, cv = windows_of(np.sort(np.repeat(bursts, 9)))  # nine requests at once
    assert cv == pytest.approx(3.0, rel=0.1)


def test_regular_arrivals_count_as_poisson() -> None:
    assert windows_of(np.arange(0.0, 600.0, 0.1))[1] == 1.0

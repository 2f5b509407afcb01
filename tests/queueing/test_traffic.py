import numpy as np
import pytest

from provisioner.queueing.traffic import Classes, Traffic
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

import numpy as np
from scipy.special import gammaincc

from provisioner.perf.assumptions import reference, replica
from provisioner.queueing.mixed_stage import LARGEST_DESCRIBED_LOAD, MixedStage, _gamma_tail, _gap_knots
from provisioner.queueing.prompt_pool import NEGLIGIBLE
from provisioner.queueing.traffic import Classes, Traffic
from provisioner.specs import catalog


def test_gamma_tails_that_are_not_computed_are_0_or_1() -> None:
    shape, x = np.meshgrid(np.geomspace(1e-3, 1e6, 60), np.geomspace(1e-6, 1e7, 200))
    for share in (1.0, 1e-3, 2e-7):
        tail = _gamma_tail(np.full(shape.shape, share), shape, x)
        np.testing.assert_allclose(tail, share * gammaincc(shape, x), rtol=0.0, atol=NEGLIGIBLE)


def test_gap_knots_reach_the_longest_output() -> None:
    for largest in (0.0, 1.0, 2.0, 37.5, 4000.0):
        knots = _gap_knots(largest)
        assert knots[0] == 0.0 and knots[-1] >= largest
        assert np.all(np.diff(knots) >= 1.0)


def test_queues_are_computed_only_where_some_wait_and_the_load_is_described() -> None:
    w = catalog.workload("conversation")
    requests = Traffic(Classes(w.prompt.tokens, w.output.tokens, w.weight), ((70.0, 1.0),))
    stage = MixedStage(replica("llama2-70b", "dgx-h100"), requests, reference("llama2-70b"))
    sizes = np.arange(1, 201, dtype=np.int64)
    load = stage.pools(sizes)[0]
    queued = sorted(load.prompts.queues)
    assert queued == list(range(queued[0], queued[-1] + 1))
    assert np.all(load.load[: queued[0]] > LARGEST_DESCRIBED_LOAD) and load.load[queued[0]] <= LARGEST_DESCRIBED_LOAD
    assert 0.0 < load.prompts.waits[queued[-1]] < 1e-5
    assert np.all(stage.exceedance("ttft", "seconds", 1e4, sizes[: queued[0]]) == 1.0)

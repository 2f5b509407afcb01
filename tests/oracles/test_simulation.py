"""The oracle against counts by hand, and the queueing formulas against the oracle."""

import numpy as np
import pytest

from provisioner.perf.assumptions import replica
from provisioner.perf.curves import MIXED_FACTOR
from tests.oracles.cases import METRICS, QUANTILES, Case, simulated
from tests.oracles.simulation import Requests, simulate_mixed, simulate_split

H = replica("llama2-70b", "dgx-h100")


def requests(*rows: tuple[float, int, int]) -> Requests:
    arrival, prompt, output = zip(*rows, strict=True)
    return Requests(np.array(arrival), np.array(prompt), np.array(output))


def prompt_s(tokens: int) -> float:
    return float(H.prompt_s(float(tokens)))


def test_a_request_alone_takes_its_prompt_its_transfer_and_its_decodes() -> None:
    seen = simulate_split(requests((1.0, 1000, 3)), H, H, 1, 1)
    decodes = float(H.decode_s(1, 1001) + H.decode_s(1, 1002)) + float(H.transfer_visible_s(1000.0, H))
    assert seen.ttft_s[0] == pytest.approx(prompt_s(1000))
    assert seen.e2e_s[0] == pytest.approx(prompt_s(1000) + decodes)
    assert seen.tbt_s[0] == pytest.approx(decodes / 2)


def test_waiting_prompts_run_together_up_to_the_token_limit() -> None:
    seen = simulate_split(requests((0.0, 500, 1), (0.01, 1000, 1), (0.02, 1000, 1), (0.03, 100, 1)), H, H, 1, 1)
    first, second = prompt_s(500), prompt_s(2000)  # the last one would make 2100 tokens
    done = [first, first + second, first + second, first + second + prompt_s(100)]
    assert seen.ttft_s == pytest.approx(np.array(done) - [0.0, 0.01, 0.02, 0.03])
    assert np.isnan(seen.tbt_s).all()


def test_an_arrival_joins_the_fewest_pending_tokens() -> None:
    seen = simulate_split(requests((0.0, 2000, 1), (0.0, 600, 1), (0.01, 300, 1)), H, H, 2, 1)
    assert seen.ttft_s[2] == pytest.approx(prompt_s(600) + prompt_s(300) - 0.01)  # behind 600 tokens, not 2000


def test_a_sequence_waits_until_the_memory_has_room() -> None:
    capacity = int(H.kv_capacity_tokens)
    seen = simulate_split(requests((0.0, 1000, capacity - 1500), (0.0, 1000, 3)), H, H, 2, 1)
    assert seen.e2e_s[1] > seen.e2e_s[0]


def test_a_mixed_iteration_carries_decodes_that_fit_and_stops_those_that_do_not() -> None:
    beside = simulate_mixed(requests((0.0, 500, 2), (0.01, 1000, 1)), H, 1)
    assert beside.e2e_s[0] == pytest.approx(prompt_s(500) + MIXED_FACTOR * prompt_s(1001))
    assert beside.ttft_s[1] == pytest.approx(beside.e2e_s[0] - 0.01)
    alone = simulate_mixed(requests((0.0, 500, 2), (0.01, 2048, 1)), H, 1)
    assert alone.e2e_s[0] == pytest.approx(prompt_s(500) + prompt_s(2048) + float(H.decode_s(1, 501)))


# Clusters, and a bound on the relative error measured there of any percentile, in seconds or as a slowdown: the
# largest are of a TTFT on a corner of its distribution. compare.py gives the errors over random clusters.
CASES = [
    (Case("llama2-70b", "coding", "dgx-h100", "dgx-h100-capped", 16, 2, 70.0), 0.06),
    (Case("llama2-70b", "conversation", "dgx-a100", "dgx-a100", 14, 12, 50.0), 0.08),
    (Case("bloom-176b", "conversation", "dgx-h100", "dgx-a100", 3, 6, 9.0), 0.13),
    (Case("bloom-176b", "coding", "dgx-h100", "dgx-h100", 8, 2, 14.0), 0.16),
    (Case("llama2-70b", "coding", "dgx-h100", None, 10, 1, 20.0), 0.10),
    (Case("bloom-176b", "conversation", "dgx-h100", None, 12, 1, 14.0), 0.08),
]


@pytest.mark.parametrize(("case", "tolerance"), CASES, ids=lambda value: getattr(value, "workload", ""))
def test_formulas_agree_with_the_oracle(case: Case, tolerance: float) -> None:
    seen, said = simulated(case, 30_000, seed=2), case.analytic().percentiles()
    errors = said / seen - 1.0
    wrong = [
        f"{metric} {kind} P{100 * quantile:g}: {said[m, q]:.4g} against {seen[m, q]:.4g}"
        for m, (metric, kind) in enumerate(METRICS)
        for q, quantile in enumerate(QUANTILES)
        if abs(errors[m, q]) > tolerance
    ]
    assert not wrong

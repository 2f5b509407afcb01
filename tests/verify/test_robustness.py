"""The distance of a plan from failure, against questions with the factor among their inputs."""

from functools import cache
from typing import Any

import pytest

import provisioner
from provisioner.errors import InputError
from provisioner.loading.setting import load_setting
from provisioner.options import PlanOptions
from provisioner.perf.summary import coverage
from provisioner.planning.proof import Candidate
from provisioner.results.plan import Plan
from provisioner.results.robustness import MOST_FACTOR
from provisioner.specs.catalog import machine, model
from provisioner.verify.judge import Verdicts
from provisioner.verify.robustness import LOSS_TOLERANCE, TOLERANCE, _largest

SMALL: dict[str, Any] = {
    "model": "llama2-70b",
    "workload": "coding",
    "rate_rps": 10.0,
    "designs": ("splitwise-hh:8+8",),
    "batch_tokens": (2048, 4096),
    "sets": 2,
    "duration_s": 20.0,
    "slo": "batch",
    "limits": {"ttft_p90": "900ms", "tbt_p90": "60ms"},  # in seconds, so that what slowdowns refer to has no part
}


@cache
def plan() -> Plan:
    return provisioner.plan(**SMALL)


def holds(of: Plan, sizes: tuple[int, ...], **changes: Any) -> bool:
    """Whether a plan's pools, of other sizes, are within the limits with other inputs, judged afresh."""
    setting = load_setting(PlanOptions(**{**SMALL, **changes}))
    _, judge = Verdicts().judge(setting, setting.traffic.peak_rps)
    (design,) = setting.designs
    own = (setting.replicas[slot.replica].batch.batch_tokens for slot in design.slots)
    tokens = tuple(pool.batch_tokens or of_engine for pool, of_engine in zip(of.pools, own, strict=True))
    return judge.judge(Candidate(design, sizes, batch_tokens=tokens)).passes


@pytest.mark.parametrize(
    ("field", "scaled"),
    [
        ("prompt_time_factor", ("prompt-time",)),
        ("decode_time_factor", ("decode-time",)),
        ("both_times_factor", ("prompt-time", "decode-time")),
        ("rate_factor", ("rate",)),
    ],
)
def test_it_holds_up_to_the_factor_and_not_one_step_further(field: str, scaled: tuple[str, ...]) -> None:
    found = plan()
    sizes = tuple(pool.replicas for pool in found.pools)
    factor = getattr(found.robustness, field)
    assert 1.0 <= factor < MOST_FACTOR
    assert holds(found, sizes, scale=dict.fromkeys(scaled, factor))
    assert not holds(found, sizes, scale=dict.fromkeys(scaled, factor + TOLERANCE))


def test_losses_are_those_of_the_smaller_clusters() -> None:
    found = plan()
    sizes = tuple(pool.replicas for pool in found.pools)
    assert found.robustness is not None
    assert [(loss.role, loss.machine) for loss in found.robustness.losses] == [
        (pool.role, pool.machine) for pool in found.pools
    ]
    for position, loss in enumerate(found.robustness.losses):
        fewer = tuple(n - (k == position) for k, n in enumerate(sizes))
        if not all(fewer):
            assert loss.holds_rate_factor == 0.0 and loss.breaks == ("not stable",)
            continue
        assert bool(loss.breaks) != holds(found, fewer)
        assert holds(found, fewer, scale={"rate": loss.holds_rate_factor})
        if loss.breaks:
            assert not holds(found, fewer, scale={"rate": loss.holds_rate_factor + LOSS_TOLERANCE})


def test_stated_errors_are_those_of_the_curves() -> None:
    (curves,) = [
        row
        for row in coverage(model("llama2-70b"), machine("dgx-h100"))
        if row.tensor_parallel == 8 and row.dtype == "bf16" and row.evidence == "measured"
    ]
    found = plan().robustness
    assert found is not None and curves.error is not None
    assert (found.prompt_error, found.decode_error) == (curves.error.prompt[1], curves.error.decode[1])


def test_the_largest_factor_is_found_to_its_tolerance() -> None:
    asked: list[float] = []

    def up_to(limit: float) -> float:
        asked.clear()
        return _largest(lambda factor: asked.append(factor) or factor <= limit, 1.0, 2.0, 0.01)  # type: ignore[func-returns-value]

    assert [round(up_to(limit), 9) for limit in (0.5, 1.0, 1.004, 1.375, 1.99, 2.0, 9.0)] == [
        *(1.0, 1.0, 1.0, 1.37, 1.99, 2.0, 2.0),
    ]
    assert len(asked) == 1  # 2.0 holds: nothing else is looked at
    up_to(1.5)
    assert len(asked) <= 8


def test_an_answer_by_formulas_and_one_at_its_limits_have_none() -> None:
    assert provisioner.plan(fast=True, designs=("splitwise-hh",), rate_rps=5.0).robustness is None


def test_a_robust_plan_holds_with_the_stated_errors() -> None:
    nominal, robust = plan(), provisioner.plan(**SMALL, robust=True)
    assert robust.cost_usd_per_h >= nominal.cost_usd_per_h
    assert robust.nominal is not None and robust.nominal.cost_usd_per_h == nominal.cost_usd_per_h
    assert robust.robustness is not None and robust.robustness.both_times_factor >= 1.0
    error = robust.robustness.prompt_error, robust.robustness.decode_error
    factors = {"prompt-time": 1.0 + (error[0] or 0.0), "decode-time": 1.0 + (error[1] or 0.0)}
    assert holds(robust, tuple(pool.replicas for pool in robust.pools), scale=factors)
    assert any(text.startswith("times are longer by the stated errors of the curves") for text in robust.warnings)


def test_what_has_no_known_error_is_left_out() -> None:
    with pytest.raises(InputError, match="no error of the latency curves is known"):
        provisioner.plan(**{**SMALL, "model": "bloom-176b"}, assumptions="splitwise-sim", robust=True)

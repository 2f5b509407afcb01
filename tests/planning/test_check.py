"""The independent check finds what is wrong in a plan that was tampered with."""

from dataclasses import replace
from functools import cache

import pytest

from provisioner.loading.setting import load_setting
from provisioner.options import PlanOptions
from provisioner.planning.answer import answer
from provisioner.planning.check import check
from provisioner.planning.setting import Setting
from provisioner.results.plan import LatencyFigure, Plan, PlanPool


@cache
def sound() -> tuple[Plan, Setting]:
    setting = load_setting(PlanOptions(designs=("splitwise-hh",), max_machines=30, tensor_parallel="largest"))
    return answer(setting), setting


def first_pool(plan: Plan, **changes: object) -> Plan:
    pools: tuple[PlanPool, ...] = (replace(plan.pools[0], **changes), *plan.pools[1:])  # type: ignore[arg-type]
    return replace(plan, pools=pools)


def figure(plan: Plan, metric: str, **changes: object) -> Plan:
    def changed(each: LatencyFigure) -> LatencyFigure:
        here = (each.metric, each.percentile) == (metric, 90.0)
        return replace(each, **changes) if here else each  # type: ignore[arg-type]

    return replace(plan, latency=tuple(changed(each) for each in plan.latency))


def test_a_plan_is_sound() -> None:
    assert check(*sound()) == ()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda p: replace(p, cost_usd_per_h=p.cost_usd_per_h * 0.99), "cost: "),
        (lambda p: replace(p, power_w=p.power_w + 1.0), "power: "),
        (lambda p: replace(p, cost_usd_per_million_tokens=1.0), "cost per million tokens"),
        (lambda p: replace(p, cost_usd_per_million_output_tokens=1.0), "cost per million output tokens"),
        (lambda p: replace(p, rate_rps=71.0), "planned rate"),
        (lambda p: first_pool(p, cost_usd_per_h=1.0), "cost of the prompt pool"),
        (lambda p: first_pool(p, gpus_per_machine=16), "replicas of the prompt pool"),
        (lambda p: first_pool(p, utilization=0.1), "utilization 0.100000 stated"),
        (lambda p: first_pool(p, replicas=5), "is not sustained by 5 machines"),
        (lambda p: first_pool(p, replicas=13), "TTFT P90 <= 3x: "),
        (lambda p: first_pool(p, replicas=29), "machines: 31 is above the limit of 30"),
        (lambda p: first_pool(p, replicas=0), "has no machine"),
        (lambda p: first_pool(p, role="mixed"), "do not make a design"),
        (lambda p: first_pool(p, max_prompt_tokens=1000), "prompts of 1001 tokens or more are served by none"),
        (lambda p: first_pool(p, min_prompt_tokens=2), "prompts from 1 tokens are served by none or by two"),
        (lambda p: first_pool(p, mean_batch=1e4), "GB of KV cache in"),
        (lambda p: figure(p, "ttft", seconds=0.01), "are above 0.01 seconds"),
        (lambda p: figure(p, "e2e", slowdown=0.3), "are above 0.3 slowdown"),
    ],
)
def test_what_is_wrong_is_named(change: object, complaint: str) -> None:
    plan, setting = sound()
    assert callable(change)
    violations = check(change(plan), setting)
    assert any(complaint in line for line in violations), violations

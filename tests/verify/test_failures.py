"""The loss of a machine during a run, against records of the same failure simulated by hand, and closed forms."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import provisioner
from provisioner.deadline import TimeIsUp
from provisioner.loading.setting import load_setting
from provisioner.options import PlanOptions
from provisioner.planning.proof import Candidate
from provisioner.results.plan import Plan
from provisioner.results.robustness import Failure
from provisioner.simulation.cluster import Outage
from provisioner.specs.slo import LatencyLimit
from provisioner.verify import failures
from provisioner.verify.failures import aftermath_of, failure_times, recovery_s
from provisioner.verify.judge import Verdicts
from provisioner.verify.request_sets import LEAST_BEYOND
from tests.oracles.chunked import NEVER, Rules, Sequence, simulate_chunked
from tests.simulation.clusters import Degenerate, cluster, request_set, serve

SMALL: dict[str, Any] = {
    "model": "llama2-70b",
    "workload": "conversation",
    "rate_rps": 12.0,
    "sets": 2,
    "duration_s": 30.0,
    "slo": "batch",
    "limits": {"ttft_p99": "800ms", "tbt_p99": "80ms", "e2e_p90": "30s"},
    "tensor_parallel": (8,),
    "engine": "splitwise",
    "batch_tokens": (),
}
COLUMNS = ("arrival_s", "prompt_tokens", "output_tokens")
FEW = LEAST_BEYOND - 1e-6  # but for rounding
DESIGNS = {
    "strict": "splitwise-hh",
    "deflect": "splitwise-hh",
    "split": "splitwise-ha",
    "splitwise": "splitwise-hh",
    "chunked": "baseline-h100",
    "mixed": "baseline-h100",
}


@cache
def plan(policy: str, survive: int) -> Plan:
    return provisioner.plan(**SMALL, policy=policy, survive=survive, designs=(DESIGNS[policy],))


def sets_of(found: Plan) -> int:
    """Request sets that decided a plan."""
    assert found.evidence is not None
    more = re.search(r"this one took (\d+)", found.evidence.rule)
    return int(more.group(1)) if more else int(SMALL["sets"])


def excess(after: pd.DataFrame) -> float:
    """Requests beyond a limit over the share that it allows, in the stretch from the first arrival on with most."""
    most = 0.0
    for metric, limit_s, allowed in (("ttft_s", 0.8, 0.01), ("tbt_s", 0.08, 0.01), ("e2e_s", 30.0, 0.1)):
        has = after[metric].notna() | after["last_token_s"].isna()
        beyond = has & ~(after[metric] <= limit_s)
        most = max(most, (beyond.cumsum() - allowed * has.cumsum()).max())
    return most


def first_time_s(rows: pd.DataFrame, at_s: float) -> float:
    """The first time after a failure that is followed by no excess, tried one by one."""
    later = rows[rows["arrival_s"] > at_s].sort_values("arrival_s", kind="stable")
    after_s = later["arrival_s"] - at_s
    return next(each for each in (0.0, *after_s) if excess(later[after_s > each]) < FEW)


@pytest.mark.parametrize("survive", [0, 1])
@pytest.mark.parametrize("policy", DESIGNS)
def test_it_is_that_of_the_records_of_the_same_failure(policy: str, survive: int, tmp_path: Path) -> None:
    found = plan(policy, survive)
    assert found.robustness is not None
    for pool, loss in zip(found.pools, found.robustness.losses, strict=True):
        failure = loss.failure
        assert failure is not None and failure.missed is not None
        at_s, sets = failure.at_s, sets_of(found)
        assert failure.within_s == pytest.approx(at_s)
        asked = {name: SMALL[name] for name in ("model", "workload", "rate_rps", "engine")}
        provisioner.simulate(
            **asked,
            pools=tuple(f"{each.role}:{each.machine}={each.machines}" for each in found.pools),
            policy=policy,
            duration_s=3.0 * at_s,
            sets=sets,
            failures=(f"{pool.role}:1@{at_s}s",),
            records=str(tmp_path / "records.parquet"),
        )
        rows = pd.read_parquet(tmp_path / "records.parquet")
        assert failure.restarted_requests == rows["restarts"].sum() / sets
        assert failure.unserved_requests == rows["last_token_s"].isna().sum() / sets
        later = rows[rows["measured"] & (rows["arrival_s"] > at_s)].sort_values("arrival_s", kind="stable")
        metric = f"{failure.missed.metric}_s"
        has = later[metric].notna() | later["last_token_s"].isna()
        beyond = has & ~(later[metric] <= failure.missed.value)
        assert failure.beyond_share == pytest.approx(beyond.sum() / has.sum())
        if loss.breaks:
            assert failure.recovery_s is None
            continue
        assert failure.recovery_s == pytest.approx(first_time_s(later, at_s))


def test_it_is_that_of_the_second_simulator() -> None:
    """One event after the other, iteration by iteration, on replicas of a whole machine."""
    asked = {**SMALL, "limits": {"ttft_p99": "800ms"}, "policy": "chunked", "survive": 1, "designs": ("baseline-h100",)}
    found, setting = provisioner.plan(**asked), load_setting(PlanOptions(**asked))
    assert found.robustness is not None
    failure = found.robustness.losses[0].failure
    assert failure is not None and failure.recovery_s
    _, judge = Verdicts().judge(setting, setting.traffic.peak_rps)
    (pool,) = judge.cluster(Candidate(setting.designs[0], (found.machines,))).pools
    policy = judge.policy_of(setting.designs[0])
    schedule = policy.order == "prompt-first", policy.admission == "reserve"
    rules = Rules(policy.batch_requests, policy.batch_tokens, *schedule)
    served: list[Sequence] = []
    count = sets_of(found)
    for k in range(count):
        drawn = judge.request_sets(k, 0).requests
        rows = list(zip(*(getattr(drawn, name).tolist() for name in COLUMNS), strict=True))
        served += simulate_chunked(rows, pool.perf, found.machines, rules, outages=((failure.at_s, NEVER, 0),))
    assert failure.restarted_requests == sum(each.restarts for each in served) / count
    seen = pd.DataFrame({name: [getattr(each, name) for each in served] for name in ("arrival_s", "first_s", "last_s")})
    late = (seen["first_s"] - seen["arrival_s"] > 0.8)[seen["arrival_s"] > failure.at_s]
    assert failure.beyond_share == pytest.approx(late.mean())
    seen["ttft_s"], seen["last_token_s"] = seen["first_s"] - seen["arrival_s"], seen["last_s"]
    seen["tbt_s"] = seen["e2e_s"] = 0.0  # without a limit
    assert failure.recovery_s == pytest.approx(first_time_s(seen, failure.at_s))


def test_limits_that_hold_at_once_count_a_request_once(tmp_path: Path) -> None:
    asked = {**SMALL, "limits": {"ttft": "800ms", "tbt": "60ms"}, "attainment": 0.95, "policy": "mixed"}
    found = provisioner.plan(**asked, designs=("baseline-h100",))
    assert found.robustness is not None and found.robustness.losses[0].failure is not None
    failure = found.robustness.losses[0].failure
    provisioner.simulate(
        **{name: SMALL[name] for name in ("model", "workload", "rate_rps", "engine")},
        pools=(f"mixed:dgx-h100={found.machines}",),
        policy="mixed",
        duration_s=3.0 * failure.at_s,
        sets=sets_of(found),
        failures=(f"mixed:1@{failure.at_s}s",),
        records=str(tmp_path / "records.parquet"),
    )
    rows = pd.read_parquet(tmp_path / "records.parquet")
    later = rows[rows["arrival_s"] > failure.at_s]
    assert failure.beyond_share == pytest.approx(((later["ttft_s"] > 0.8) | (later["tbt_s"] > 0.06)).mean())


@cache
def small() -> Plan:
    """Strict pools of one machine."""
    asked = {**SMALL, "rate_rps": 3.0, "limits": {"ttft_p90": "1.2s"}, "duration_s": 60.0}
    found = provisioner.plan(**asked, policy="strict", designs=("splitwise-hh",))
    assert [pool.machines for pool in found.pools] == [1, 1]
    return found


def test_what_only_one_machine_can_do_is_never_served_again() -> None:
    found = small()
    assert found.robustness is not None
    loss = found.robustness.losses[1]
    assert loss.failure is not None and loss.failure.unserved_requests > loss.failure.restarted_requests > 0
    assert (loss.failure.beyond_share, loss.failure.recovery_s) == (pytest.approx(1.0), None)
    assert (loss.breaks, loss.holds_rate_factor) == (("not stable",), 0.0)
    assert f"never served: {loss.failure.unserved_requests:,.0f}" in str(found)
    assert "token pool: has one machine; while it is lost, nothing is served" in found.warnings


def test_prompts_without_a_machine_are_computed_where_they_are_decoded() -> None:
    found = small()
    assert found.robustness is not None
    loss = found.robustness.losses[0]
    assert loss.failure is not None and loss.failure.unserved_requests == 0
    assert loss.holds_rate_factor is not None and loss.holds_rate_factor > 0.0
    assert bool(loss.breaks) == (loss.holds_rate_factor < 1.0)
    held = provisioner.simulate(
        **{name: SMALL[name] for name in ("model", "workload", "engine")},
        pools=tuple(f"{each.role}:{each.machine}=1" for each in found.pools),
        policy="strict",
        rate_rps=3.0 * loss.holds_rate_factor,
        duration_s=60.0,
        sets=2,
        slo="batch",
        limits={"ttft_p90": "1.2s"},
        failures=("prompt:1@0s",),
    )
    assert held.stable and held.slo_met and held.unfinished == 0
    assert "prompt pool: has one machine; while it is lost, token machines compute its prompts" in found.warnings


def test_a_burst_is_served_at_the_rate_that_is_left() -> None:
    """Two machines take a second a request, and 20 come at once when one fails: the other has 20 s of work.

    From then on a request comes every 1.25 s, so that the k-th has its token after 20 s - 0.25 k s.
    """
    replica = Degenerate(lambda tokens: tokens / 2000.0)
    rows = [*((30.0, 2000, 1) for _ in range(20)), *((30.0 + 1.25 * k, 2000, 1) for k in range(1, 100))]
    done = serve(cluster("mixed", replica, 2, None, 1, Outage(0, 30.0 + 1e-6)), request_set(rows))
    seen = aftermath_of(done, (LatencyLimit("ttft", 99.0, 11.0, "seconds"),))
    assert (seen.restarts, seen.unserved, seen.after_s.size, int(seen.beyond.sum())) == (10, 0, 99, 35)
    allowed = np.array([0.01])
    # ten of the next ten late ones, less the tenth of one that one in 100 allows, are fewer than ten more
    assert recovery_s(seen.after_s, seen.has, seen.beyond, allowed, 100.0) == pytest.approx(25 * 1.25, abs=1e-5)
    assert recovery_s(seen.after_s, seen.has, seen.beyond, allowed, 30.0) is None


@pytest.mark.parametrize("seed", range(40))
def test_the_time_is_the_first_of_all_that_are_tried(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count, limits = int(rng.integers(1, 120)), int(rng.integers(1, 4))
    after_s = np.round(rng.uniform(0.01, 20.0, count), 1)  # with ties
    has = rng.random((limits, count)) < 0.9
    beyond = has & (rng.random((limits, count)) < np.where(after_s < 8.0, 0.9, 0.02))
    allowed = rng.choice((0.01, 0.1, 0.5), limits)

    def excess(since_s: float) -> float:
        """The most requests beyond a limit over what it allows between one time and any later one."""
        spans = [(after_s > since_s) & (after_s <= until_s) for until_s in after_s[after_s > since_s]]
        return max(float((beyond[:, x].sum(axis=1) - allowed * has[:, x].sum(axis=1)).max()) for x in spans)

    tried = [each for each in (0.0, *np.sort(after_s)) if each < after_s.max()]
    first = next((each for each in tried if excess(each) < FEW), None)
    expected = first if first is not None and first <= 10.0 else None
    found = recovery_s(after_s, has, beyond, allowed, 10.0)
    assert found == expected


def test_a_trace_fails_at_a_third_of_its_own_time() -> None:
    assert failure_times(request_set([(100.0, 1, 1), (110.0, 1, 1), (400.0, 1, 1)])) == (200.0, 100.0)
    assert failure_times(request_set([(3.0, 1, 1), (11.0, 1, 1)], until_s=12.0)) == (4.0, 4.0)


def test_what_time_leaves_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*_: object, **__: object) -> None:
        raise TimeIsUp

    monkeypatch.setattr(failures, "compile_simulator", late)
    found = provisioner.plan(**SMALL, policy="chunked", designs=("baseline-h100",))
    assert found.robustness is not None and [loss.failure for loss in found.robustness.losses] == [None]
    assert found.warnings[-1] == (
        "the time limit was reached: left out is what the loss of a machine during the run does"
    )
    assert "restarts:" not in str(found) and "fails at" not in str(found)


def test_without_limits_there_is_none_to_hold_again() -> None:
    found = provisioner.plan(**{**SMALL, "limits": {}}, policy="chunked", designs=("baseline-h100",), survive=1)
    assert found.robustness is not None
    (loss,) = found.robustness.losses
    assert isinstance(loss.failure, Failure) and not loss.breaks
    assert (loss.failure.missed, loss.failure.beyond_share, loss.failure.recovery_s) == (None, None, None)
    assert "still enough; restarts:" in str(found) and "hold again" not in str(found)

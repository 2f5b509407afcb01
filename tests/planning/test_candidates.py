"""Candidates of real designs against the full grid of pool sizes."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any

import numpy as np
import pytest

from provisioner.loading.setting import load_setting
from provisioner.options import PlanOptions
from provisioner.planning.candidates import DesignLatency, LatencyInputs, candidates, first_that, restricted
from provisioner.planning.designs import Design, shared_roles
from provisioner.planning.formulation import CRITERIA, Caps, Prices
from provisioner.planning.program import Program
from provisioner.planning.search import Search
from provisioner.planning.setting import Setting
from provisioner.planning.solver import choose
from provisioner.queueing.stages import PromptStage, TokenStage
from provisioner.specs.criteria import TIES, order
from tests.planning.instances import parts


def question_of(setting: Setting) -> LatencyInputs:
    return LatencyInputs(setting.traffic, setting.slo, setting.reference, setting.replicas)


def setting_of(**fields: Any) -> Setting:
    """A question with one degree of tensor parallelism; several are as several machine types."""
    return load_setting(PlanOptions(**{"tensor_parallel": "largest", **fields}))


def holds(latency: DesignLatency, sizes: tuple[int, ...]) -> bool:
    """Whether a cluster of these sizes keeps up and meets every limit, asked one size at a time."""
    limits = sorted(latency.question.slo.limits, key=lambda limit: limit.metric == "e2e")  # the cheap ones first
    return latency.stable(sizes) and all(latency.meets(limit, sizes) for limit in limits)


def grid(setting: Setting, design: Design, most: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Every choice of sizes up to ``most`` that holds."""
    latency = DesignLatency(question_of(setting), design)
    return [sizes for sizes in product(*(range(1, m + 1) for m in most)) if holds(latency, sizes)]


def random_prices(setting: Setting, seed: int) -> Prices:
    rng = np.random.default_rng(seed)
    return Prices(
        {name: float(rng.integers(5, 60)) for name in setting.machines},
        {name: 100.0 * float(rng.integers(30, 120)) for name in setting.machines},
    )


def best_of(feasible: list[tuple[Design, tuple[int, ...]]], prices: Prices, caps: Caps, objective: Any) -> Any:
    """Lexicographically least totals over feasible choices within caps."""
    found = []
    for design, sizes in feasible:
        names = [slot.machine.name for slot in design.slots]
        used: dict[str, int] = {}
        for name, n in zip(names, sizes, strict=True):
            used[name] = used.get(name, 0) + n
        if any(used.get(name, 0) > available for name, available in caps.stock.items()):
            continue
        total: Mapping[str, float] = {
            "cost": sum(prices.cost_usd_per_h[name] * n for name, n in used.items()),
            "power": sum(prices.power_w[name] * n for name, n in used.items()),
            "machines": sum(used.values()),
            "complexity": float("{}{}{}".format(*parts(design))),
        }
        found.append(tuple(total[criterion] for criterion in order(objective)))
    return min(found, default=None)


GRIDS: dict[str, tuple[dict[str, Any], str, tuple[int, ...]]] = {
    "coding HH": (dict(rate_rps=6.0), "splitwise-hh", (8, 6)),
    "coding HA": (dict(rate_rps=8.0), "splitwise-ha", (8, 7)),
    "coding, tight end to end": (
        dict(rate_rps=4.0, slo="splitwise", limits={"e2e_p90": "1.2x"}),
        "splitwise-hh",
        (8, 8),
    ),
    "coding, only end to end": (dict(rate_rps=8.0, slo="batch", limits={"e2e_p99": "20s"}), "splitwise-aa", (9, 6)),
    "conversation HH": (dict(workload="conversation", rate_rps=6.0), "splitwise-hh", (6, 7)),
    "conversation, only end to end": (
        dict(workload="conversation", rate_rps=8.0, slo="batch", limits={"e2e_p90": "30s"}),
        "splitwise-ah",
        (6, 9),
    ),
    "bloom, bursty": (dict(model="bloom-176b", rate_rps=2.0, cv=2.0), "splitwise-hh", (10, 6)),
    "baseline H": (dict(rate_rps=8.0), "baseline-h100", (14,)),
    "baseline A, conversation": (
        dict(workload="conversation", rate_rps=2.0, slo="batch", limits={"ttft_p99": "2s", "tbt_p90": "0.2s"}),
        "baseline-a100",
        (20,),
    ),
}


@pytest.mark.parametrize("name", GRIDS)
def test_the_optimum_over_candidates_is_that_of_the_full_grid(name: str) -> None:
    fields, design_name, most = GRIDS[name]
    setting = setting_of(designs=(design_name,), **fields)
    (design,) = setting.designs
    feasible = grid(setting, design, most)
    assert feasible, "the grid holds no plan: it tests nothing"
    found = candidates(question_of(setting), design)
    corners = {tuple(int(p.sizes[0]) for p in found.pools), tuple(int(p.sizes[-1]) for p in found.pools)}
    assert all(n <= m for corner in corners for n, m in zip(corner, most, strict=True)), "the grid is too small"
    for seed in range(12):
        prices = random_prices(setting, seed)
        search = Search(question_of(setting), (), prices, Caps(), "HiGHS")
        search.candidates = {design: found}
        for objective in CRITERIA:
            best = search.best((design,), objective)
            assert best is not None
            expected = best_of([(design, sizes) for sizes in feasible], prices, Caps(), objective)
            assert tuple(best.totals[c] for c in order(objective)) == pytest.approx(expected)
            assert best.sizes in feasible


@pytest.mark.parametrize("name", [name for name in GRIDS if "baseline" not in name])
def test_more_machines_never_break_a_limit(name: str) -> None:
    """The monotonicity that the staircase rests on."""
    fields, design_name, most = GRIDS[name]
    setting = setting_of(designs=(design_name,), **fields)
    feasible = set(grid(setting, setting.designs[0], most))
    for n, m in feasible:
        assert n == most[0] or (n + 1, m) in feasible
        assert m == most[1] or (n, m + 1) in feasible


def test_a_pool_of_short_prompts_may_be_smaller_than_half_its_unbatched_work() -> None:
    """Prompts of 60 tokens batch thirty-fold, so the first stable size lies far below the offered load."""
    from provisioner.planning.candidates import span
    from provisioner.queueing.traffic import Classes, Traffic

    setting = setting_of(machines=("dgx-h100",))
    classes = Classes(np.array([60.0]), np.array([20.0]), np.array([1.0]))
    stage = PromptStage(setting.replica("dgx-h100", 8), Traffic(classes, ((200.0, 1.0),)), setting.reference)
    low, _ = span(stage)
    sizes = np.arange(1, low + 3, dtype=np.int64)
    assert np.flatnonzero(stage.stable(sizes))[0] + 1 >= low
    assert low < stage.offered_machines / 2.0


def shared_designs(setting: Setting) -> tuple[Design, ...]:
    """Designs in which H100 and A100 share a role at one division."""
    machines = [perf.machine for perf in setting.replicas.values()]
    speed = {m.name: {"dgx-a100": 1.0, "dgx-h100": 2.0}[m.name] for m in machines}
    return shared_roles(machines, {"dgx-h100"}, (1500,), speed, dict.fromkeys(speed, 8))


@pytest.mark.parametrize("workload", ["coding", "conversation"])
def test_pools_that_share_a_role_serve_every_request_once(workload: str) -> None:
    """Also at every division of a class's fractional mean length."""
    setting = setting_of(workload=workload, machines=("dgx-a100", "dgx-h100"), stock={"dgx-h100": 1})
    for design in (*shared_designs(setting), *setting.sharing_designs()):
        for role in ("prompt", "token", "mixed"):
            shares = [restricted(setting.traffic, slot)[1] for slot in design.slots if slot.role == role]
            assert not shares or sum(shares) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize(
    ("index", "fields"),
    [
        (0, dict(rate_rps=6.0, slo="p99")),
        (0, dict(rate_rps=6.0, slo="batch", limits={"e2e_p90": "8s"})),
        (1, dict(rate_rps=5.0, slo="p50")),
        (2, dict(workload="conversation", rate_rps=4.0, slo="p90")),
        (3, dict(workload="conversation", rate_rps=5.0, slo="batch", limits={"e2e_p50": "1.2x"})),
    ],
)
def test_shared_roles_under_stock_equal_the_full_grid(index: int, fields: dict[str, Any]) -> None:
    setting = setting_of(machines=("dgx-a100", "dgx-h100"), **fields)
    design = shared_designs(setting)[index]
    assert len(design.slots) == 3 and design.splits
    most = (6, 6, 6)
    feasible = grid(setting, design, most)
    assert feasible
    for seed, stock in product(range(4), (1, 2, 3, 6)):
        caps = Caps(stock={"dgx-h100": stock}, machines=6)  # within the grid
        prices = random_prices(setting, seed)
        search = Search(question_of(setting), (design,), prices, caps, "HiGHS")
        for objective in CRITERIA:
            best = search.best((design,), objective)
            within = [(design, sizes) for sizes in feasible if sum(sizes) <= 6]
            expected = best_of(within, prices, caps, objective)
            assert (best is None) == (expected is None)
            if best is not None:
                assert tuple(best.totals[c] for c in order(objective)) == pytest.approx(expected)


def test_bounding_shared_pools_by_stock_and_the_best_so_far_changes_no_answer() -> None:
    setting = setting_of(machines=("dgx-a100", "dgx-h100"), rate_rps=6.0, slo="p90", stock={"dgx-h100": 2})
    sharing = setting.sharing_designs()
    designs = tuple(d for d in sharing if d.splits) + tuple(d for d in sharing if not d.splits)[:1]
    plain = Search(question_of(setting), setting.designs + designs, setting.prices, setting.caps, "HiGHS")
    expected = plain.best(setting.designs + designs, "cost")
    bounded = Search(question_of(setting), setting.designs, setting.prices, setting.caps, "HiGHS")
    bounded.add(designs, "cost", bounded.best(setting.designs, "cost"))
    found = bounded.best(setting.designs + designs, "cost")
    assert expected is not None and found is not None
    assert found.totals == pytest.approx(expected.totals)


def test_one_verdict_on_a_size_whatever_else_is_asked() -> None:
    """Candidates, percentiles and limits read the same grid, so that a plan's figures cannot contradict its choice."""
    setting = setting_of(workload="conversation", designs=("splitwise-hh",))
    latency = DesignLatency(question_of(setting), setting.designs[0])
    sizes = np.arange(8, 14, dtype=np.int64)
    together = latency.pool_share(0, "ttft", "slowdown", 3.0, sizes)
    alone = [latency.pool_share(0, "ttft", "slowdown", 3.0, sizes[i : i + 1])[0] for i in range(sizes.size)]
    assert together.tolist() == alone


def test_a_queue_for_one_size_differs_little_from_that_for_many() -> None:
    """The tolerance of ``check``: another numerical grid moves a share by less than 1e-4."""
    for workload, model in product(("coding", "conversation"), ("llama2-70b", "bloom-176b")):
        setting = setting_of(workload=workload, model=model, designs=("splitwise-hh",))
        latency = DesignLatency(question_of(setting), setting.designs[0])
        stage = latency.stages[0]
        assert isinstance(stage, PromptStage)
        for limit in setting.slo.limits:
            if limit.metric == "ttft":
                for size in (8, 14, 20, 30):
                    one = np.array([size], dtype=np.int64)
                    fresh = PromptStage(stage.perf, stage.traffic, stage.reference)
                    share = latency.pool_share(0, "ttft", limit.kind, limit.value, one)[0]
                    assert fresh.exceedance(limit.kind, limit.value, one)[0] == pytest.approx(share, abs=1e-4)


def test_all_designs_are_solved_as_one_program_for_each_criterion(monkeypatch: pytest.MonkeyPatch) -> None:
    """All designs of the three machine types together, small programs, without another look at the queues."""
    setting = setting_of()
    search = setting.search()
    assert len(setting.designs) == 12
    sizes: list[int] = []

    def counted(program: Program, engine: Any) -> Any:
        sizes.append(program.columns)
        return choose(program, engine)

    monkeypatch.setattr("provisioner.planning.solver.choose", counted)
    monkeypatch.setattr("provisioner.planning.candidates.PromptStage.pools", None)
    monkeypatch.setattr("provisioner.planning.candidates.TokenStage.pools", None)
    for objective in CRITERIA:
        sizes.clear()
        assert search.best(setting.designs, objective) is not None
        assert len(sizes) == len(TIES) and max(sizes) < 5000


def test_the_queues_of_a_pool_are_computed_once_for_all_designs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a prompt pool over all its sizes at once, whatever is behind it, and of others by size."""
    made: list[tuple[str, str, bytes]] = []
    for stage in (PromptStage, TokenStage):

        def counted(self: Any, rate_rps: float, replicas: Any, of: Any = stage._queues) -> Any:
            made.append((type(self).__name__, self.perf.machine.name, replicas.tobytes()))
            return of(self, rate_rps, replicas)

        monkeypatch.setattr(stage, "_queues", counted)
    setting = setting_of()
    search = setting.search()
    assert search.best(setting.designs, "cost") is not None
    assert len([each for each in made if each[0] == "PromptStage"]) == len(setting.machines) == 3
    assert len(made) == len(set(made)) and {name for name, _, _ in made} == {"PromptStage", "TokenStage"}


def test_the_first_size_is_found_in_few_steps_from_a_near_one() -> None:
    """As by trying every size: wherever the first is, and wherever the search begins."""
    for low, high in ((1, 1), (3, 4), (1, 40), (7, 300)):
        for first in {low, low + 1, (low + high) // 2, high, high + 1}:
            for near in {low, (low + high) // 3 + 1, high} & set(range(low, high + 1)):
                asked: list[int] = []

                def holds_at(size: int, first: int = first, asked: list[int] = asked) -> bool:
                    asked.append(size)
                    return size >= first

                expected = next((size for size in range(low, high + 1) if size >= first), None)
                assert first_that(holds_at, low, high, near) == expected
                assert all(low <= size <= high for size in asked)
                distance = abs(min(first, high) - near) + 1
                assert len(asked) <= 3 + 2 * distance.bit_length()


def test_what_no_size_meets_is_named_with_the_best_there_is() -> None:
    setting = setting_of(designs=("splitwise-hh", "baseline-h100"), limits={"ttft_p99": "20ms"})
    for design in setting.designs:
        found = candidates(question_of(setting), design)
        assert not found.feasible
        (worst,) = [each for each in found.unattainable if each.limit.metric == "ttft"]
        assert worst.best > 0.02
        latency = DesignLatency(question_of(setting), design)
        far = tuple(90 for _ in design.slots)
        assert latency.percentile("ttft", 0.99, "seconds", far) == pytest.approx(worst.best, rel=0.02)


def test_token_pools_begin_where_they_keep_up() -> None:
    from provisioner.planning.candidates import token_span

    setting = setting_of(workload="conversation", designs=("splitwise-hh",))
    stage = DesignLatency(question_of(setting), setting.designs[0]).stages[1]
    assert isinstance(stage, TokenStage)
    first, last = token_span(stage)
    assert stage.stable(np.array([first], dtype=np.int64))[0]
    assert first == 1 or not stage.stable(np.array([first - 1], dtype=np.int64))[0]
    assert last > first

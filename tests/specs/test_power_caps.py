"""Power caps: the table and its file, capped machines by name, their price and power, their times, and their plans."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import provisioner
from provisioner.errors import InputError
from provisioner.loading.setting import load_setting
from provisioner.options import PlanOptions
from provisioner.options.command import typed
from provisioner.perf.assumptions import replica
from provisioner.specs import catalog
from provisioner.specs.hardware import Machine
from provisioner.specs.power_caps import PowerCap, PowerCaps, at_cap
from provisioner.specs.shipped import data_folder

SHIPPED = catalog.with_own(None).power_caps
MODELS = ("llama2-70b", "llama-3.1-70b")


def test_slowdowns_are_those_of_the_rows_and_lie_between_their_neighbours() -> None:
    for row in SHIPPED.rows:
        assert SHIPPED.at(row.cap) == row
    for above, below in zip(SHIPPED.rows, SHIPPED.rows[1:], strict=False):
        between = SHIPPED.at((above.cap + below.cap) / 2)
        assert between.prompt_slowdown == pytest.approx((above.prompt_slowdown + below.prompt_slowdown) / 2)
    assert (SHIPPED.at(0.5).prompt_slowdown, SHIPPED.at(0.5).token_slowdown) == (1.3, 1.0)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (((1.0, 1.0, 1.0),), "must begin at cap 1"),
        (((0.9, 1.0, 1.0), (0.5, 1.3, 1.0)), "must begin at cap 1"),
        (((1.0, 1.1, 1.0), (0.5, 1.3, 1.0)), "must begin at cap 1"),
        (((1.0, 1.0, 1.0), (0.5, 1.3, 1.0), (0.7, 1.4, 1.0)), "fall to at least one other cap"),
        (((1.0, 1.0, 1.0), (0.7, 1.4, 1.0), (0.5, 1.3, 1.0)), "prompt_slowdown: must not fall with the cap"),
        (((1.0, 1.0, 1.0), (0.7, 1.0, 1.4), (0.5, 1.3, 1.0)), "token_slowdown: must not fall with the cap"),
        (((1.0, 1.0, 1.0), (0.5, 0.9, 1.0)), "prompt_slowdown"),
        (((1.0, 1.0, 1.0), (-0.5, 1.3, 1.0)), "cap: must be above 0"),
    ],
)
def test_tables_that_cannot_be_are_refused(rows: tuple[tuple[float, float, float], ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PowerCaps(tuple(PowerCap(*row) for row in rows))


def test_a_capped_machine_is_named_by_its_percent_and_the_catalogue_s_own_comes_first() -> None:
    h = catalog.machine("dgx-h100")
    seventy = catalog.machine("dgx-h100@70")
    assert (seventy.name, seventy.letter, seventy.capped_from) == ("dgx-h100@70", "H70", "dgx-h100")
    assert seventy.power_cap == 0.7
    assert h.max_power_w - seventy.max_power_w == pytest.approx(8 * 700 * 0.3)
    assert catalog.machine("dgx-h100@50") is catalog.machine("dgx-h100-capped")
    assert catalog.machine("dgx-h100@100") is h


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dgx-h100@49", "power caps are known from 50 to 100 % of the TDP, got 49"),
        ("dgx-h100@0", "dgx-h100@0: must be above 0 % of the TDP, got 0"),
        ("dgx-h100@101", "must be above 1 and at most 100 % of the TDP"),
        ("dgx-h100@", "must be a number of % of the TDP, got ''"),
        ("dgx-h10@50", "unknown machine 'dgx-h10': did you mean dgx-h100"),
        ("dgx-h100-capped@60", "dgx-h100-capped is capped already; cap dgx-h100"),
    ],
)
def test_caps_that_cannot_be_are_refused(name: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        catalog.machine(name)
    assert message in str(error.value)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("cap", [50, 60, 70])
def test_times_are_those_without_cap_times_the_slowdowns(model: str, cap: int) -> None:
    """Whether measured (llama2-70b) or derived; by the formula of every kind of iteration."""
    free, capped = replica(model, "dgx-h100"), replica(model, f"dgx-h100@{cap}")
    slow = SHIPPED.at(cap / 100)
    tokens, batch, context = np.array([100, 1500, 9000]), np.array([1, 30, 200]), np.array([800, 30_000, 90_000])
    # Shipped curves are rounded to 1 ns.
    np.testing.assert_allclose(capped.prompt_s(tokens), slow.prompt_slowdown * free.prompt_s(tokens), atol=2e-9)
    np.testing.assert_allclose(
        capped.decode_s(batch, context), slow.token_slowdown * free.decode_s(batch, context), rtol=1e-12
    )
    decode_part = free.mixed.s(0.0, batch, context)
    prompt_part = free.mixed.factor * free.prompt_s(tokens + batch)
    np.testing.assert_allclose(
        capped.mixed_s(tokens, batch, context),
        np.maximum(
            slow.prompt_slowdown * prompt_part + slow.token_slowdown * decode_part,
            slow.token_slowdown * free.decode_s(batch, context),
        ),
        rtol=1e-6,
    )
    assert capped.kv_capacity_tokens == free.kv_capacity_tokens
    assert "assumed" in capped.curve.provenance and "assumed" not in free.curve.provenance


def test_a_table_of_one_s_own_slows_down_both_phases(tmp_path: Path) -> None:
    (tmp_path / "power_caps.yaml").write_text(
        "rows:\n  - {cap: 1.0, prompt_slowdown: 1, token_slowdown: 1}\n"
        "  - {cap: 0.4, prompt_slowdown: 1.6, token_slowdown: 1.2}\nsources: [my measurement]\n"
    )
    own = catalog.with_own(str(tmp_path))
    free, capped = (replica("llama2-70b", name, own=own) for name in ("dgx-h100", "dgx-h100@70"))
    assert float(capped.prompt_s(1000)) == pytest.approx(1.3 * float(free.prompt_s(1000)))
    assert float(capped.decode_s(8, 8000)) == pytest.approx(1.1 * float(free.decode_s(8, 8000)))
    assert any("my measurement" in source for source in capped.curve.sources)
    (tmp_path / "power_caps.yaml").write_text("rows:\n  - {cap: 1.0, prompt_slowdown: 1}\nsources: []\n")
    with pytest.raises(InputError, match=r"power_caps.yaml: rows.0.token_slowdown: is missing"):
        _ = catalog.with_own(str(tmp_path)).power_caps
    (tmp_path / "power_caps.yaml").write_text(
        "rows:\n  - {cap: 1.0, prompt_slowdown: 300, token_slowdown: 1}\nsources: []\n"
    )
    with pytest.raises(InputError, match=r"power_caps.yaml: rows.0.prompt_slowdown: 300 is not plausible"):
        _ = catalog.with_own(str(tmp_path)).power_caps


def test_a_capped_machine_has_the_price_of_the_uncapped_one_and_draws_less() -> None:
    known = catalog.with_own(None)
    prices = known.price_list("2026")
    free, capped = known.price(prices, "dgx-b200"), known.price(prices, "dgx-b200@60")
    assert capped.cost_usd_per_h == free.cost_usd_per_h
    b200 = catalog.machine("dgx-b200")
    assert free.provisioned_power_w - capped.provisioned_power_w == pytest.approx(8 * b200.gpu_tdp_w * 0.4)
    assert known.price(prices, "dgx-h100-capped") == prices.price("dgx-h100-capped")


def test_a_plan_chooses_caps_among_those_asked_for() -> None:
    """The least power, by hand: every pair of capped machines is a plan of its own that it may not exceed."""
    asked = {"workload": "coding", "slo": "p99", "objective": "power", "fast": True}
    found = provisioner.plan(machines=("dgx-h100",), power_caps=(100, 70, 50), **asked)
    names = ("dgx-h100", "dgx-h100@70", "dgx-h100-capped")
    powers = {
        (prompt, token): provisioner.plan(
            machines=tuple(dict.fromkeys((prompt, token))),
            designs=(f"splitwise-{catalog.machine(prompt).letter}{catalog.machine(token).letter}".lower(),),
            **asked,
        ).power_w
        for prompt in names
        for token in names
    }
    best = min(powers, key=lambda pair: powers[pair])
    assert found.power_w == pytest.approx(powers[best])
    assert tuple(pool.machine for pool in found.pools) == best
    assert found.power_w < powers["dgx-h100", "dgx-h100"]


def test_machines_are_considered_at_every_cap_asked_for_and_no_other() -> None:
    def considered(**options: object) -> set[str]:
        return {perf.machine.name for perf in load_setting(PlanOptions(**options)).replicas.values()}  # type: ignore[arg-type]

    assert considered(power_caps=(70,)) == {"dgx-a100@70", "dgx-h100@70"}
    assert considered(power_caps=(100, 50)) == {"dgx-a100", "dgx-a100@50", "dgx-h100", "dgx-h100-capped"}
    assert considered(machines=("dgx-h100-capped", "dgx-a100"), power_caps=(60,)) == {"dgx-h100-capped", "dgx-a100@60"}
    derived = considered(model="llama-3.1-70b")
    assert "dgx-h100" in derived and "dgx-h100-capped" not in derived
    assert considered() == {"dgx-a100", "dgx-h100", "dgx-h100-capped"}
    with pytest.raises(InputError, match="splitwise-sim has its own curves"):
        considered(assumptions="splitwise-sim", power_caps=(70,))


def test_a_design_at_a_cap_is_simulated_by_its_name_and_typed_again() -> None:
    found = provisioner.simulate(
        design="splitwise-hh70", prompt_machines=9, token_machines=2, rate_rps=30, duration_s=10
    )
    assert [pool.machine for pool in found.pools] == ["dgx-h100", "dgx-h100@70"]
    flags = typed({"power_caps": (100.0, 70.0), "tensor_parallel": (8, 4)}, PlanOptions)
    assert flags == ["--tp", "8,4", "--power-caps", "100,70"]


def test_an_unknown_machine_that_is_capped_is_named(tmp_path: Path) -> None:
    shipped = data_folder("hardware_specs") / "machines/dgx-h100-capped.yaml"
    (tmp_path / "machines").mkdir()
    text = shipped.read_text().replace("name: dgx-h100-capped", "name: half").replace("letter: Hcap", "letter: Half")
    (tmp_path / "machines/half.yaml").write_text(text.replace("capped_from: dgx-h100", "capped_from: dgx-h300"))
    with pytest.raises(InputError, match="machine half: capped_from: unknown machine 'dgx-h300'"):
        _ = catalog.with_own(str(tmp_path)).machines
    with pytest.raises(InputError, match="capped_from: needs a power_cap below 1"):
        Machine(
            **{
                **{field: getattr(at_cap(catalog.machine("dgx-h100"), 0.5), field) for field in _FIELDS},
                "power_cap": 1.0,
            }
        )


_FIELDS = tuple(Machine.__dataclass_fields__)

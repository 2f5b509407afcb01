"""Networks between machines, by name and as bandwidths, in formulas and simulator alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import provisioner
from provisioner.errors import InputError
from provisioner.loading.setting import load_setting
from provisioner.options import PlanOptions
from provisioner.planning.candidates import DesignLatency, LatencyInputs
from provisioner.planning.designs import ReplicaKey
from provisioner.specs.catalog import engine, machine
from provisioner.specs.network import NETWORKS, on_network, parse_networks

H = machine("dgx-h100")


def test_a_named_network_has_a_port_for_each_gpu_or_one_for_the_machine() -> None:
    four = replace(H, gpus=4)
    for name, kind in NETWORKS.items():
        rate = float(name.rpartition("-")[2])
        assert kind.gbps == rate
        for found in (H, four):
            ports = 1 if name.startswith("ethernet") else found.gpus
            assert on_network(found, name).network_gbps == pytest.approx(ports * rate * kind.efficiency)
    assert on_network(H, "infiniband-400").network_gbps == H.network_gbps
    assert on_network(H, " 3 x roce-200 ").network_gbps == pytest.approx(3 * 200 * 0.9)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("token-ring",), "unknown network 'token-ring'"),
        (("0",), "network: must be above 0 Gb/s, got 0"),
        (("0xroce-100",), "network: ports: must be a whole number, 1 or more, got 0"),
        (("dgx-h100=",), "network: must be NETWORK or MACHINE=NETWORK, such as roce-100, got 'dgx-h100='"),
        (("roce-100", "ethernet-25"), "network: is given twice"),
        (("dgx-h10=roce-100",), "unknown machine 'dgx-h10': did you mean dgx-h100"),
    ],
)
def test_a_network_that_cannot_be_is_refused(given: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError) as error:
        provisioner.plan(fast=True, network=given)
    assert message in str(error.value)


def test_the_slower_side_counts() -> None:
    """A plan's machines on networks of their own: the transfer takes what the slower one takes."""
    slow, fast, mixed = (
        load_setting(PlanOptions(designs=("splitwise-ha",), tensor_parallel="largest", network=network)).replicas
        for network in (("ethernet-25",), ("infiniband-400",), ("infiniband-400", "dgx-a100=ethernet-25"))
    )
    h100, a100 = (ReplicaKey(machine, 8) for machine in ("dgx-h100", "dgx-a100"))
    found = [float(each[h100].transfer_visible_s(1500.0, each[a100])) for each in (slow, fast, mixed)]
    assert found[0] == found[2] > 10 * found[1]
    assert parse_networks(("infiniband-400", "dgx-a100=ethernet-25")) == {
        "": "infiniband-400",
        "dgx-a100": "ethernet-25",
    }


@pytest.mark.parametrize("rate_rps", [1.0, 3.0])
def test_transfers_slow_each_other_down_in_formulas_as_in_the_simulator(rate_rps: float) -> None:
    """One token machine behind 25 Gb/s of Ethernet, a third and nine tenths of it taken by KV caches."""
    setting = load_setting(
        PlanOptions(rate_rps=rate_rps, designs=("splitwise-hh",), tensor_parallel="largest", network=("ethernet-25",))
    )
    question = LatencyInputs(setting.traffic, setting.slo, setting.reference, setting.replicas)
    latency = DesignLatency(question, setting.designs[0])
    taken = latency.stages[1].link_load(np.array([1]))[0]  # type: ignore[union-attr]
    assert taken == pytest.approx(0.3068 * rate_rps, rel=1e-3)
    simulated = provisioner.simulate(
        design="splitwise-hh",
        prompt_machines=2,
        token_machines=1,
        rate_rps=rate_rps,
        network=("ethernet-25",),
        duration_s=900.0,
        sets=3,
        policy="split",
    )
    by_name = {(each.metric, each.percentile): each.seconds.mean for each in simulated.latency}
    for metric in ("tbt", "e2e"):
        for percentile, within in ((50.0, 0.1), (90.0, 0.1), (99.0, 0.3)):
            found = latency.percentile(metric, percentile / 100.0, "seconds", (2, 1))
            assert found == pytest.approx(by_name[metric, percentile], rel=within), (metric, percentile)


def documented(columns: int) -> list[list[str]]:
    """Rows of the page's table of that many columns, without its head."""
    text = (Path(__file__).parents[2] / "docs/how-to/network.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| ")
    ]
    return [row for row in rows if len(row) == columns][1:]


def test_the_documented_table_is_that_of_the_code() -> None:
    found = {
        name.strip(): (float(share), ports) for names, _, share, ports in documented(4) for name in names.split(",")
    }
    expected = {
        name: (kind.efficiency, "one a GPU" if kind.per_gpu else "one a machine") for name, kind in NETWORKS.items()
    }
    assert found == expected


def test_documented_shares_by_message_size_are_those_of_the_engine() -> None:
    """And within a tenth of the rate of what was published."""
    rows = documented(5)
    assert len(rows) == 7
    for message, *shares in rows:
        number, unit = message.split()
        size_bytes = int(number) * {"KiB": 2**10, "MiB": 2**20}[unit]
        for gbps, share, published in zip((100, 400), shares[:2], shares[2:], strict=True):
            alone_s = size_bytes / (gbps * 1e9 / 8)
            expected = alone_s / (alone_s + engine("vllm").handover.handover_s)
            assert float(share) == pytest.approx(expected, abs=0.006)
            assert not published or float(published) == pytest.approx(expected, abs=0.11)

"""A price list in another currency: what is printed and written is in it, nothing is converted or mixed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from provisioner.report.schema import schema
from tests.cli.conftest import Run

PRICES = """\
name: ours
date: 2026-10-01
currency: EUR
machines:
  dgx-h100: {cost_usd_per_h: 30.0, provisioned_power_w: 10200, source: our contract}
  dgx-a100: {cost_usd_per_h: 20.0, provisioned_power_w: 6500, source: our contract}
"""
ASK = ("--model", "llama2-70b", "--tp", "8", "--fast")
RATE = (*ASK, "--slo", "p99", "--rate", "20")
TWO = ("--design", "splitwise-hh", "--design", "baseline-h100")


@pytest.fixture
def prices(tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "ours.yaml").write_text(PRICES)
    return "--prices", "ours.yaml"


def keys_of(value: Any) -> Iterator[str]:
    """Every key of plain values, but of the options of the question."""
    for key, part in value.items() if isinstance(value, dict) else ():
        yield key
        yield from () if key == "question" else keys_of(part)
    for part in value if isinstance(value, list) else ():
        yield from keys_of(part)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (("plan", *RATE, *TWO), ("cost EUR ", " EUR/h kW ")),
        (("plan", *ASK, "--slo", "batch", *TWO, "--backlog", "50000", "--within", "2h"), ("million tokens for EUR 1",)),
        (
            ("compare", *ASK, "--slo", "p99", *TWO, "--same", "cost", "--budget", "300 EUR/h"),
            ("within EUR 300.00/h", "per EUR, x"),
        ),
        (("pareto", *RATE, *TWO), ("EUR/h",)),
        (("sensitivity", *RATE, "--design", "splitwise-hh"), ("price:dgx-h100 30.0 EUR/h", "EUR/h / 1.2")),
        (
            ("sweep", *ASK[:-1], "--slo", "p99", "--rate", "1", "--duration", "10", *TWO[2:], "--mixed", "1:2"),
            ("EUR/h",),
        ),
    ],
    ids=lambda value: value[0] if value[0] in ("plan", "compare", "pareto", "sensitivity", "sweep") else "",
)
def test_everything_is_in_the_currency_of_the_list(
    provision: Run, tmp_path: Path, prices: tuple[str, str], asked: tuple[str, ...], says: tuple[str, ...]
) -> None:
    ended = provision(*asked, *prices, "--out", "out/", "--out", "one.json")
    assert ended.code == 0, ended.err
    pages = {path.name: path.read_text() for path in (tmp_path / "out").iterdir()}
    pages["report.html"] = re.sub(r"(?s)<script.*?</script>|<style.*?</style>", "", pages["report.html"])
    for text in (ended.out, *pages.values()):
        assert not re.search(r"\$|usd|dollar", text, re.IGNORECASE)
    words = " ".join(ended.out.split())
    assert [text for text in says if text not in words] == []
    data = json.loads((tmp_path / "one.json").read_text())
    keys = set(keys_of(data))
    assert data["currency"] == "EUR" and "cost_eur_per_h" in keys and not any("usd" in key for key in keys)


def test_dollars_are_no_field(provision: Run) -> None:
    data = json.loads(provision("plan", *RATE, *TWO[:2], "--json").out)
    assert "currency" not in set(keys_of(data)) | set(keys_of(schema())) and "cost_usd_per_h" in data


def test_nothing_is_converted_or_mixed(provision: Run, tmp_path: Path, prices: tuple[str, str]) -> None:
    compared = provision("compare", *ASK, "--slo", "p99", *TWO, *prices, "--same", "cost", "--budget", "300 $/h")
    assert compared.code == 2
    assert compared.error == (
        "--budget: must be in EUR, got USD: the price list ours is in EUR, and nothing is converted"
    )
    capped = provision("plan", *RATE, *TWO, *prices, "--max-cost", "100")
    assert capped.code == 3 and "--max-cost EUR 100.00/h binds" in capped.err and "$" not in capped.err
    (tmp_path / "own" / "prices").mkdir(parents=True)
    (tmp_path / "own" / "prices" / "2026.yaml").write_text(PRICES.replace("ours", '"2026"'))
    mixed = provision("plan", *RATE, "--specs", "own")
    assert mixed.code == 2
    assert mixed.error == (
        "own/prices/2026.yaml: currency: must be USD, as that of the shipped list 2026, got EUR; "
        "give the list another name"
    )
    (tmp_path / "ours.yaml").write_text(PRICES.replace("EUR", "€"))
    assert (
        "currency: must be a code of three capitals, such as USD or EUR, got '€'"
        in provision("plan", *RATE, *prices).error
    )


def test_a_list_beside_the_shipped_ones_is_named_with_its_currency(provision: Run, tmp_path: Path) -> None:
    (tmp_path / "own" / "prices").mkdir(parents=True)
    (tmp_path / "own" / "prices" / "ours.yaml").write_text(PRICES)
    every = provision("machines", "--specs", "own").out
    assert "30.00 EUR" in every and "Prices are in $/h or EUR/h, by list" in every
    prices = json.loads(provision("machines", "dgx-h100", "--specs", "own", "--json").out)["prices"]
    assert (prices["ours"]["currency"], prices["ours"]["cost_eur_per_h"]) == ("EUR", 30.0)
    assert "currency" not in prices["2026"] and "cost_usd_per_h" in prices["2026"]

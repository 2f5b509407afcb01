"""The documents: links that resolve, no paths of one machine, and tables equal to what the code gives."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from provisioner.perf.assumptions import replica
from provisioner.perf.curves import CurveSet, curve_groups, load_curve_set
from provisioner.perf.memory import kv_capacity_tokens, memory_bytes
from provisioner.perf.summary import interpolation_error
from provisioner.perf.transfer import serialized_s
from provisioner.specs import catalog
from provisioner.specs.metrics import ALIASES
from provisioner.specs.roles import ROLE_ALIASES

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
HARDWARE = ROOT / "docs" / "reference" / "hardware.md"
DATA = ROOT / "docs" / "reference" / "data.md"

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|tmp|home|root|Users|mnt|opt|var)/|\b[A-Z]:\\")

Rows = list[list[str]]


def _prose(path: Path) -> str:
    """Text of a page without its code."""
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "", text)


def _anchors(path: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_resolve(page: Path) -> None:
    broken = []
    for target in LINK.findall(_prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        linked = (page.parent / name).resolve() if name else page
        there = linked.exists() and linked.is_relative_to(ROOT)
        if not there or (anchor and anchor not in _anchors(linked)):
            broken.append(target)
    assert not broken, f"{page.name}: {broken}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pages_name_no_path_of_one_machine(page: Path) -> None:
    assert not MACHINE_PATH.findall(page.read_text(encoding="utf-8"))


def test_the_check_of_paths_finds_them() -> None:
    for text in ("see /home/me/x", "(/tmp/a)", "in C:\\data"):
        assert MACHINE_PATH.search(text)
    for text in ("hardware_specs/curves/", "../shared/data", "https://a.b/home/x", "$/h"):
        assert not MACHINE_PATH.search(text)


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_sources_that_pages_name_exist(page: Path) -> None:
    text = re.sub(r"^```diff.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    named = re.findall(r"(?<![\w/.])((?:[\w-]+/)+[\w-]+\.py)\b", text)
    missing = [name for name in named if not any((root / name).is_file() for root in (ROOT, ROOT / "provisioner"))]
    assert not missing, f"{page.name}: {missing}"


def test_the_glossary_has_every_other_word_of_roles_and_metrics() -> None:
    text = (ROOT / "docs" / "reference" / "glossary.md").read_text(encoding="utf-8").lower()
    missing = [word for word in (*ROLE_ALIASES, *ALIASES) if not re.search(rf"\b{word.replace('_', ' ')}\b", text)]
    assert not missing


# --- tables of docs/reference/hardware.md -------------------------------------------------------------------------


def _table(page: Path, name: str) -> tuple[list[str], Rows]:
    """Header and rows of the table below ``<!-- checked: name -->``, without emphasis."""
    _, found, rest = page.read_text(encoding="utf-8").partition(f"<!-- checked: {name} -->\n")
    assert found, f"{page.name} has no table {name}"
    lines = []
    for line in rest.lstrip("\n").splitlines():
        if not line.startswith("|"):
            break
        lines.append([cell.strip().replace("`", "") for cell in line.strip("|").split("|")])
    assert len(lines) > 2 and all(set(cell) <= set("-:") for cell in lines[1])
    return lines[0], lines[2:]


def _curves(group: tuple[str, str, int]) -> CurveSet:
    return load_curve_set(catalog.model(group[0]), catalog.machine(group[1]), group[2])


def _by_group() -> list[tuple[str, str, int]]:
    """Groups in the order of the pages: by model, tensor parallelism, machine."""
    return sorted(curve_groups(), key=lambda group: (group[0], group[2], group[1]))


def _measured_machines() -> list[str]:
    """Machines with measured curves."""
    return sorted({machine for _, machine, _ in curve_groups()})


def _machines() -> Rows:
    return [
        [
            m.name,
            m.letter,
            f"{m.gpus}",
            f"{m.memory_gib_per_gpu:g}",
            f"{m.memory_bandwidth_gb_per_s:,g}",
            f"{m.peak_fp16_tflops:,g}",
            f"{m.peak_fp8_tflops:,g}" if m.peak_fp8_tflops else "",
            f"{m.gpu_tdp_w:,g}",
            f"{m.power_cap:g}",
            f"{m.max_power_w:,g}{' (est.)' if 'max_power_w is an estimate' in m.note else ''}",
            f"{m.gpu_link_gb_per_s:,g}",
            f"{m.network_gbps:,g}",
            ", ".join(filter(None, (m.kernels, f"like {m.kernels_like}" if m.kernels_like else ""))),
            f"{m.released}",
        ]
        for m in catalog.SHIPPED.whole_machines.values()
    ]


def _instances() -> Rows:
    """Instances of the clouds; the price is that of the list 2026."""
    prices = catalog.price_list("2026")
    return [
        [
            m.name,
            m.title.partition(":")[0],
            m.letter,
            f"{m.gpus}",
            m.gpu,
            f"{m.network_gbps:,g}{' (assumed)' if 'assumed' in m.network else ''}",
            f"{m.vcpus}" if m.vcpus else "",
            f"{m.host_memory_gib:,g}" if m.host_memory_gib else "",
            f"{prices.price(m.name).cost_usd_per_h:.2f}",
            f"{prices.price(m.name).cost_usd_per_h / m.gpus:.2f}",
            f"{m.max_power_w:,g}",
        ]
        for m in catalog.SHIPPED.machines.values()
        if m.cloud
    ]


def _power_caps() -> Rows:
    rows = catalog.with_own(None).power_caps.rows
    return [[f"{100 * row.cap:g}", f"{row.prompt_slowdown:g}", f"{row.token_slowdown:g}"] for row in rows]


def _models() -> Rows:
    return [
        [
            m.name,
            f"{m.layers}",
            f"{m.hidden_size:,}",
            f"{m.intermediate_size:,}",
            f"{m.heads}",
            f"{m.kv_heads}",
            f"{m.parameters / 1e9:g}",
            f"{m.weight_bytes / 1e9:g}",
            f"{m.kv_bytes_per_token:,.0f}",
            f"{m.trained_context_tokens:,}",
        ]
        for m in catalog.SHIPPED.models.values()
    ]


def _engines() -> Rows:
    return [
        [
            e.name,
            e.scheduling.order.removesuffix("-first"),
            ", ".join(dict.fromkeys(f"{batch.batch_tokens:,}" for batch in e.scheduling.batches)),
            ", ".join(dict.fromkeys(f"{batch.batch_requests:,}" for batch in e.scheduling.batches)),
            e.scheduling.admission,
            f"{1e3 * e.execution.iteration_s:g}",
            f"{1e3 * e.execution.sequence_s:g}",
            f"{1e3 * e.execution.prompt_layer_s:g}",
            f"{e.execution.elementwise_share:g}",
            f"{e.memory.share:g}",
        ]
        for e in catalog.SHIPPED.engines.values()
    ]


def _prices() -> Rows:
    return [
        [
            prices.name,
            prices.date,
            name,
            f"{price.cost_usd_per_h:.2f}",
            f"{price.cost_usd_per_h / catalog.machine(name).gpus:.2f}",
            f"{price.provisioned_power_w:,.0f}",
        ]
        for prices in map(catalog.price_list, catalog.SHIPPED.price_lists)
        for name, price in sorted(prices.machines.items())
        if not catalog.machine(name).cloud
    ]


def _workloads() -> Rows:
    return [
        [
            w.name,
            f"{w.rate_rps:.3g}",
            *(f"{w.quantile('prompt', q):,.0f}" for q in (0.5, 0.9, 0.99)),
            f"{w.mean_prompt_tokens:,.0f}",
            *(f"{w.quantile('output', q):,.0f}" for q in (0.5, 0.9, 0.99)),
            f"{w.mean_output_tokens:,.0f}",
            f"{w.classes:,}",
            "" if w.context_share_reused is None else f"{100 * w.context_share_reused:.0f}",
        ]
        for w in map(catalog.workload, catalog.workloads())
    ]


def _memory() -> Rows:
    rows = []
    for model, tp in sorted({(model, tp) for model, _, tp in curve_groups()}):
        each = []
        for machine in map(catalog.machine, _measured_machines()):
            architecture = catalog.model(model)
            measured, parts = kv_capacity_tokens(architecture, machine, tp), memory_bytes(architecture, machine, tp)
            each.append(
                [
                    model,
                    f"{tp}",
                    f"{parts['weights'] / 1e9:.1f}",
                    f"{(sum(parts.values()) - parts['weights'] - parts['KV cache']) / 1e9:.1f}",
                    f"{measured:,.0f}",
                    f"{measured // (1500 + 13):,.0f}",
                    f"{measured // (1020 + 129):,.0f}",
                    f"{kv_capacity_tokens(architecture, machine, tp, 'splitwise-sim'):,.0f}",
                ]
            )
        assert each[0] == each[1] == each[2]  # all three measured machines have 80 GiB a GPU
        rows.append(each[0])
    return rows


def _transfer() -> Rows:
    """BLOOM-176B and a prompt of 1,500 tokens, as in the paper, whose values are in the last columns."""
    paper = {"dgx-a100": ("8", ""), "dgx-h100": ("5", "512"), "dgx-h100-capped": ("", "")}
    rows = []
    for machine in _measured_machines():
        bloom = replica("bloom-176b", machine)
        tokens = np.arange(1, 4000)
        serialized = serialized_s(tokens * bloom.kv_bytes_per_token, bloom.link_bytes_per_s)
        visible = bloom.transfer_visible_s(tokens, bloom)
        first = int(tokens[(visible < serialized).argmax()])
        prompt_s, decode_s = float(bloom.prompt_s(1500)), float(bloom.decode_s(1, 1500))
        rows.append(
            [
                machine,
                f"{bloom.link_bytes_per_s / 1e9:g}",
                f"{1e3 * serialized[1499]:.1f}",
                f"{1e3 * visible[1499]:.1f}",
                paper[machine][0],
                f"{100 * visible[1499] / prompt_s:.1f}",
                f"{100 * visible[1499] / decode_s:.1f}",
                f"{100 * serialized[1499] / decode_s:.1f}",
                f"{first}",
                paper[machine][1],
            ]
        )
    return rows


def _curve_values() -> Rows:
    rows = []
    for group in _by_group():
        curves = _curves(group)
        assert curves.context is not None
        largest = curves.decode_batch_range[1]
        rows.append(
            [
                *(group[0], group[1], f"{group[2]}"),
                *(f"{1e3 * float(curves.prompt_s(tokens)):,.0f}" for tokens in (512, 2048, 8192)),
                f"{1e3 * float(curves.decode_s(1, 576)):.1f}",
                f"{largest}",
                f"{1e3 * float(curves.decode_s(largest, 576 * largest)):.1f}",
                f"{1e9 * curves.context.floor_s_per_token:.1f}",
                f"{curves.context.fitted_s_per_token / curves.context.floor_s_per_token:.1f}",
                f"{1e9 * curves.slope_s_per_context_token:.1f}",
            ]
        )
    return rows


def _refused() -> Rows:
    rows = []
    for group in _by_group():
        curves = _curves(group)
        if not curves.refused:
            continue
        assert [(r.point.prompt_tokens, r.point.batch) for r in curves.refused] == [(512, 64)] * 2
        at = {(p.phase, p.batch): 1e3 * p.latency_s for p in curves.points if p.prompt_tokens == 512 and p.batch > 1}
        cells = [f"{at[phase, batch]:,.1f}" for phase in ("prompt", "decode") for batch in (32, 64)]
        rows.append([group[0], group[1], f"{group[2]}", *cells])
    return rows


def _dips() -> Rows:
    return [
        [*(group[0], group[1], f"{group[2]}"), *(dip.phase, f"{dip.at:g}"), *_ms(dip.measured_s, dip.used_s)]
        for group in _by_group()
        if group[1] != "dgx-h100-capped"
        for dip in _curves(group).dips
    ]


def _ms(*seconds: float) -> list[str]:
    return [f"{1e3 * value:.2f}" for value in seconds]


def _errors() -> Rows:
    rows = []
    means = []
    for group in _by_group():
        if group[1] == "dgx-h100-capped":
            continue
        runs = interpolation_error(_curves(group), "repeats")
        points = interpolation_error(_curves(group), "points")
        tokens, beyond, batch, beyond_batch, context = points
        assert beyond.bias is not None and beyond_batch.bias is not None
        means.append([e.mape for e in (*runs, *points)])
        rows.append(
            [
                *(group[0], group[1], f"{group[2]}"),
                *(f"{100 * e.mape:.1f}" for e in runs),
                f"{100 * tokens.mape:.1f} / {100 * tokens.largest:.1f}",
                f"{100 * beyond.bias:+.1f}",
                f"{100 * batch.mape:.1f} / {100 * batch.largest:.1f}",
                f"{100 * beyond_batch.bias:+.1f}",
                f"{100 * context.mape:.1f} / {100 * context.largest:.1f}",
            ]
        )
    mean = [f"{100 * value:.1f}" for value in np.mean(means, axis=0)]
    return [*rows, ["mean size", "", "", *mean]]


TABLES: dict[str, Callable[[], Rows]] = {
    "machines": _machines,
    "instances": _instances,
    "power caps": _power_caps,
    "models": _models,
    "prices": _prices,
    "memory": _memory,
    "transfer": _transfer,
    "engines": _engines,
    "curves": _curve_values,
    "refused": _refused,
    "dips": _dips,
    "errors": _errors,
}


def _as_markdown(rows: Rows) -> Iterator[str]:
    for row in rows:
        yield f"| {' | '.join(row)} |"


def test_the_table_of_workloads_of_data_md_is_what_the_files_give() -> None:
    header, rows = _table(DATA, "workloads")
    assert {len(row) for row in rows} == {len(header)}
    assert rows == _workloads(), "\n".join(["the rows should be:", *_as_markdown(_workloads())])


def test_every_shipped_workload_has_its_row_of_provenance() -> None:
    text = DATA.read_text(encoding="utf-8")
    for name in catalog.workloads():
        assert f"`workloads/{name}.*`" in text


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_of_hardware_md_are_what_the_code_gives(name: str) -> None:
    header, rows = _table(HARDWARE, name)
    expected = TABLES[name]()
    assert {len(row) for row in rows} == {len(header)}
    assert rows == expected, "\n".join(["the rows should be:", *_as_markdown(expected)])


def test_every_table_of_hardware_md_is_checked() -> None:
    text = HARDWARE.read_text(encoding="utf-8")
    assert re.findall(r"<!-- checked: ([\w ]+) -->\n\n?\|", text) == list(TABLES)
    assert len(re.findall(r"^\|[-:| ]+\|$", text, flags=re.MULTILINE)) == len(TABLES)


def test_the_capped_machine_has_the_errors_of_the_uncapped_one() -> None:
    """Its curves are the same up to a factor: the table of errors leaves it out."""
    for model, machine, tp in curve_groups():
        if machine != "dgx-h100-capped":
            continue
        for how in ("repeats", "points"):
            capped, full = (
                interpolation_error(_curves((model, at, tp)), "repeats" if how == "repeats" else "points")
                for at in (machine, "dgx-h100")
            )
            for a, b in zip(capped, full, strict=True):
                assert (a.axis, a.left_out) == (b.axis, b.left_out)
                assert (a.mape, a.largest) == pytest.approx((b.mape, b.largest), rel=1e-3)

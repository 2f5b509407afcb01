"""The findings of a reproduction: each published result beside ours, and why they differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from provisioner.results.reproduction import Finding, Values
from provisioner.studies.splitwise import paper

Known = Mapping[str, Values]
"""Values of the experiments by name, under one set of assumptions."""

Both = tuple[Known, Known]
"""Those by the published simulator's rules, and those as measured."""

_SPLITS: Final = (
    "splits lie on a plateau: a machine moved from one pool to the other changes the throughput by less than the noise "
    "of verdicts (Splitwise-HH, conversation: 23 + 17, 24 + 16, 25 + 15 and 26 + 14 pass within 0.3 % of the same rate)"
)
_MODEL: Final = "the clusters are those found here for BLOOM-176B, not the paper's"
_WORKLOAD: Final = (
    "the clusters are those found here for coding, not the paper's; with the measured decode curve a cluster for short "
    "outputs has too few token machines for long ones: a flat curve hides it"
)
_CURVES: Final = (
    "the shipped curves are those of the published repository; the paper's own may be of another software version"
)
_FIG_12: Final = (
    "the paper judges one trace of two minutes, we several request sets by an upper confidence bound; decoding "
    "that slows with the batch needs more token machines"
)
_LINKS: Final = (
    "the published simulator has one link of 200 GiB/s, never overlapped; ours are the ports of the machine, "
    "overlapped with the prompt by layer"
)
_SATURATED: Final = (
    "the paper's dollars count one GPU of each machine, and so do these; saturated by a closed loop of 100 "
    "requests for each machine, the paper's own load is not stated"
)
_HA: Final = (
    "Splitwise-HA's figures, listed against Baseline-A100, fit Baseline-H100: by the published simulator's "
    "rules it serves more at less cost than that by about as much"
)
_LARGEST: Final = "throughputs are the largest at which a cluster within the budget passes, each proven to 1 %"
_BELOW: Final = (
    "a cluster takes no more machines than its largest throughput needs, so that it may stay below the budget"
)
_OWN_RATE: Final = "at the throughput that our Baseline-H100 reaches with 40 machines, not the paper's"


def _times(value: float) -> str:
    return f"{value:.2f}x"


def _per_cent(value: float) -> str:
    return f"{100.0 * value:.1f} %"


def _ms(value: float) -> str:
    return f"{1e3 * value:.1f} ms"


def _one_digit(value: float) -> str:
    return f"{value:.1f}"


_MACHINES: Final = (
    (
        "Table IV",
        "Llama2-70B alone, TTFT of the H100 over the A100",
        "0.51x",
        "ttft_h100_a100",
        _times,
        "the paper's is the P50 over its trace, ours that of the median coding request",
    ),
    (
        "Table IV",
        "Llama2-70B alone, TBT of the H100 over the A100",
        "0.70x",
        "tbt_h100_a100",
        _times,
        f"as above; {_CURVES}",
    ),
    (
        "Machine behaviour",
        "output tokens that take as long as a prompt of 1,500 tokens (BLOOM-176B, H100)",
        "about 6",
        "prompt_in_tokens",
        _one_digit,
        _CURVES,
    ),
    (
        "Machine behaviour",
        "TBT at a batch of 64 over that of one (BLOOM-176B, H100)",
        "about 2x",
        "tbt_64",
        _times,
        "the published simulator reads its token curve at the batch's tokens, where it is flat; the measured is not",
    ),
    (
        "Machine behaviour",
        "prompt tokens/s at 8,192 batched tokens over those at 2,048",
        "falls past 2,048",
        "prompt_rate_8192_2048",
        _times,
        "8,192 is beyond the largest measured prompt batch: extrapolated",
    ),
    (
        "Power cap",
        "token phase of the H100 capped to half its GPU power, over the uncapped",
        "unchanged",
        "capped_decode",
        _times,
        "assumed by the published curves, not measured here",
    ),
    (
        "Power cap",
        "prompt phase of the H100 capped to half its GPU power, over the uncapped",
        "slower, substantially",
        "capped_prompt",
        _times,
        "assumed by the published curves: exactly 1.3",
    ),
)
"""Results of one machine: experiment, result, what is published, the value's name and form, and why they differ."""

_TRANSFER: Final = (
    ("dgx-a100", "visible_s", _ms, "visible transfer of 1,500 tokens, A100", "about 8 ms"),
    ("dgx-h100", "visible_s", _ms, "visible transfer of 1,500 tokens, H100", "about 5 ms"),
    ("dgx-h100", "of_prompt", _per_cent, "visible transfer, of the prompt's time", "under 7 %"),
    ("dgx-h100", "of_e2e", _per_cent, "visible transfer, of E2E (1,500 + 13 tokens)", "0.8 %"),
    ("dgx-h100", "of_e2e_serialized", _per_cent, "the same, serialized", "3 %"),
    ("dgx-h100", "of_second_token", _per_cent, "delay of the second token", "+16.5 %"),
    ("dgx-h100", "of_second_token_serialized", _per_cent, "the same, serialized", "+64 %"),
)
"""Results of the transfer: machine, the value's name and form, result, and what is published."""

_IN_HAND: Final = "{what} of {design} over {base}"
_AT_ITS_RATE: Final = f"{_IN_HAND}, at its throughput"

_RATIOS: Final = {
    "iso-power-conversation": (
        _IN_HAND,
        (
            ("throughput", "Splitwise-AA", "Baseline-A100", "2.15x", _LARGEST),
            ("throughput", "Splitwise-HH", "Baseline-A100", "", ""),
            ("throughput", "Splitwise-HA", "Baseline-A100", "1.18x", _HA),
            ("cost", "Splitwise-HA", "Baseline-A100", "0.90x", _HA),
            ("throughput", "Splitwise-HA", "Baseline-H100", "", _HA),
            ("cost", "Splitwise-HA", "Baseline-H100", "", _HA),
            ("throughput", "Splitwise-HH", "Baseline-H100", "", ""),
            ("throughput", "Splitwise-HH", "Baseline-H100, chunked", "", ""),
        ),
    ),
    "iso-cost-conversation": (
        _IN_HAND,
        (
            ("throughput", "Splitwise-AA", "Baseline-H100", "1.40x", _BELOW),
            ("power", "Splitwise-AA", "Baseline-H100", "1.25x", _BELOW),
            ("machines", "Splitwise-AA", "Baseline-H100", "2x", _BELOW),
        ),
    ),
    "iso-throughput-power": (
        _AT_ITS_RATE,
        (
            ("power", "Splitwise-HHcap", "Baseline-H100", "0.75x", _OWN_RATE),
            ("cost", "Splitwise-HHcap", "Baseline-H100", "1x", _OWN_RATE),
            ("machines", "Splitwise-HHcap", "Baseline-H100", "1x", _OWN_RATE),
        ),
    ),
    "iso-throughput-cost": (_AT_ITS_RATE, (("cost", "Splitwise-AA", "Baseline-H100", "0.75x", _OWN_RATE),)),
}
"""Ratios of two designs by experiment: how they are told, then what, both designs, what is published, and why not."""


def findings(simulator: Known, measured: Known) -> Iterator[Finding]:
    """All findings for which something was computed, in the order of the paper."""
    both = (simulator, measured)
    if "machines" in simulator:
        for experiment, result, published, key, text, remark in _MACHINES:
            yield _beside(experiment, result, published, (text(known["machines"][key]) for known in both), remark)
    if measured.get("curves"):
        yield _curves(measured["curves"])
    if "transfer" in simulator:
        for machine, key, text, result, published in _TRANSFER:
            ours = (text(known["transfer"][machine][key]) for known in both)
            yield _beside("KV-cache transfer", result, published, ours, _LINKS)
    if "fig-12" in simulator:
        result = "cheapest Splitwise-HH for coding at 70 requests/s (prompt + token)"
        yield _beside("Fig. 12", result, _joined(paper.FIG_12), (_sizes(known["fig-12"]) for known in both), _FIG_12)
    for name, title, sizes in (
        ("iso-power-coding", "Iso-power, coding", paper.ISO_POWER_CODING),
        ("iso-power-conversation", "Iso-power, conversation", paper.ISO_POWER_CONVERSATION),
        ("iso-cost-conversation", "Iso-cost, conversation", paper.ISO_COST_CONVERSATION),
    ):
        if name in simulator:
            yield from _clusters(name, title, sizes, both)
            yield from _ratios(name, title, both)
    for objective in ("power", "cost"):
        name, title = f"iso-throughput-{objective}", f"Iso-throughput, {objective}-optimal"
        if name in simulator:
            yield from _ratios(name, title, both)
            best = (_best(known[name], objective) for known in both)
            yield _beside(title, f"the design with the least {objective}", paper.ISO_THROUGHPUT_BEST[objective], best)
    if "changed-workload" in simulator:
        what, published_loss = "Conversation on the coding cluster", paper.CHANGED_WORKLOAD_LOSS
        yield from _changed("changed-workload", "Changed workload", what, published_loss, _WORKLOAD, both)
    if "changed-model" in simulator:
        yield from _changed("changed-model", "Changed model", "Llama2-70B on BLOOM-176B's cluster", {}, _MODEL, both)
    if "batch" in simulator:
        yield from _batch(both)


def _beside(experiment: str, result: str, published: str, ours: Iterable[str], remark: str = "") -> Finding:
    """A published result beside ours by the published simulator's rules, and as measured."""
    simulator, measured = ours
    return Finding(experiment, result, published, simulator, measured, remark)


def _curves(errors: Values) -> Finding:
    return Finding(
        "Performance model",
        "error on a fifth of the measurements left out (MAPE)",
        "below 3 %",
        "",
        ", ".join(f"{phase} {_per_cent(error)}" for phase, error in errors.items()) + " at most",
        "" if max(errors.values()) < 0.03 else "ours is the worst of all models and machines, the paper's over all",
    )


def _joined(sizes: Sequence[int]) -> str:
    return " + ".join(map(str, sizes))


def _sizes(values: Values) -> str:
    return _joined(values.get("sizes") or ()) or "none"


def _labels(name: str, both: Both, first: Iterable[str] = ()) -> list[str]:
    return list(dict.fromkeys([*first, *both[0][name], *both[1][name]]))


def _clusters(name: str, title: str, published: Mapping[str, paper.Sizes], both: Both) -> Iterator[Finding]:
    """The sizes and throughputs of every design."""

    def cluster(values: Values | None) -> str:
        if values is None:
            return ""
        return f"{_sizes(values)}, {values['throughput']:.1f} requests/s" if values["sizes"] else "no plan"

    for label in _labels(name, both, published):
        sizes = published.get(label, ())
        ours = (cluster(known[name].get(label)) for known in both)
        remark = _SPLITS if len(sizes) > 1 else ""
        yield _beside(title, f"{label}: machines (prompt + token)", _joined(sizes), ours, remark)


def _ratios(name: str, title: str, both: Both) -> Iterator[Finding]:
    """A total of one design over that of another; empty under assumptions without the other."""

    def ratio(clusters: Values, design: str, base: str, what: str) -> str:
        if base not in clusters:
            return ""
        mine, other = clusters.get(design), clusters[base]
        if not mine or not mine["sizes"] or not other["sizes"]:
            return "none"
        return _times(float(mine[what]) / float(other[what]))

    phrase, rows = _RATIOS.get(name, ("", ()))
    for what, design, base, published, remark in rows:
        ours = (ratio(known[name], design, base, what) for known in both)
        yield _beside(title, phrase.format(what=what, design=design, base=base), published, ours, remark)


def _best(clusters: Values, objective: str) -> str:
    totals = {label: values[objective] for label, values in clusters.items() if values["sizes"]}
    return min(totals, key=lambda label: totals[label]) if totals else "none"


def _changed(
    name: str, title: str, what: str, published: Mapping[str, float], remark: str, both: Both
) -> Iterator[Finding]:
    """The throughput that clusters lose on what they were not made for."""
    for label in _labels(name, both):
        loss = published.get(label)
        shown = "" if loss is None else _per_cent(loss) if loss else "none"
        ours = (_per_cent(values["loss"]) if (values := known[name].get(label)) else "" for known in both)
        yield _beside(title, f"{what}, {label}: throughput lost", shown, ours, remark)


def _batch(both: Both) -> Iterator[Finding]:
    def saturated(values: Values | None) -> str:
        if not values:
            return ""
        return f"{paper.GPUS * values['rps_per_usd_per_h']:.2f} ({values['throughput']:.0f} requests/s)"

    for label in _labels("batch", both):
        value = paper.BATCH_RPS_PER_USD.get(label)
        ours = (saturated(known["batch"].get(label)) for known in both)
        published = "" if value is None else f"{value:.2f}"
        yield _beside("Batch job", f"requests/s for a dollar at saturation, {label}", published, ours, _SATURATED)

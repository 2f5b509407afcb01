"""The findings of a reproduction: each published result beside ours, and why they differ."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Final

from provisioner.results.reproduction import Finding, Values
from provisioner.specs.units import format_share
from provisioner.studies.splitwise import paper

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
_MEDIAN: Final = "the paper's is the P50 over its trace, ours that of the median coding request"
_FLAT: Final = (
    "the published simulator reads its token curve at the batch's tokens, where it is flat; the measured is not"
)
_EXTRAPOLATED: Final = "8,192 is beyond the largest measured prompt batch: extrapolated"
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

_times: Final = "{:.2f}x".format
_one_digit: Final = "{:.1f}".format


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.1f} ms"


_ALONE: Final = {
    "Table IV": (
        ("ttft_h100_a100", _times, "0.51x", _MEDIAN),
        ("tbt_h100_a100", _times, "0.70x", f"as above; {_CURVES}"),
    ),
    "Machine behaviour": (
        ("prompt_in_tokens", _one_digit, "about 6", _CURVES),
        ("tbt_64", _times, "about 2x", _FLAT),
        ("prompt_rate_8192_2048", _times, "falls past 2,048", _EXTRAPOLATED),
    ),
    "Power cap": (
        ("capped_decode", _times, "unchanged", "assumed by the published curves, not measured here"),
        ("capped_prompt", _times, "slower, substantially", "assumed by the published curves: exactly 1.3"),
    ),
}
"""Results of one machine by experiment: the value's name and form, what is published, and why they differ."""

_ALONE_TITLES: Final = {
    "ttft_h100_a100": "Llama2-70B alone, TTFT of the H100 over the A100",
    "tbt_h100_a100": "Llama2-70B alone, TBT of the H100 over the A100",
    "prompt_in_tokens": "output tokens that take as long as a prompt of 1,500 tokens (BLOOM-176B, H100)",
    "tbt_64": "TBT at a batch of 64 over that of one (BLOOM-176B, H100)",
    "prompt_rate_8192_2048": "prompt tokens/s at 8,192 batched tokens over those at 2,048",
    "capped_decode": "token phase of the H100 capped to half its GPU power, over the uncapped",
    "capped_prompt": "prompt phase of the H100 capped to half its GPU power, over the uncapped",
}
"""The results of one machine in words, by the value's name."""

_TRANSFER: Final = (
    ("dgx-a100", "visible_s", _ms, "about 8 ms", "visible transfer of 1,500 tokens, A100"),
    ("dgx-h100", "visible_s", _ms, "about 5 ms", "visible transfer of 1,500 tokens, H100"),
    ("dgx-h100", "of_prompt", format_share, "under 7 %", "visible transfer, of the prompt's time"),
    ("dgx-h100", "of_e2e", format_share, "0.8 %", "visible transfer, of E2E (1,500 + 13 tokens)"),
    ("dgx-h100", "of_e2e_serialized", format_share, "3 %", "the same, serialized"),
    ("dgx-h100", "of_second_token", format_share, "+16.5 %", "delay of the second token"),
    ("dgx-h100", "of_second_token_serialized", format_share, "+64 %", "the same, serialized"),
)
"""Results of the transfer: machine, the value's name and form, what is published, and result."""

_Both = tuple[Values, Values]  # the values of an experiment by the published simulator's rules, and as measured

_Ratio = tuple[str, str, str, str, str]
"""A total of one design over that of another: what, both designs, what is published, and why they differ."""

_ISO_POWER_RATIOS: Final[tuple[_Ratio, ...]] = (
    ("throughput", "Splitwise-AA", "Baseline-A100", "2.15x", _LARGEST),
    ("throughput", "Splitwise-HH", "Baseline-A100", "", ""),
    ("throughput", "Splitwise-HA", "Baseline-A100", "1.18x", _HA),
    ("cost", "Splitwise-HA", "Baseline-A100", "0.90x", _HA),
    ("throughput", "Splitwise-HA", "Baseline-H100", "", _HA),
    ("cost", "Splitwise-HA", "Baseline-H100", "", _HA),
    ("throughput", "Splitwise-HH", "Baseline-H100", "", ""),
    ("throughput", "Splitwise-HH", "Baseline-H100, chunked", "", ""),
)
_ISO_COST_RATIOS: Final[tuple[_Ratio, ...]] = (
    ("throughput", "Splitwise-AA", "Baseline-H100", "1.40x", _BELOW),
    ("power", "Splitwise-AA", "Baseline-H100", "1.25x", _BELOW),
    ("machines", "Splitwise-AA", "Baseline-H100", "2x", _BELOW),
)
_LEAST_POWER_RATIOS: Final[tuple[_Ratio, ...]] = (
    ("power", "Splitwise-HHcap", "Baseline-H100", "0.75x", _OWN_RATE),
    ("cost", "Splitwise-HHcap", "Baseline-H100", "1x", _OWN_RATE),
    ("machines", "Splitwise-HHcap", "Baseline-H100", "1x", _OWN_RATE),
)
_LEAST_COST_RATIOS: Final[tuple[_Ratio, ...]] = (("cost", "Splitwise-AA", "Baseline-H100", "0.75x", _OWN_RATE),)


def findings(simulator: Mapping[str, Values], measured: Mapping[str, Values]) -> Iterator[Finding]:
    """All findings of experiments by the published simulator's rules, and as measured, in the order of the paper."""
    for name, told in _TOLD.items():
        if name in simulator:
            yield from told((simulator[name], measured[name]))


def _beside(experiment: str, result: str, published: str, ours: Iterable[str], remark: str = "") -> Finding:
    """A published result beside ours by the published simulator's rules, and as measured."""
    simulator, measured = ours
    return Finding(experiment, result, published, simulator, measured, remark)


def _machines(both: _Both) -> Iterator[Finding]:
    for experiment, rows in _ALONE.items():
        for key, text, published, remark in rows:
            ours = (text(values[key]) for values in both)
            yield _beside(experiment, _ALONE_TITLES[key], published, ours, remark)


def _curves(both: _Both) -> Iterator[Finding]:
    _, errors = both
    if errors:
        result = "error on a fifth of the measurements left out (MAPE)"
        ours = ", ".join(f"{phase} {format_share(error)}" for phase, error in errors.items())
        remark = (
            "" if max(errors.values()) < 0.03 else "ours is the worst of all models and machines, the paper's over all"
        )
        yield Finding("Performance model", result, "below 3 %", "", f"{ours} at most", remark)


def _transfer(both: _Both) -> Iterator[Finding]:
    for machine, key, text, published, result in _TRANSFER:
        yield _beside("KV-cache transfer", result, published, (text(values[machine][key]) for values in both), _LINKS)


def _fig_12(both: _Both) -> Iterator[Finding]:
    result = "cheapest Splitwise-HH for coding at 70 requests/s (prompt + token)"
    yield _beside("Fig. 12", result, _joined(paper.FIG_12), map(_sizes, both), _FIG_12)


def _joined(sizes: Iterable[int]) -> str:
    return " + ".join(map(str, sizes))


def _sizes(values: Values) -> str:
    return _joined(values["sizes"]) or "none"


def _clusters(
    both: _Both, told: Callable[[Values], str], published: Iterable[str] = ()
) -> Iterator[tuple[str, list[str]]]:
    """The label of every cluster with both of ours; "" under assumptions without it."""
    for label in dict.fromkeys([*published, *both[0], *both[1]]):
        yield label, [told(clusters[label]) if clusters.get(label) else "" for clusters in both]


def _iso(experiment: str, sizes: Mapping[str, paper.Sizes], ratios: Sequence[_Ratio], both: _Both) -> Iterator[Finding]:
    """The sizes and throughputs of every design, and ratios."""

    def cluster(values: Values) -> str:
        return f"{_sizes(values)}, {values['throughput']:.1f} requests/s" if values["sizes"] else "no plan"

    for label, ours in _clusters(both, cluster, sizes):
        published = sizes.get(label, ())
        remark = _SPLITS if len(published) > 1 else ""
        yield _beside(experiment, f"{label}: machines (prompt + token)", _joined(published), ours, remark)
    yield from _ratios(experiment, "", ratios, both)


def _iso_throughput(objective: str, ratios: Sequence[_Ratio], both: _Both) -> Iterator[Finding]:
    """Ratios at one throughput, and the design with the least of the objective."""
    experiment = f"Iso-throughput, {objective}-optimal"

    def best(clusters: Values) -> str:
        totals = {label: values[objective] for label, values in clusters.items() if values["sizes"]}
        return min(totals, key=lambda label: totals[label]) if totals else "none"

    yield from _ratios(experiment, ", at its throughput", ratios, both)
    published = paper.ISO_THROUGHPUT_BEST[objective]
    yield _beside(experiment, f"the design with the least {objective}", published, map(best, both))


def _ratios(experiment: str, where: str, ratios: Sequence[_Ratio], both: _Both) -> Iterator[Finding]:
    """A total of one design over that of another; empty under assumptions without the other."""

    def ratio(clusters: Values, design: str, base: str, what: str) -> str:
        if base not in clusters:
            return ""
        mine, other = clusters.get(design), clusters[base]
        if not mine or not mine["sizes"] or not other["sizes"]:
            return "none"
        return _times(float(mine[what]) / float(other[what]))

    for what, design, base, published, remark in ratios:
        ours = (ratio(clusters, design, base, what) for clusters in both)
        yield _beside(experiment, f"{what} of {design} over {base}{where}", published, ours, remark)


def _changed(experiment: str, what: str, published: Mapping[str, float], remark: str, both: _Both) -> Iterator[Finding]:
    """The throughput that clusters lose on what they were not made for."""
    for label, ours in _clusters(both, lambda values: format_share(values["loss"])):
        loss = published.get(label)
        shown = "" if loss is None else format_share(loss) if loss else "none"
        yield _beside(experiment, f"{what}, {label}: throughput lost", shown, ours, remark)


def _batch(both: _Both) -> Iterator[Finding]:
    def saturated(values: Values) -> str:
        return f"{paper.GPUS * values['rps_per_usd_per_h']:.2f} ({values['throughput']:.0f} requests/s)"

    for label, ours in _clusters(both, saturated):
        value = paper.BATCH_RPS_PER_USD.get(label)
        published = "" if value is None else f"{value:.2f}"
        yield _beside("Batch job", f"requests/s for a dollar at saturation, {label}", published, ours, _SATURATED)


_TOLD: Final[Mapping[str, Callable[[_Both], Iterator[Finding]]]] = {
    "machines": _machines,
    "curves": _curves,
    "transfer": _transfer,
    "fig-12": _fig_12,
    "iso-power-coding": partial(_iso, "Iso-power, coding", paper.ISO_POWER_CODING, ()),
    "iso-power-conversation": partial(_iso, "Iso-power, conversation", paper.ISO_POWER_CONVERSATION, _ISO_POWER_RATIOS),
    "iso-cost-conversation": partial(_iso, "Iso-cost, conversation", paper.ISO_COST_CONVERSATION, _ISO_COST_RATIOS),
    "iso-throughput-power": partial(_iso_throughput, "power", _LEAST_POWER_RATIOS),
    "iso-throughput-cost": partial(_iso_throughput, "cost", _LEAST_COST_RATIOS),
    "changed-workload": partial(
        _changed, "Changed workload", "Conversation on the coding cluster", paper.CHANGED_WORKLOAD_LOSS, _WORKLOAD
    ),
    "changed-model": partial(_changed, "Changed model", "Llama2-70B on BLOOM-176B's cluster", {}, _MODEL),
    "batch": _batch,
}
"""The findings of every experiment by name, in the order of the paper."""

"""Values of options and arguments by their placeholder in help: good ones near the edges, wrong ones, odd ones.

A new option has the values of its placeholder, the words and examples of its help, and odd ones. A new placeholder is a
row of ``VALUES``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final

from provisioner.cli.commands import command
from provisioner.errors import InputError
from provisioner.options import FACTORS, MACHINE_FACTORS, Option, Options
from provisioner.options.base import declared
from tests.fuzz.files import CHANGES, DEVICES, GOOD, KEPT, ODD

_NO_NUMBER: Final = ("nan", "inf", "-inf", "1e400", "x", "1;2", "--")


@dataclass(frozen=True)
class Values:
    """Good values, values that have to be refused, and values that may be either."""

    good: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    odd: tuple[str, ...] = ()


def _number(*good: str, wrong: Sequence[str] = ("-1",), odd: Sequence[str] = ()) -> Values:
    few = ("1e-300", "1e300", "1.7976931348623157e308", "1_000", "٣", "0x10", "1e9")
    return Values(good, (*_NO_NUMBER, *wrong), (*few, *odd))


def _whole(*good: str, odd: Sequence[str] = ("0", "4294967296", "9223372036854775808", "1000000")) -> Values:
    return _number(*good, wrong=("-1", "0.5", "1e-3"), odd=odd)


def _listed(each: Values, *more: str) -> Values:
    pairs = tuple(f"{one},{other}" for one, other in zip(each.good, each.good[1:], strict=False))
    return Values((*each.good, *pairs, *more), (*each.wrong, "1,,2", "1,x"), (*each.odd, ",".join(["3"] * 100)))


_COUNT: Final = _whole("1", "2", "3", "7")
_GPUS: Final = _whole("1", "2", "4", "8", odd=("0", "3", "16", "1000000"))
_TOKENS: Final = _whole("1", "128", "2048", "8192")
_RATE: Final = _number("0.1", "1", "2.5", "20", wrong=("-1", "0"), odd=("1e6", "1e-9"))
_SCALED: Final = (*FACTORS, *(f"{name}:dgx-h100" for name in MACHINE_FACTORS), *MACHINE_FACTORS)

VALUES: Final[Mapping[str, Values]] = {
    "NUMBER": _whole("0", "1", "4294967295", "18446744073709551615", odd=("18446744073709551616", "1e300")),
    "COUNT": _COUNT,
    "COUNT,...": _listed(_COUNT),
    "GPUS": _GPUS,
    "GPUS,...": _listed(_GPUS),
    "TOKENS": _TOKENS,
    "TOKENS,...": _listed(_TOKENS),
    "TOKENS|ROLE=TOKENS": Values(
        (*_TOKENS.good, "prompt=4096", "prefill=512,token=2048", "mixed=128"),
        (*_TOKENS.wrong, "prompt=", "prompt=0", "=512", "prompt=1,prefill=2", "all=512"),
        _TOKENS.odd,
    ),
    "REQUESTS": _whole("1", "10", "1k", "0.5k", odd=("1000M", "k", "0")),
    "RATE": _RATE,
    "RATE,...": _listed(_RATE),
    "RATIO,...": _listed(_number("0.1", "1", "10", wrong=("-1", "0"))),
    "CV": _number("0", "0.5", "1", "4", "13", odd=("1e6", "100", "1e-6")),
    "FACTOR": _number("1.01", "1.3", "5", wrong=("-1", "0", "1"), odd=("1.0000001", "1e6")),
    "COST": _number("1", "98.32", "400", wrong=("-1", "0")),
    "PERCENT": _number("50", "95", "99.9", "0.1", wrong=("-1", "0", "101"), odd=("100", "99.9999999")),
    "PERCENT,...": _listed(_number("50", "70", "100", wrong=("-1", "0"), odd=("1", "101"))),
    "SHARE": _number("0.1", "10%", "0.5", "0.6", "0.99", wrong=("-0.1", "nan%", "%"), odd=("0", "1", "0%", "100%")),
    "TIME": _number("1s", "2", "500ms", "0.1min", wrong=("-1s", "1 parsec", "nans", "infs"), odd=("0s", "1us", "1e9s")),
    "DURATION": _number("60s", "5min", "8h", wrong=("-1s", "0s", "60", "1 day"), odd=("1us", "1e9h")),
    "POWER": _number("10200", "40kW", "0.4 MW", "408000w", wrong=("-1", "0", "0W", "1 hp", "kW", "nankW")),
    "SIZE": _number("24GiB", "80 GB", "1TiB", wrong=("-1GiB", "0GB", "24", "GiB", "nanGiB")),
    "AMOUNT": _number("4", "40kW", "100 $/h", "2 dgx-h100", wrong=("0", "-1", "1 hp", "2 nope", "nan kW")),
    "LIMIT": _number("2s", "60ms", "1.5x", "6x", wrong=("60", "0s", "-2s", "0x", "nanx"), odd=("1e-9s", "1e9x", "1us")),
    "METRIC-pQ=VALUE": Values(
        ("tbt-p99.9=60ms", "ttft-p95=3s", "e2e-p50=2x", "gap-p50=1s", "tpot-p1=1s"),
        ("tbt-p0=1s", "tbt-p100=1s", "nope-p50=1s", "tbt-p50", "=", "tbt-pnan=1s", "tbt-p50=nan", "p50=1s"),
    ),
    "MACHINE[:TP]": Values(("dgx-a100:8", "dgx-h100:4", "dgx-h100"), ("nope", "dgx-h100:x", ":", "dgx-h100:0")),
    "NAME=COUNT": Values(
        ("dgx-h100=2", "dgx-h100=0", "dgx-h100=20"),
        ("dgx-h100=-1", "dgx-h100", "=1", "nope=1", "dgx-h100=nan", "dgx-h100=0.5"),
        ("dgx-h100=1e18",),
    ),
    "NAME=FACTOR": Values(
        tuple(f"{name}={factor}" for name in _SCALED for factor in ("0.5", "1", "1.2", "3")),
        ("price", "price=0", "price=-1", "price=nan", "price=inf", "nope=2", "=2", "price:nope=2", "price=x"),
        tuple(f"{name}={factor}" for name in _SCALED for factor in ("1e-300", "1e-6", "1e6", "1e297", "1.7e308")),
    ),
    "NAME=LOW:HIGH": Values(
        ("price:dgx-h100=0.2:1", "cv=1:2", "rate=0.5:2", "slo=0.8:1.5"),
        ("cv=2:1", "cv=1", "cv=nan:1", "nope=1:2", "cv=0:1", "cv=1:inf", "cv=-1:1", "=1:2"),
        ("rate=1e-300:1e300", "cv=1:1.0000001"),
    ),
    "FROM:UNTIL": Values(("0:60s", "18h:19h", "1:2"), ("2:1", "1", ":", "nan:1s", "1:2:3", "-1:2"), ("0:1us", "0:1e9")),
    "FROM:TO[:STEP]": Values(
        ("1", "1:2", "2:4:2", "1,2"),
        ("2:1", "0:1", "1:2:0", "x:y", "1:2:3:4", "nan:1", "1:inf", "-1", "1:2:-1", ":", "1.5:2"),
        ("1:1000000000", "1:1000", "1," * 200 + "1"),
    ),
    "INPUT=FROM:TO:STEP": Values(
        (
            "rate=1:2:1",
            "rate=1,2",
            "cv=0:2:1",
            "tp=4,8",
            "duration=2s:4s:2s",
            "slo=0.8:1.2:0.2",
            "seeds=1:2:1",
            "in-flight=1:3:1",
            "batch-tokens=512:1024:512",
            "warm-up=0:0.5:0.25",
            "transfer-retry=0s:1s:1s",
        ),
        (
            "rate",
            "rate=",
            "nope=1:2:1",
            "rate=1:2:0",
            "rate=2:1:1",
            "rate=nan:1:1",
            "rate=1:inf:1",
            "=1:2:1",
            "model=1:2:1",
        ),
        ("rate=1:1e9:1e-3", "rate=1e-300:1e300:1e299", "cv=1e6,1e9", "batch-tokens=1,1e9"),
    ),
    "DESIGN=SIZES": Values(
        ("splitwise-hh=1+1", "baseline-h100=2", "splitwise-ha=1+2"),
        ("baseline-h100", "=1", "nope=1", "baseline-h100=0", "baseline-h100=1+1", "splitwise-hh=1", "baseline-h100=x"),
        ("baseline-h100=1000000", "splitwise-hh=1+9999"),
    ),
    "ROLE:MACHINE[:TP]=COUNT": Values(
        ("prompt:dgx-h100=1", "token:dgx-h100:4=1", "mixed:dgx-a100=2", "mixed:dgx-h100=1"),
        ("nope:dgx-h100=1", "prompt:nope=1", "prompt:dgx-h100", "prompt:dgx-h100=0", "prompt:dgx-h100=x", "=", ":="),
        ("mixed:dgx-h100=100000",),
    ),
    "ROLE:NUMBER@FROM[-UNTIL]": Values(
        ("mixed:1@1s-3s", "mixed:1@2s", "mixed:2@0s-1s", "prompt:1@1s-2s", "token:1@1s-2s"),
        ("mixed:9@1s", "mixed:0@1s", "nope:1@1s", "mixed:1", "mixed:1@3s-1s", "mixed:1@nan", "mixed:x@1s", "@"),
        ("mixed:1@1e300s", "mixed:1@1e-300s-1e300s"),
    ),
    "[MACHINE=]NETWORK": Values(
        ("infiniband-400", "2xethernet-25", "100", "dgx-h100=roce-200", "ethernet-10"),
        ("nope-1", "0", "-1", "nan", "inf", "nope=100", "0xethernet-25", "="),
        ("1e300", "1e-300", "1000000xethernet-25"),
    ),
    "ADDRESS": Values((), ("tcp://127.0.0.1:1", "nonsense", "tcp://", "nope://127.0.0.1:1", "127.0.0.1:99999")),
    "EXPERIMENT": Values(("machines", "curves", "fig-12"), ("nope", "fig-99")),
    "PAPER": Values(("splitwise",), ("nope",)),
    "TITLE": Values(("My model", "naïve 名"), (), ("\x1b[31mred", "<script>", "a: b", "'", "- x")),
}
"""Values by placeholder."""

_MACHINES: Final = ("dgx-h100", "dgx-a100", "dgx-h200", "l40s-x8", "rtx4090-x8", "mi300x-x8")
_MODELS: Final = ("llama2-70b", "llama-3.1-8b", "bloom-176b", "qwen3-32b", "meta-llama/Llama-3.1-70B-Instruct")
_DESIGNS: Final = (
    "splitwise-hh",
    "baseline-h100",
    "splitwise-ha",
    "baseline-a100",
    "splitwise-hh:4+2",
    "colocated-h100",
)
_NOPE: Final = Values((), ("nope", "", " ", "dgx-h10", "splitwise-h"))

NAMES: Final[Mapping[str, Values]] = {
    "--design": Values(_DESIGNS, _NOPE.wrong),
    "--baseline": Values(_DESIGNS[:4], _NOPE.wrong),
    "--machine": Values(_MACHINES, _NOPE.wrong),
    "--model": Values(_MODELS, _NOPE.wrong),
    "--workload": Values(("coding", "conversation", "agents", "rag", "summarisation", "long-context"), _NOPE.wrong),
    "--engine": Values(
        ("provisioner-0.1", "provisioner-0.1,batch_tokens=512"), (*_NOPE.wrong, "provisioner-0.1,nope=1")
    ),
    "--slo": Values(("splitwise", "p50", "p90", "p99", "batch"), _NOPE.wrong),
    "--against": Values(("none", "splitwise", "p90", "batch"), _NOPE.wrong),
    "--prices": Values(("2026", "paper", "2026-reserved"), _NOPE.wrong),
    "--input": Values(("rate", "cv", "slo", "prompt-time", "price:dgx-h100", "prefill-time"), _NOPE.wrong),
    "--policy": Values(("splitwise", "split", "mixed", "chunked", "strict", "deflect"), _NOPE.wrong),
    "--solver": Values(("HiGHS", "PULP_CBC_CMD"), _NOPE.wrong),
    "--name": Values(("mine", "a.b-c_1"), ("", "../x", "a b", "\x1b[31m", "名")),
    "--device": Values(("cpu", "cuda", "cuda:7"), ("nope", "")),
    "--table": Values(("plan", "pools", "nope")),
    "machines": Values(_MACHINES, _NOPE.wrong),
    "models show": Values(_MODELS[:4], _NOPE.wrong),
    "curves show": Values((*_MACHINES[:2], *_MODELS[:3]), _NOPE.wrong),
    "workloads show": Values(("coding", "agents", "trace.csv", "workload.yaml", "equal.csv", "one.csv"), _NOPE.wrong),
}
"""Values of names by option, and by command for an argument."""

_HOLDS: Final = {
    "--trace": "trace",
    "--workload": "workload",
    "--slo": "slo",
    "--prices": "prices",
    "--engine": "engine",
    "--rates": "rates",
    "--specs": "specs",
    "models import": "config",
    "curves import": "measurement",
    "workloads import": "trace",
    "workloads show": "trace",
}
_ENDINGS: Final = ("r.json", "r.csv", "r.parquet", "r.md", "r.html", "r.png", "r.svg", "r.pdf", "all/")
_WRITTEN: Final[Mapping[str, tuple[str, ...]]] = {
    "--out": _ENDINGS,
    "--records": ("requests.csv", "requests.parquet"),
    "--timeline": ("t.png", "t.svg", "t.pdf"),
    "--write-lp": ("p.lp",),
}
_UNWRITABLE: Final = ("no/such/r.csv", "is-folder.csv", "/dev/full/r.csv", "trace.csv/r.csv", "")
_ODDLY_WRITTEN: Final = ("r.xyz", "naïve 名.csv", "red\x1b[31m.csv", "trace.csv", "circle.csv", "R.CSV", ".csv")

_LONG: Final = ("iso-power-conversation",)
"""Examples of help that take many minutes."""

HOSTILE: Final = (
    "", " ", "nan", "-", "0", "\x1b[31mred", "\x1b]0;title\x07", "名前", "é" * 100, "a" * 300, "/" * 9, "../..",
    "%s%n%x", "$(id)", "`id`", "\u202egpj.exe", "\udcff", "\t", "a\nb", "=", ":", ",", "1e309", "9" * 400, "/dev/zero",
    "[link](javascript:alert(1))", "<script>alert(1)</script>", "{}", "None", "true", "../../etc/passwd", "*",
)  # fmt: skip
"""Texts for any option."""


def of_parameter(flag: str, metavar: str, text: str, writes: bool) -> Values:
    """Values of an option, or of an argument, whose ``flag`` is its command; ``text`` is its help."""
    good, wrong, odd = [], [], []
    for part in {metavar: 0, **dict.fromkeys(metavar.strip("[]").split("|"))}:
        known = NAMES.get(flag, Values()) if ("NAME" in part and "=" not in part) or part == metavar else Values()
        known = VALUES.get(part, known)
        good += known.good
        wrong += known.wrong
        odd += known.odd
        word = re.sub(r"\[.*\]", "", part)
        if word and word == word.lower() and "|" not in word:
            good.append(word)
    if good and not (wrong or odd) and metavar:
        wrong += ["nope", "", f"{good[0]},{good[0]}", good[0].upper() * 2]
    if "FILE" in metavar or "FOLDER" in metavar:
        if writes:
            into = Values(("own", "new"), ("no/such/own", "trace.csv"))
            into = Values(("folder", "w.yaml"), ("no/such/w.yaml", "r.csv")) if "FILE.yaml" in metavar else into
            into = Values(_WRITTEN.get(flag, ()), _UNWRITABLE) if "FOLDER" not in metavar else into
            good, wrong = [*into.good], [*into.wrong]
            odd += (*_ODDLY_WRITTEN, *KEPT)
        else:
            good += GOOD.get(_HOLDS.get(flag, ""), ())
            wrong += DEVICES
            odd += ODD
    ends = ends_of(flag, text)
    wrong += ends.wrong
    odd += ends.odd
    examples = re.findall(r"such as ([^;()]+)", text)
    odd += [word.strip(".,:") for each in examples for word in each.split() if word not in ("and", "or", "in")]
    odd = [word for word in odd if word not in _LONG]
    return Values(tuple(dict.fromkeys(good)), tuple(dict.fromkeys(wrong)), tuple(dict.fromkeys(odd)))


@cache
def _declarations() -> dict[str, list[Option]]:
    """The declarations of every flag, from the classes of options that the commands take."""
    command()  # loads them all
    kinds, found = [Options], {}
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        for each in declared(kind).values() if kind is not Options else ():
            found.setdefault(each.flag, []).append(each)
    return found


_RANGE: Final = re.compile(r"from (-?[\d,.]+(?:e[-+]?\d+)?) to ([\d,.]+(?:e[-+]?\d+)?)")
_BEYOND_ALL: Final = ("9e15", "9000000000000000", "9e15s", "9000TiB", "9000000000MW")


def ends_of(flag: str, text: str) -> Values:
    """The ends of the range that an option's declaration has, and the nearest values beyond them."""
    for each in _declarations().get(flag, ()):
        if text.startswith(each.help):
            return _ends(each, flag)
    return Values()


def _ends(declaration: Option, flag: str) -> Values:
    kind, found = declaration.kind, None
    whole = kind.minimum is not None or re.search("COUNT|TOKENS|GPUS|REQUESTS", kind.metavar)

    def typed(end: float) -> str:
        value = int(end) if whole else end
        text = kind.texts((value,) if kind.repeatable or ",..." in kind.metavar else value)[0]
        return f"{text}s" if kind.metavar == "LIMIT" else text

    beyond = [*_BEYOND_ALL]
    while beyond:
        try:
            kind.parse(beyond.pop(), flag)
        except InputError as error:
            if match := _RANGE.search(str(error)):
                found = [float(end.replace(",", "")) for end in match.groups()]
                beyond = [typed(found[1])]  # a narrower range may lie within
    if found is None:
        return Values()
    low, high = found
    wrong = (low - 1 if whole or not low else low * 0.99, high + 1 if whole else high * 1.01)
    return Values((), tuple(map(typed, wrong)), tuple(map(typed, found)))


def changed_files(flag: str) -> list[str]:
    """Names of an option's or argument's files with one thing wrong, without their number."""
    names = (name for name in GOOD.get(_HOLDS.get(flag, ""), ()) if name != "folder")
    return [f"{change}-%d-of-{name}" for name in names for change in CHANGES]

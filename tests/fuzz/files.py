"""Small files for fuzzed commands, each made from its name alone, so that a command line can be typed again.

``python -m tests.fuzz.files FOLDER NAME...`` makes them. ``nan-3-of-trace.csv`` is ``trace.csv`` with its number 3 not
a number.
"""

from __future__ import annotations

import json
import os
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from provisioner.perf.measurements.summaries import FORMS as SUMMARIES
from provisioner.perf.measurements.summaries import Form
from provisioner.specs.trace_formats import FORMATS, TIME_UNITS, TraceFormat

TESTS: Final = Path(__file__).resolve().parents[1]
DATA: Final = TESTS.parent

Make = str | bytes | Path | Callable[[Path], object]
"""A file's content: a text, bytes, a file to copy, or a function that makes it."""


def _trace(rows: Iterable[tuple[object, ...]]) -> str:
    return "\n".join(["arrival_s,prompt_tokens,output_tokens", *(",".join(map(str, row)) for row in rows), ""])


def _form_name(form: TraceFormat) -> str:
    plain = not form.block_tokens and "." not in "".join((*form.columns, *form.marks, form.delay))
    return f"form-{form.name}.{'csv' if plain else 'jsonl'}"


def _of_form(form: TraceFormat) -> str:
    """A trace of a declared form: 24 requests 0.5 s apart, two a session."""
    rows = []
    for k in range(24):
        times = {"date": f"2024-05-10 00:00:{k // 2:02}.{k % 2 * 5}00000", "": None}
        at = times[form.time_unit] if form.time_unit in times else k / 2 / TIME_UNITS[form.time_unit]
        at = round(at) if isinstance(at, float) and form.time_unit != "s" else at
        values: dict[str, Any] = {mark: f"s{k // 2}" for mark in form.marks}
        values |= {"chat_id": k, "parent_chat_id": -1} if "chat_id" in values else {}
        listed = [form.delay.partition(".")[0]] if k % 2 else []  # every other row lists a session's requests
        values |= dict(zip(form.columns_of(listed), (at, 500 + 40 * k, 20 + k), strict=True))
        values |= {form.delay: 100} if form.delay and k % 2 else {}
        if form.delay and "." not in form.delay and k % 4 == 1:
            del values[form.columns[0]]  # the delay says when it arrives
        values |= {"hash_ids": list(range(-(-(500 + 40 * k) // form.block_tokens)))} if form.block_tokens else {}
        row: dict[str, Any] = {}
        for name, value in values.items():
            outer, _, inner = name.partition(".")
            if not inner:
                row[outer] = value
            elif name in form.marks:
                row[outer] = {inner: [1, 2]}
            else:
                row.setdefault(outer, [{}])[0][inner] = value
        rows.append(row)
    if _form_name(form).endswith(".jsonl"):
        return "".join(json.dumps(row) + "\n" for row in rows)
    return "\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows), ""])


def _folder_of(files: Mapping[str, str]) -> Callable[[Path], object]:
    """A function that makes a folder with files."""

    def made(path: Path) -> None:
        path.mkdir()
        for name, text in files.items():
            (path / name).write_text(text, encoding="utf-8")

    return made


def _lines(rows: Iterable[object]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def _result_of(form: Form) -> dict[str, Any]:
    """The result of a run in a declared form of summary: one request at a time, 70 ms to the first token, then 9.5 ms.

    >>> _result_of(SUMMARIES[0])["median_ttft_ms"]
    70.0
    """
    result: dict[str, Any] = {}

    def put(path: str, value: object) -> None:
        *outer, last = path.split(".")
        at = result
        for name in outer:
            if not isinstance(at.get(name), dict):
                at[name] = {}
            at = at[name]
        at[last] = value

    for path in (*form.keys, form.model, form.cached):
        put(path, _STATED.get(path, 1))
    for name, seconds in zip(form.names, (0.07, 0.0095, 0.0095), strict=True):
        path = form.times.replace("{time}", name)
        for statistic in (*form.statistics[:2], "min", "max"):
            put(path.format(statistic), seconds * (1e3 if form.unit == "ms" else 1.0))
        if not form.unit:
            put(path.replace("{}", "units"), "s")
    for path, tokens in zip(form.lengths, (1024, 256), strict=True):
        is_total = "{}" not in path and bool(form.counts[1])
        put(path.format(form.statistics[1]), tokens * (16 if is_total else 1))
    for path, value in zip((*form.counts, *form.load), (16, 16, 1, "inf", 0.4), strict=True):
        put(path, value)
    del result[""]
    return result | {key: value for key, value in _STATED.items() if "tput_per_gpu" in form.keys}


_STATED: Final = {
    "version": "0.2",
    "model": "some/model",
    "model_id": "some/model",
    "tp": 8,
    "output_tput_per_gpu": 12.8,
}
"""Values that results state beside their numbers, by key."""


def _record(k: int) -> dict[str, Any]:
    """One of AIPerf's records: request ``k`` of one at a time."""

    def value(number: object, unit: str) -> dict[str, object]:
        return {"value": number, "unit": unit}

    metrics = {
        "time_to_first_token": value(70.0, "ms"),
        "request_latency": value(70 + 15 * 9.5, "ms"),
        "input_sequence_length": value(1024, "tokens"),
        "output_sequence_length": value(16, "tokens"),
        "inter_chunk_latency": value([9.5] * 15, "ms"),
    }
    start = {"request_start_ns": round(1e9 * (1.7e9 + k)), "benchmark_phase": "profiling"}
    return {"metadata": start, "metrics": metrics, "error": None}


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(3 << 30)


def _own(path: Path) -> None:
    names = {"llama2-70b": "mine", "dgx-h100": "mine-h100", "letter: H": "letter: Z"}
    for source, target in (
        ("models/llama2-70b.yaml", "models/mine.yaml"),
        ("machines/dgx-h100.yaml", "machines/mine-h100.yaml"),
        ("curves/dgx-h100__llama2-70b.csv", "curves/mine-h100__mine.csv"),
    ):
        text = (DATA / "hardware_specs" / source).read_text(encoding="utf-8")
        for known, own in names.items():
            text = text.replace(known, own)
        (path / target).parent.mkdir(parents=True)
        (path / target).write_text(text, encoding="utf-8")
    (path / "prices").mkdir()
    (path / "prices/2026.yaml").write_text(_OWN_PRICES, encoding="utf-8")


_PLAIN: Final = _trace((k / 2, 500 + 50 * (k % 20), 10 + k % 7) for k in range(40))
_MOONCAKE: Final = "".join(
    json.dumps({"timestamp": 500 * k, "input_length": 1024 + k, "output_length": 20 + k, "hash_ids": [1, 2, 3 + k]})
    + "\n"
    for k in range(30)
)
_AZURE: Final = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(
    f"2023-11-16 18:15:{k % 60:02}.6805900,{4000 + 10 * k},{10 + k}\n" for k in range(40)
)
_PRICES: Final = (
    "name: mine\ntitle: Mine\ndate: 2026-01-01\ncurrency: USD\nmachines:\n"
    "  dgx-h100: {cost_usd_per_h: 50.0, provisioned_power_w: 10200, source: me}\n"
    "  dgx-a100: {cost_usd_per_h: 20.0, provisioned_power_w: 6500, source: me}\n"
)
_OWN_PRICES: Final = (
    'name: "2026"\ntitle: Mine\ndate: 2026-01-01\ncurrency: USD\nmachines:\n'
    "  mine-h100: {cost_usd_per_h: 50.0, provisioned_power_w: 10200, source: me}\n"
)
_SLO: Final = "{ttft: {p99: 2s, p50: 6x}, tbt: {p50: 60ms}, e2e: {p90: 5x}}\n"
_WORKLOAD: Final = "name: mine\ntitle: Mine\nrate_rps: 2.0\ncv: 1.0\nbins: workload.csv\nsources: [me]\n"
_BINS: Final = (
    "prompt_low,prompt_high,prompt_mean,output_low,output_high,output_mean,count\n"
    "100,200,150,10,20,15,5\n1000,2000,1500,10,20,15,5\n"
)
_SAMPLES: Final = TESTS / "perf/samples"
_VLLM: Final = _SAMPLES / "vllm"
_CONFIGS: Final = TESTS / "specs/configs"
_FORMS: Final = {_form_name(form): _of_form(form) for form in FORMATS}
_RESULT: Final[dict[str, Any]] = {
    "completed": 16,
    "num_prompts": 16,
    "request_throughput": 0.4,
    "total_input_tokens": 16 * 1024,
    "total_output_tokens": 16 * 256,
    "max_concurrency": 1,
    **{f"{stat}_{name}_ms": 9.5 for stat in ("mean", "median") for name in ("ttft", "tpot", "itl")},
}
_FOLDERS: Final = {
    "servegen": _folder_of(
        {
            "chunk-4-trace.csv": "0,2.0,1.5,Gamma,0.4,0.07\n10,0,1.5,,0,0\n20,1.5,1.5,Weibull,0.5,0.07\n",
            "chunk-4-dataset.json": json.dumps(
                {"0": {"input_tokens": "{100: 0.25, 2000: 0.75}", "output_tokens": "{10: 0.5, 30: 0.5}"}}
            ),
            "chunk-10-trace.csv": "0,0.5,1.5,Gamma,1.0,0.07\n10,1.0,1.5,Weibull,1.6,0.07\n",
            "chunk-10-dataset.json": json.dumps(
                {
                    "0": {"input_tokens": "{55: 1}", "output_tokens": "{66: 1e0}"},
                    "10": {"input_tokens": "{}", "output_tokens": "{}"},
                }
            ),
        }
    ),
    "ragpulse": _folder_of(
        {
            "0_trace.jsonl": _lines(
                {"timestamp": str(k / 2), "input_length": 810 + 10 * (k % 3), "output_length": 5 + k % 9}
                | {"hash_ids": {"sys_prompt": [1], "passages_ids": [10 + k % 3, 13]}, "session_id": "s"}
                for k in range(24)
            ),
            "1_sys_prompt.jsonl": _lines([{"sys_prompt_id": 1, "token_length": 500}]),
            "2_passages.jsonl": _lines({"passages_id": k, "token_length": 10 * k} for k in range(10, 14)),
        }
    ),
}
"""Folders of traces."""
_TOOLS: Final = {f"tool-{k}.json": _result_of(form) for k, form in enumerate(SUMMARIES)}
_MEASURED: Final = {
    "sglang.jsonl": {
        **_RESULT,
        "backend": "sglang",
        "dataset_name": "random",
        "random_range_ratio": 1.0,
        "total_output_tokens_retokenized": 4090,
        "accept_length": 2.5,
    },
    "one-batch.jsonl": {
        "batch_size": 16,
        "input_len": 1024,
        "output_len": 16,
        "prefill_latency": 0.2,
        "median_decode_latency": 0.02,
    },
}
_CONFIG_NAMES: Final = sorted(path.name for path in _CONFIGS.glob("*.json"))
_OF_NVIDIA: Final = {
    f"{path.parts[-3]}-{k}.csv": path for k, path in enumerate(sorted(_SAMPLES.glob("*/*/profile_export_*.csv")))
}
_JOURNALS: Final[tuple[str | bytes, ...]] = (
    "", "{}\n", "[1, 2]\n", '{"question": {}}\n', '{"question": {"command": "plan"}}\n{"key": "x"', b"\xff\0\x1b",
    "null\n", '{"question": 1}\n{"key": [1], "result": NaN}\n', "a,b\n1,2\n",
)  # fmt: skip

GOOD: Final[Mapping[str, tuple[str, ...]]] = {
    "trace": (
        *("trace.csv", "azure.csv", "mooncake.jsonl", "one.csv", "equal.csv", "same-time.csv", "wide.csv"),
        *(*_FORMS, *_FOLDERS),
    ),
    "workload": ("workload.yaml", "trace.csv", "mooncake.jsonl", "equal.csv", *_FOLDERS),
    "slo": ("slo.yaml",),
    "prices": ("prices.yaml",),
    "rates": ("rates.txt",),
    "engine": ("engine.yaml",),
    "config": ("config.json", *_CONFIG_NAMES),
    "measurement": (
        *sorted(path.name for path in _VLLM.glob("*.json")),
        *(
            "guidellm.json",
            "guidellm-sweep.json",
            "points.csv",
            *_OF_NVIDIA,
            *_MEASURED,
            *_TOOLS,
            "tool.yaml",
            "c1.jsonl",
        ),
    ),
    "specs": ("own", "folder"),
}
"""Names of whole files by what they hold."""

MAKES: Final[Mapping[str, Make]] = {
    "trace.csv": _PLAIN,
    "azure.csv": _AZURE,
    "mooncake.jsonl": _MOONCAKE,
    "one.csv": _trace([(0, 100, 10)]),
    "equal.csv": _trace([(0, 100, 10), (1, 100, 10)]),
    **_FORMS,
    **_FOLDERS,
    "same-time.csv": _trace([(0, 100 + k, 10) for k in range(20)]),
    "wide.csv": _trace([(k, 1 + 4000 * (k % 2), 1 + 800 * (k % 3)) for k in range(30)]),
    "workload.yaml": _WORKLOAD,
    "workload.csv": _BINS,
    "slo.yaml": _SLO,
    "prices.yaml": _PRICES,
    "engine.yaml": DATA / "hardware_specs/engines/vllm.yaml",
    "rates.txt": "1\n2\n1.5\n",
    "config.json": _CONFIGS / "llama3.1-8b.json",
    **{name: _CONFIGS / name for name in _CONFIG_NAMES},
    **{path.name: path for path in _VLLM.glob("*.json")},
    **_OF_NVIDIA,
    **{name: json.dumps(result) + "\n" for name, result in _MEASURED.items()},
    **{name: json.dumps(result, indent=1) + "\n" for name, result in _TOOLS.items()},
    "tool.yaml": yaml.safe_dump([*_TOOLS.values()][-1]),
    "c1.jsonl": _lines(map(_record, range(16))),
    "guidellm.json": _SAMPLES / "guidellm/0.5-concurrent.json",
    "guidellm-sweep.json": _SAMPLES / "guidellm/0.2-sweep.json",
    "points.csv": DATA / "hardware_specs/curves/dgx-h100__llama2-70b.csv",
    "own": _own,
    "folder": Path.mkdir,
    # odd ones
    "empty.csv": "",
    "empty.json": "",
    "empty.yaml": "",
    "header.csv": "arrival_s,prompt_tokens,output_tokens\n",
    "twice.csv": "arrival_s,arrival_s,prompt_tokens,output_tokens\n0,0,1,1\n",
    "no-output.csv": _trace([(k, 100, 0) for k in range(10)]),
    "backwards.csv": _trace([(10 - k, 100, 5) for k in range(10)]),
    "minus.csv": _trace([(k - 5, -100, 5) for k in range(10)]),
    "vast.csv": _trace([(k * 1e300, 10**18, 10**18) for k in range(5)]),
    "dense.csv": _trace([(k * 1e-300, 100, 10) for k in range(50)]),
    "latin1.csv": "arrivée_s,prompt_tokens,output_tokens\n0,1,1\n".encode("latin-1"),
    "utf16.csv": _PLAIN.encode("utf-16"),
    "nul.csv": _PLAIN.replace("500", "5\x000").encode(),
    "red.csv": "arrival_s,\x1b[31mprompt_tokens,output_tokens\n0,1,1\n",
    "semicolons.csv": _PLAIN.replace(",", ";"),
    "tabs.csv": _PLAIN.replace(",", "\t"),
    "trace.yaml": "- {arrival_s: 0, prompt_tokens: 1, output_tokens: 1}\n",
    "one-line.json": json.dumps([{"arrival_s": 0, "prompt_tokens": 1, "output_tokens": 1}] * 3),
    "list.json": "[1, 2, 3]\n",
    "text.json": '"text"\n',
    "null.json": "null\n",
    "deep.json": "[" * 100_000,
    "deep.yaml": "[" * 3_000,
    "bomb.yaml": "a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"{chr(98 + k)}: &{chr(98 + k)} [{', '.join([f'*{chr(97 + k)}'] * 9)}]\n" for k in range(9)),
    "loop.yaml": "&a [*a]\n",
    "tag.yaml": "!!python/object/apply:os.system ['true']\n",
    "numbers.json": '{"a": 1e999, "b": NaN, "c": -Infinity, "d": ' + "9" * 5000 + "}\n",
    "picture.png": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)),
    "packed.csv.gz": zlib.compress(_PLAIN.encode()),
    "sparse.csv": _sparse,
    "sparse.json": _sparse,
    "sparse.yaml": _sparse,
    "circle.csv": lambda path: path.symlink_to(path.name),
    "is-folder.csv": Path.mkdir,
    "is-folder.yaml": Path.mkdir,
    "red\x1b[31m.csv": _PLAIN,
    "naïve 名.csv": _PLAIN,
    "-dash.csv": _PLAIN,
    **{f"kept-{k}.csv.journal": content for k, content in enumerate(_JOURNALS)},
}
"""Files by name."""

ODD: Final = tuple(name for name in MAKES if name not in {each for names in GOOD.values() for each in names})
"""Names of files that are of no use to most options."""

KEPT: Final = tuple(f"kept-{k}.csv" for k in range(len(_JOURNALS)))
"""Names of files to write that have a journal beside them, which no run left there."""

DEVICES: Final = ("/dev/zero", "none.csv", "no/such/file.yaml", "none.json", "trace.csv/x")
"""Names that lead to no file."""

_NUMBER: Final = re.compile(rb"-?\d+(?:\.\d+)?")
_KEYED: Final = re.compile(rb"[\s\"{,]([A-Za-z_]\w*)\"?: ?-?\d")
_COLUMN_CHANGES: Final = ("zeros", "negative", "thousands", "column")
_WORDS: Final = {
    "nan": b"nan", "inf": b"inf", "minus": b"-7", "zero": b"0", "vast": b"1e308", "more": b"99999999999999999999",
    "word": b"x", "none": b"", "null": b"null", "half": b"0.5", "red": b"\x1b[31m1",
}  # fmt: skip


def _column(name: str, content: bytes, change: str, k: int) -> bytes:
    """A content with a column of a table, or the values of a key, all zero, negative, a thousand times, or gone."""
    of = {"zeros": lambda number: b"0", "negative": lambda number: b"-" + number.lstrip(b"-")}
    of |= {"thousands": lambda number: b"%g" % (1000.0 * float(number)), "column": lambda number: b""}
    if not name.endswith(".csv"):
        keys = sorted({match[1] for match in _KEYED.finditer(content)})
        if not keys:
            return content
        keyed = re.compile(rb"([\s\"{,]" + re.escape(keys[k % len(keys)]) + rb"\"?: ?)(-?\d+(?:\.\d+)?)")
        return keyed.sub(lambda match: b"" if change == "column" else match[1] + of[change](match[2]), content)
    rows = [line.split(b",") for line in content.splitlines()]
    at = k % max((len(row) for row in rows), default=1)
    for row in rows:
        if at < len(row) and change == "column":
            del row[at]
        elif at < len(row) and _NUMBER.fullmatch(row[at]):
            row[at] = of[change](row[at])
    return b"".join(b",".join(row) + b"\n" for row in rows)


def _changed(name: str, content: bytes, change: str, k: int) -> bytes:
    """A content with one thing wrong."""
    if change in _COLUMN_CHANGES:
        return _column(name, content, change, k)
    if change == "bom":
        return b"\xef\xbb\xbf" + content
    if change == "crlf":
        return content.replace(b"\n", b"\r\n")
    if change == "long":
        return _NUMBER.sub(b"9" * 100_000, content, count=1) if k % 2 else b"x" * 1_000_000 + content
    lines = content.splitlines(keepends=True) or [b""]
    at = k % len(lines)
    if change in _WORDS:
        found = list(_NUMBER.finditer(content))
        if not found:
            return _WORDS[change] + content
        spot = found[k * 7919 % len(found)]
        return content[: spot.start()] + _WORDS[change] + content[spot.end() :]
    if change == "cut":
        return content[: len(content) * (k % 97) // 97]
    if change == "less":
        return b"".join(lines[:at] + lines[at + 1 :])
    if change == "twice":
        return b"".join(lines[: at + 1] + lines[at:])
    if change == "byte":
        spot_at = k * 7919 % max(len(content), 1)
        return content[:spot_at] + b"\xff\xfe\0"[k % 3 : k % 3 + 1] + content[spot_at + 1 :]
    raise ValueError(f"{change}: is no change")


CHANGES: Final = (*_WORDS, *_COLUMN_CHANGES, "cut", "less", "twice", "byte", "bom", "crlf", "long")
_OF: Final = re.compile(r"(\w+)-(\d+)-of-(.+)", re.DOTALL)


def known(name: str) -> bool:
    """Whether a name is of a file that this module makes."""
    match = _OF.fullmatch(name)
    return name in MAKES or bool(match and match[1] in CHANGES and match[3] in MAKES)


def make(folder: Path, name: str) -> None:
    """Make a file in a folder, with the table that a workload file names."""
    path = folder / name
    if os.path.lexists(path):
        return
    match = _OF.fullmatch(name) if name not in MAKES else None
    content = MAKES[match[3] if match else name]
    if isinstance(content, Path):
        content = content.read_bytes()
    elif isinstance(content, str):
        content = content.encode()
    if callable(content):
        content(path)
        made = [each for each in path.rglob("*") if each.is_file()] if match else []
    else:
        path.write_bytes(content)
        made = [path] if match else []
    for each in made:
        each.write_bytes(_changed(each.name, each.read_bytes(), match[1], int(match[2])))  # type: ignore[index]
    if name.endswith("workload.yaml"):
        make(folder, "workload.csv")


def make_all(folder: Path, texts: Iterable[str]) -> set[str]:
    """Make the files that arguments of a command line name; return the names."""
    named = [word for text in texts for word in (text, text.partition("=")[2])]
    words = {word for name in named for word in (name, f"{name}.journal") if known(word)}
    for name in sorted(words):
        make(folder, name)
    return words


if __name__ == "__main__":
    make_all(Path(sys.argv[1]), sys.argv[2:])

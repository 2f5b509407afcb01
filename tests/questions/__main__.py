"""Fixed questions to every command of the command line, to compare the answers of two versions of the program.

``python -m tests.questions --out FOLDER`` asks them all, two at a time, of the program that is installed beside the
Python that runs it (``python -m provisioner``, from an empty folder, so not the checkout that one stands in), and
writes ``full.json`` (arguments, exit code, messages, the JSON, text or CSV that came) and ``answers.json`` (the key
numbers alone, in names that do not depend on the layout of the JSON). ``--compare`` sets them beside those of another
folder, or beside a file of answers of ``tests/data``: those of 0.1, and those that 0.2 gave before it was made faster,
with its own defaults and as 0.1 (``answers_0.2.json``, ``answers_0.2_as_0.1.json``)::

    python -m tests.questions --out NEW --compare tests/data/answers_0.2.json  # today's defaults
    python -m tests.questions --out NEW --as-0.1 --compare tests/data/answers_0.1.json
    python -m tests.questions --out NEW --as-0.1 --compare tests/data/answers_0.2_as_0.1.json
    python -m tests.questions --out NEW --compare OLD --only plan-cost plan-power

``--as-0.1`` asks each question as 0.1 understood it, with the scheduler of the Splitwise paper, the engine
``provisioner-0.1`` and, in comparisons and capacities, the largest TP, where it names no other. What differs from run
to run (times that computing took, versions, the position of a key) is no difference; floats are
equal within 1e-9 of each other. A JSON whose layout is another one has another ``schema_version``: ``EXTRACTORS`` has a
set of functions for each, by command; without one the layout is that of 0.1.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.questions.asked import QUESTIONS, Question, as_in_0_1
from tests.questions.compare import LINES, compare
from tests.questions.extract import EXTRACTORS, Json
from tests.questions.files import make_files

DIGITS = 12  # significant digits of a float in answers.json: more than the comparison tells apart
TIMEOUT_S = 300.0  # for one question


def run(arguments: tuple[str, ...], folder: Path) -> subprocess.CompletedProcess[str]:
    """The installed program, from a folder without a checkout, in the plainest surroundings."""
    surroundings = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PROVISION"))}
    surroundings |= {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb", "PYTHONHASHSEED": "0"}
    command = [sys.executable, "-m", "provisioner", *arguments]
    return subprocess.run(
        command,
        cwd=folder,
        env=surroundings,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        stdin=subprocess.DEVNULL,
    )


def parsed(text: str, ending: str) -> Json:
    if ending == ".json":
        return json.loads(text)
    if ending == ".csv":
        return [dict(row) for row in csv.DictReader(text.splitlines())]
    return text.splitlines()


def read_file(path: Path) -> Json:
    if not path.is_file():
        return None
    if path.suffix in {".csv", ".json", ".md"}:
        return parsed(path.read_text(), path.suffix)
    return "written" if path.stat().st_size else "empty"


def pose(question: Question) -> tuple[dict[str, Any], float]:
    """The answer to a question, and the time in s that it took."""
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_files(folder)
        for call in question.before:
            ended = run(call, folder)
            if ended.returncode:
                raise SystemExit(f"{question.name}: provision {' '.join(call)} ended with {ended.stderr}")
        ended = run(question.arguments, folder)
        output: Json = ended.stdout.splitlines()
        if "--json" in question.arguments and not ended.returncode:
            output = parsed(ended.stdout, ".json")
        said = [line for line in ended.stderr.splitlines() if line.strip()] if ended.returncode else []
        record = {
            "arguments": list(question.arguments),
            "exit": ended.returncode,
            "error": next((line for line in reversed(said) if line.startswith("error: ")), said[-1] if said else ""),
            "nearest": [line for line in said if line.startswith("nearest: ")],
            "output": output,
            "files": {file: read_file(folder / file) for file in question.files},
        }
    return record, time.perf_counter() - begun


def rounded(data: Json) -> Json:
    if isinstance(data, dict):
        return {key: rounded(value) for key, value in data.items()}
    if isinstance(data, list):
        return [rounded(value) for value in data]
    return float(f"{data:.{DIGITS}g}") if isinstance(data, float) else data


def answer(question: Question, record: dict[str, Any]) -> Json:
    """Exit code, message and the key numbers of a record, free of the layout of its JSON."""
    short: dict[str, Any] = {"exit": record["exit"]}
    if record["exit"]:
        return short | {"error": record["error"], "nearest": record["nearest"]}
    output = record["output"]
    schema = output.get("schema_version", "0.1") if isinstance(output, dict) else "0.1"
    try:
        short["answer"] = rounded(EXTRACTORS[str(schema)][question.kind](output))
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        short["answer"] = f"not extracted: schema {schema}, {type(error).__name__} {error}"
    if question.files:
        short["files"] = {
            name: len(data) if isinstance(data, list) else bool(data) for name, data in record["files"].items()
        }
    return short


def load(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text())) if path.is_file() else {}


def save_answers(path: Path, answers: dict[str, Any]) -> None:
    """A line for each question, so that a change of one is a change of a line."""
    lines = (
        f"{json.dumps(name)}:{json.dumps(answers[name], sort_keys=True, separators=(',', ':'))}"
        for name in sorted(answers)
    )
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.questions", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for full.json and answers.json")
    parser.add_argument("--compare", type=Path, help="such a folder of another version, or its answers.json alone")
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=list(QUESTIONS), help="these questions alone")
    parser.add_argument("--reuse", action="store_true", help="ask nothing that --out has: extract and compare again")
    parser.add_argument("--jobs", type=int, default=2, help="questions asked at once (2)")
    parser.add_argument("--as-0.1", action="store_true", dest="as_0_1", help="ask with the defaults of 0.1")
    parser.add_argument("--lines", type=int, default=LINES, help=f"differences shown of a question ({LINES})")
    given = parser.parse_args()
    names = given.only or list(QUESTIONS)

    given.out.mkdir(parents=True, exist_ok=True)
    full = {name: record for name, record in load(given.out / "full.json").items() if name in QUESTIONS}
    wanted = [name for name in names if not (given.reuse and name in full)]
    asked = {name: as_in_0_1(QUESTIONS[name]) if given.as_0_1 else QUESTIONS[name] for name in names}
    begun = time.perf_counter()
    if wanted:
        run(("--version",), Path(tempfile.gettempdir()))
        with ThreadPoolExecutor(given.jobs) as pool:
            for name, (record, took_s) in zip(wanted, pool.map(lambda n: pose(asked[n]), wanted), strict=True):
                full[name] = record
                print(f"{took_s:6.1f} s  exit {record['exit']}  {name}", file=sys.stderr)
        print(f"{len(wanted)} questions in {time.perf_counter() - begun:.0f} s", file=sys.stderr)
    answers = {name: answer(QUESTIONS[name], full[name]) for name in full}
    (given.out / "full.json").write_text(json.dumps(full, sort_keys=True, indent=0) + "\n")
    save_answers(given.out / "answers.json", answers)

    if not given.compare:
        return 0
    alone = given.compare.is_file()
    different = compare(
        load(given.compare if alone else given.compare / "answers.json"), answers, names, "answer", given.lines
    )
    if not alone:
        different += compare(load(given.compare / "full.json"), full, names, "output", given.lines)
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main())

"""``provision models import`` and ``provision curves import``: what is said, what is written, and what is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from provisioner.perf.points import COLUMNS, read_points
from provisioner.specs import catalog
from provisioner.specs.schema import load_model
from provisioner.specs.shipped import data_folder
from tests.cli.conftest import Ended, Run, instead

TESTS = Path(__file__).parents[1]
CONFIGS = TESTS / "specs" / "configs"
SAMPLES = TESTS / "perf" / "samples" / "vllm"
CONFIG = str(CONFIGS / "llama3.1-8b.json")
RUNS = [str(SAMPLES / name) for name in ("appended.json", "alone-256.json", "alone-4096.json")]
REPLICA = ("--model", "llama2-70b", "--machine", "dgx-h100", "--tp", "8")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def degrees(path: Path) -> dict[int, int]:
    """Points of a curve file by tensor parallelism."""
    machine, _, model = path.stem.partition("__")
    return {degree: len(points) for degree, points in read_points(path, model=model, machine=machine).items()}


def words(ended: Ended) -> str:
    assert (ended.code, ended.err) == (0, "")
    return " ".join(ended.out.split())


class TestModels:
    def test_without_a_folder_nothing_is_written(self, provision: Run, tmp_path: Path) -> None:
        text = words(provision("models", "import", CONFIG))
        for part in (
            "llama3.1-8b: 8.03 x 10^9 parameters",
            "config.json of Hugging Face: LlamaForCausalLM",
            "8,030,261,248",
            "15.0 GiB, layers at 2 bytes a number",
            "32 of dimension 128, 8 for keys and values",
            "131,072 bytes per token",
            "Its positions are scaled (llama3, factor 8.0)",
        ):
            assert part in text
        assert "Written" not in text and not list(tmp_path.iterdir())
        data = json.loads(provision("models", "import", CONFIG, "--json").out)
        assert (data["parameters"], data["written"], data["remarks"]) == (8030261248, None, [])

    def test_a_folder_is_made_and_every_command_takes_it(self, provision: Run, tmp_path: Path) -> None:
        ended = provision("models", "import", CONFIG, "--out", "own", "--name", "mine", "--title", "My 8B")
        text = words(ended)
        assert ended.out.startswith("My 8B: 8.03 x 10^9 parameters\n")
        assert "own/models/mine.yaml" in text and "provision plan --specs own --model mine" in text
        assert list(contents(tmp_path)) == ["own/models/mine.yaml"]
        assert catalog.with_own("own").model("mine").title == "My 8B"
        # known to a plan, which may still lack its curves
        plan = provision("plan", "--fast", "--specs", "own", "--model", "mine", "--machine", "dgx-h100", "--tp", "8")
        assert "My 8B" in plan.out or "cheapest plan for coding on mine" in plan.out or "no latency curves" in plan.err

    def test_what_an_import_wrote_is_replaced(self, provision: Run, tmp_path: Path) -> None:
        assert provision("models", "import", CONFIG, "--out", "own", "--name", "mine").code == 0
        other = str(CONFIGS / "qwen3-8b.json")
        assert "the model that an earlier import wrote" in words(
            provision("models", "import", other, "--out", "own", "--name", "mine")
        )
        path = tmp_path / "own" / "models" / "mine.yaml"
        assert load_model(path, "mine").layers == 36
        assert list(contents(tmp_path)) == ["own/models/mine.yaml"]

    def test_what_was_written_by_hand_stays(self, provision: Run, tmp_path: Path) -> None:
        assert provision("models", "import", CONFIG, "--out", "own", "--name", "mine").code == 0
        path = tmp_path / "own" / "models" / "mine.yaml"
        by_hand = path.read_text().split("\n", 1)[1].replace("title: mine", "title: Ours")
        path.write_text(by_hand)
        assert "the file had the same model: left as it was" in words(
            provision("models", "import", CONFIG, "--out", "own", "--name", "mine")
        )
        assert path.read_text() == by_hand
        for text in (by_hand.replace("layers: 32", "layers: 31"), "not: a model\n", ""):
            path.write_text(text)
            message = provision("models", "import", CONFIG, "--out", "own", "--name", "mine").error
            assert "own/models/mine.yaml is there and was not written by an import; remove it, or give" in message
            assert path.read_text() == text

    def test_a_shipped_name_is_said(self, provision: Run) -> None:
        text = words(provision("models", "import", CONFIG, "--out", "own", "--name", "llama2-70b"))
        assert "with --specs own it takes the place of the shipped llama2-70b" in text

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("config.json", "--out", "own"), "--name: must be given, for config.json does not say what the model is"),
            (("a b.json", "--out", "own"), "--out own: 'a b' does not do as a name of files; give one with --name"),
            (("config.json", "--name", "../x"), "--name ../x: must be letters, digits"),
            (("config.json", "--name", "m", "--out", "file"), "--out file: must be a folder of own specs"),
            (("config.json", "--name", "m", "--out", "m.yaml"), "--out m.yaml: must be a folder of own specs"),
            (("config.json", "--name", "m", "--out", "no/own"), "--out no/own: the folder no does not exist"),
            (("config.json", "--name", "m", "--out", "odd"), "--out odd: odd/models is not a folder"),
            (("moe.json", "--out", "own"), "moe.json: is not understood: mixture of experts (num_local_experts: 8)"),
            (("cut.json", "--out", "own"), "cut.json: ends in the middle of its JSON"),
            (("none.json",), "none.json: cannot be read: No such file or directory"),
            ((), "missing argument 'FILE'; see provision models import --help"),
        ],
    )
    def test_refusals_write_nothing(
        self, provision: Run, tmp_path: Path, arguments: tuple[str, ...], message: str
    ) -> None:
        config = Path(CONFIG).read_text()
        for name, text in (
            ("config.json", config),
            ("a b.json", config),
            ("cut.json", config[:200]),
            ("moe.json", (CONFIGS / "mixtral-8x7b.json").read_text()),
            ("file", ""),
        ):
            (tmp_path / name).write_text(text)
        (tmp_path / "odd").mkdir()
        (tmp_path / "odd" / "models").write_text("")
        before = contents(tmp_path)
        ended = provision("models", "import", *arguments)
        assert ended.code == 2 and message in ended.error
        assert contents(tmp_path) == before and not (tmp_path / "own").exists()

    def test_a_folder_without_permission(self, provision: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        def refused(*_: Any, **__: Any) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "mkdir", refused)
        ended = provision("models", "import", CONFIG, "--out", "own")
        assert (ended.code, ended.error) == (2, "--out own/models: cannot be made: Permission denied")


class TestCurves:
    def test_without_a_folder_it_reports(self, provision: Run, tmp_path: Path) -> None:
        text = words(provision("curves", "import", *RUNS, *REPLICA))
        for part in (
            "9 measured points of llama2-70b on dgx-h100 at TP 8",
            "vllm bench serve, model example/made-up-8b",
            "a loaded TTFT is not a prompt time",
            "How well the curve explains the points",
        ):
            assert part in text
        assert "Written" not in text and not list(tmp_path.iterdir())
        data = json.loads(provision("curves", "import", *RUNS, *REPLICA, "--json").out)
        assert (len(data["points"]), data["written"], data["remarks"]) == (9, None, [])
        assert [phase["phase"] for phase in data["fit"]] == ["prompt", "decode"]

    def test_a_model_of_ones_own_is_measured_and_planned(self, provision: Run, tmp_path: Path) -> None:
        assert provision("models", "import", CONFIG, "--out", "own", "--name", "mine").code == 0
        replica = ("--model", "mine", "--machine", "dgx-a100", "--tp", "8")
        text = words(provision("curves", "import", *RUNS, *replica, "--out", "own"))
        assert "own/curves/dgx-a100__mine.csv" in text
        assert "provision plan --specs own --model mine --machine dgx-a100" in text
        assert "refused for now" not in text
        path = tmp_path / "own" / "curves" / "dgx-a100__mine.csv"
        assert tuple(rows(path)[0]) == COLUMNS and degrees(path) == {8: 9}
        limits = ("--slo", "batch", "--ttft-p99", "2s", "--tbt-p99", "50ms")
        plan = json.loads(provision("plan", "--fast", "--specs", "own", "--model", "mine", *limits, "--json").out)
        assert plan["model"] == "mine"
        assert {pool["machine"] for pool in plan["pools"]} == {"dgx-a100"}

    def test_other_degrees_stay_and_the_same_is_replaced(self, provision: Run, tmp_path: Path) -> None:
        shipped = data_folder("hardware_specs") / "curves" / "dgx-h100__llama2-70b.csv"
        path = tmp_path / "own" / "curves" / "dgx-h100__llama2-70b.csv"
        path.parent.mkdir(parents=True)
        path.write_text(shipped.read_text())
        before = degrees(path)
        assert set(before) == {2, 4, 8}
        text = words(provision("curves", "import", *RUNS, *REPLICA, "--out", "own"))
        assert f"the {before[8]} points at TP 8 that the file had are replaced" in text
        assert "its points at TP 2, 4 are kept" in text
        assert "with --specs own it takes the place of the shipped curve" in text
        assert degrees(path) == {**before, 8: 9}
        replica = (*REPLICA[:4], "--tp", "2")
        assert provision("curves", "import", *RUNS, *replica, "--out", "own").code == 0
        assert [int(row["tensor_parallel"]) for row in rows(path)] == [2] * 9 + [4] * before[4] + [8] * 9
        path.write_text(shipped.read_text())
        assert provision("curves", "import", *RUNS, *REPLICA, "--out", "own").code == 0
        kept = [row for row in rows(path) if row["tensor_parallel"] != "8"]
        assert kept == [row for row in rows(shipped) if row["tensor_parallel"] != "8"]
        # the same again changes nothing
        written = path.read_bytes()
        assert provision("curves", "import", *RUNS, *REPLICA, "--out", "own").code == 0
        assert path.read_bytes() == written

    def test_the_curve_file_itself_can_be_read_again(self, provision: Run, tmp_path: Path) -> None:
        assert provision("curves", "import", *RUNS, *REPLICA, "--out", "own").code == 0
        path = tmp_path / "own" / "curves" / "dgx-h100__llama2-70b.csv"
        written = path.read_bytes()
        assert "9 points" in words(provision("curves", "import", str(path), *REPLICA, "--out", "own"))
        assert path.read_bytes() == written

    def test_a_curve_that_no_plan_can_use_yet_is_said(self, provision: Run) -> None:
        assert provision("models", "import", CONFIG, "--out", "own", "--name", "mine").code == 0
        replica = ("--model", "mine", "--machine", "dgx-h100", "--tp", "1")
        text = words(provision("curves", "import", *RUNS, *replica, "--out", "own"))
        plan = provision("plan", "--fast", "--specs", "own", "--model", "mine")
        # as long as slowdowns need the reference machine's curve of every model
        assert ("a plan with it would be refused for now" in text) == (plan.code == 2)
        if plan.code == 2:
            assert plan.error in text
        too_large = ("--model", "llama-3.1-405b", "--machine", "dgx-h100", "--tp", "1")
        text = words(provision("curves", "import", *RUNS, *too_large, "--out", "own"))
        assert "a plan with it would be refused for now: llama-3.1-405b" in text

    def test_lengths_and_concurrency_can_be_given(self, provision: Run) -> None:
        folder = TESTS / "perf" / "samples" / "aiperf"
        runs = sorted(str(path) for path in folder.rglob("*.csv"))
        given = ("--input-tokens", "1000", "--output-tokens", "100", "--concurrency", "1")
        data = json.loads(provision("curves", "import", runs[0], *REPLICA, *given, "--json").out)
        assert {point["prompt_tokens"] for point in data["points"]} == {1000}

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                (*RUNS, "--model", "llama2-7b", "--machine", "dgx-h100", "--tp", "8"),
                "unknown model 'llama2-7b': the nearest is llama2-70b",
            ),
            (
                (*RUNS, "--model", "llama2-70b", "--machine", "dgx-h10", "--tp", "8"),
                "unknown machine 'dgx-h10': did you",
            ),
            (
                (*RUNS, *instead(REPLICA, "--model", "meta-llama/Llama-2-70b-hf")),
                "--model meta-llama/Llama-2-70b-hf: curves are of a model by the name of its file, llama2-70b",
            ),
            ((*RUNS, *REPLICA[:4], "--tp", "16"), "--tp: must be at most the 8 GPUs of dgx-h100, got 16"),
            ((*RUNS, *REPLICA[:4], "--tp", "0"), "--tp: must be a whole number of GPUs, 1 or more, got 0"),
            ((*RUNS, *REPLICA, "--input-tokens", "-1"), "--input-tokens: must be above 0 tokens, got -1"),
            ((*RUNS, *REPLICA, "--output-tokens", "x"), "--output-tokens: must be a number of tokens, got 'x'"),
            ((*RUNS, *REPLICA, "--concurrency", "1.5"), "--concurrency: must be a whole number of requests"),
            ((*RUNS, *REPLICA[:4]), "missing option '--tp'; see provision curves import --help"),
            (REPLICA, "missing argument 'FILE...'; see provision curves import --help"),
            ((*RUNS, *REPLICA, "--specs", "none"), "--specs: must be a folder with machines, instances, models"),
            ((*RUNS, *REPLICA, "--out", "points.csv"), "--out points.csv: must be a folder of own specs"),
            ((*RUNS, *REPLICA, "--out", "no/own"), "--out no/own: the folder no does not exist"),
            (("cut.json", *REPLICA, "--out", "own"), "cut.json: ends in the middle of its JSON"),
            (("foreign.json", *REPLICA, "--out", "own"), "foreign.json: is of no known benchmark"),
            ((RUNS[1], *REPLICA, "--out", "own"), "--out own: nothing was written, for the points make no curve"),
            ((*RUNS, *REPLICA, "--out", "foreign"), "dgx-h100__llama2-70b.csv: row 1: missing column model"),
        ],
    )
    def test_refusals_write_nothing(
        self, provision: Run, tmp_path: Path, arguments: tuple[str, ...], message: str
    ) -> None:
        (tmp_path / "cut.json").write_text(Path(RUNS[0]).read_text()[:300])
        (tmp_path / "foreign.json").write_text(Path(CONFIG).read_text())
        (tmp_path / "points.csv").write_text("")
        (tmp_path / "foreign" / "curves").mkdir(parents=True)
        (tmp_path / "foreign" / "curves" / "dgx-h100__llama2-70b.csv").write_text("a,b\n1,2\n")
        before = contents(tmp_path)
        ended = provision("curves", "import", *arguments)
        assert ended.code == 2 and message in ended.error
        assert contents(tmp_path) == before and not (tmp_path / "own").exists()

    def test_a_name_that_only_another_folder_has(self, provision: Run) -> None:
        assert provision("models", "import", CONFIG, "--out", "here", "--name", "mine").code == 0
        replica = ("--model", "mine", "--machine", "dgx-h100", "--tp", "1")
        assert provision("curves", "import", *RUNS, *replica, "--specs", "here").code == 0
        assert provision("curves", "import", *RUNS, *replica, "--specs", "here", "--out", "here").code == 0
        message = provision("curves", "import", *RUNS, *replica, "--specs", "here", "--out", "there").error
        assert message == "--out there: has no model mine, which here has: give --out here, or copy it"
        assert "unknown model 'mine'" in provision("curves", "import", *RUNS, *replica, "--out", "there").error

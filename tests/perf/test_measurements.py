"""Points from benchmark results: an import must give back the formulas of made-up replicas, and refuse wrong files."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from provisioner.errors import InputError
from provisioner.perf.measurements import Measured, read_measurements
from provisioner.perf.points import COLUMNS, CurvePoint, curve_text, read_points
from provisioner.report.imports import measured_data, measured_document
from provisioner.report.terminal import render
from tests.perf.samples import make

SAMPLES = make.FOLDER
REPLICA: dict[str, Any] = {"model": "made-up-8b", "machine": "box", "tensor_parallel": 1}

# Errors allowed against the formulas: what jitter of 0.3 % leaves, and others' prompts in a mean gap.
EXACT = 0.003
MEAN_GAP = 0.10


def read(*names: str, **options: Any) -> Measured:
    return read_measurements([SAMPLES / name for name in names], **REPLICA, **options)


def read_result(folder: Path, result: Any, **options: Any) -> Measured:
    path = folder / "result.json"
    path.write_text(result if isinstance(result, str) else json.dumps(result))
    return read_measurements([path], **REPLICA, **options)


def true_s(point: CurvePoint) -> float:
    if point.phase == "prompt":
        return make.seen_prompt_s(point.prompt_tokens)
    return make.decode_s(point.batch, point.context_tokens)


def errors(measured: Measured) -> dict[tuple[str, int, int], float]:
    return {(p.phase, p.prompt_tokens, p.batch): p.latency_s / true_s(p) - 1 for p in measured.points}


def decodes(measured: Measured) -> list[tuple[int, float]]:
    points = [p for p in measured.points if p.phase == "decode"]
    return [(p.batch, p.context_per_sequence_tokens) for p in points]


def prompts(measured: Measured) -> list[int]:
    return [p.prompt_tokens for p in measured.points if p.phase == "prompt"]


def reasons(measured: Measured) -> str:
    return "\n".join(f"{each.quantity}: {each.why}" for each in measured.not_identified)


def alone(*tokens: int, output_tokens: int = 512) -> list[dict[str, Any]]:
    return [make.vllm(make.serve([(n, output_tokens)] * 3, 1), 1) for n in tokens]


def test_samples_are_what_their_generator_writes() -> None:
    written = {
        str(p.relative_to(SAMPLES)): p.read_bytes() for p in SAMPLES.rglob("*.*") if p.suffix in (".json", ".csv")
    }
    assert written == {name: text.encode() for name, text in make.files().items()}


def test_the_made_up_replica_runs_at_its_formulas() -> None:
    (request,) = make.serve([(4096, 30)], 1)
    assert request.ttft_s == pytest.approx(0.004 + 2 * (0.006 + 0.1024 + 2e-9 * 2048**2), rel=EXACT)
    assert request.mean_gap_s == pytest.approx(0.009 + 0.00012 + 30e-9 * (4096 + 15), rel=EXACT)


class TestVllm:
    def test_results_one_after_another_give_the_curves(self) -> None:
        measured = read("vllm/appended.json", "vllm/alone-256.json", "vllm/alone-4096.json")
        assert prompts(measured) == [256, 1024, 4096]
        assert [(b, c) for b, c in decodes(measured) if c == 1280] == [(1, 1280), (4, 1280), (8, 1280), (32, 1280)]
        assert max(map(abs, errors(measured).values())) < EXACT
        assert measured.fit is not None
        for tokens in (256, 1024, 4096):
            assert measured.fit.curves.prompt_s(tokens) == pytest.approx(make.seen_prompt_s(tokens), rel=EXACT)
        # between the measured batches the formula is a straight line, as the curve is
        for batch in (1, 2, 6, 20, 32):
            assert measured.fit.curves.decode_s(batch, 1280 * batch) == pytest.approx(
                make.decode_s(batch, 1280 * batch), rel=EXACT
            )
        assert measured.next_steps == ()

    def test_without_bounds_the_context_slope_is_that_of_the_single_requests(self) -> None:
        alone = [f"vllm/alone-{tokens}.json" for tokens in (256, 1024, 4096)]
        measured = read("vllm/appended.json", *alone)
        assert measured.fit is not None and not measured.fit.context_slope_known
        assert measured.fit.curves.slope_s_per_context_token == pytest.approx(30e-9, rel=0.1)
        assert any("made-up-8b is not in the catalogue: the slope of decode time over" in w for w in measured.warnings)
        too_few = read("vllm/appended.json", "vllm/alone-256.json")
        assert too_few.fit is not None and too_few.fit.curves.slope_s_per_context_token == 0
        assert any("made-up-8b is not in the catalogue, and too few single" in w for w in too_few.warnings)

    def test_a_known_machine_bounds_the_context_slope(self) -> None:
        paths = [SAMPLES / "vllm" / name for name in ("appended.json", *(f"alone-{n}.json" for n in (256, 1024, 4096)))]
        measured = read_measurements(paths, model="llama2-70b", machine="dgx-h100", tensor_parallel=8)
        assert measured.fit is not None and measured.fit.context_slope_known
        context = measured.fit.curves.context
        assert context is not None and context.floor_s_per_token == pytest.approx(327680 / (8 * 3352e9))
        assert context.limited_by == "ceiling"  # 30 ns a token are more than twice the floor of 12 ns

    @pytest.mark.parametrize(("name", "batch"), [("held-4-detailed", 4), ("held-8-detailed", 8)])
    def test_gaps_without_prompts_are_counted_from_the_times_of_every_request(self, name: str, batch: int) -> None:
        measured = read(f"vllm/{name}.json")
        assert decodes(measured) == [(batch, 1044)] and prompts(measured) == []
        assert abs(errors(measured)["decode", 1024, batch]) < EXACT
        assert "prompt time of 1,024 tokens: every request overlapped others" in reasons(measured)

    def test_a_client_that_is_late_by_a_millisecond_changes_little(self, tmp_path: Path) -> None:
        generator = np.random.default_rng(5)
        run = make.serve([(1024, 100)] * 64, in_flight=8)
        for request in run:
            late_s = generator.exponential(0.001, len(request.seen_s))
            request.seen_s = sorted((np.array(request.seen_s) + late_s).tolist())
        measured = read_result(tmp_path, make.vllm(run, 8, detailed=True))
        assert abs(errors(measured)["decode", 1024, 8]) < 2 * EXACT

    def test_an_open_load_gives_its_batches_where_every_time_is_known(self) -> None:
        measured = read("vllm/rate-6-detailed.json")
        assert [batch for batch, _ in decodes(measured)] == list(range(2, 13))
        assert prompts(measured) == [1024]  # of the one request that found nobody
        assert max(map(abs, errors(measured).values())) < EXACT

    def test_single_gaps_without_times_of_sending_are_corrected_for_prompts(self) -> None:
        measured = read("vllm/held-8-no-starts.json")
        assert decodes(measured) == [(8, 1104)]
        assert abs(errors(measured)["decode", 1024, 8]) < EXACT
        # 8 prompts of one chunk in 159 gaps: 5.0 % hold one, and half of the rest lie below 47.5 %
        (found,) = measured.identified
        assert "47% quantile" in found.why or "48% quantile" in found.why

    def test_the_quantile_is_the_median_of_the_gaps_without_prompts(self, tmp_path: Path) -> None:
        # of 159 gaps 8 hold a prompt, the others take 10 to 12 ms: their median is 11 ms, that of all 11.05 ms
        gaps = [*np.linspace(0.010, 0.012, 151), *[0.1] * 8]
        result = make.vllm(make.serve([(1024, 160)] * 16, 8), 8, detailed=True, start_times=False)
        measured = read_result(tmp_path, {**result, "itls": [gaps] * 16, "ttfts": [0.07] * 16})
        assert [p.latency_s for p in measured.points] == pytest.approx([0.011], rel=5e-4)

    def test_gaps_far_from_the_mean_context_are_not_at_it(self, tmp_path: Path) -> None:
        # both decode up to contexts of 300 tokens, the second alone then; the mean context is 100 + 600 / 2
        run = make.serve([(100, 200), (100, 1000)], in_flight=2)
        measured = read_result(tmp_path, make.vllm(run, 2, detailed=True))
        assert decodes(measured) == [(1, 400)]

    def test_the_median_gap_of_a_summary_is_one_without_a_prompt(self) -> None:
        measured = read("vllm/held-16.json")
        assert decodes(measured) == [(16, 1280)]
        assert abs(errors(measured)["decode", 1024, 16]) < EXACT
        (found,) = measured.identified
        assert "16 prompts in 511 gaps: up to 3% of the gaps hold one" in found.why

    @pytest.mark.parametrize(
        ("name", "why"),
        [
            ("rate-6", "sent at 6 requests/s: the batch is not known"),
            ("rate-6", "6.6 in flight on average: a loaded TTFT is not a prompt time"),
            ("at-once", "all sent at once"),
            ("held-64-short", "64 prompts in 63 gaps: up to 100% of the gaps hold one (longer outputs)"),
        ],
    )
    def test_what_cannot_be_told_is_refused_with_its_reason(self, name: str, why: str) -> None:
        with pytest.raises(InputError, match="no point of a curve is in it") as refused:
            read(f"vllm/{name}.json")
        assert why in str(refused.value)
        # beside a usable file it is a finding
        assert len(read("vllm/alone-256.json", f"vllm/{name}.json").not_identified) == 4

    def test_a_long_prompt_counts_once_for_each_chunk(self, tmp_path: Path) -> None:
        (result,) = alone(8192, output_tokens=101)
        times = {
            f"{stat}_{name}_ms": ms for stat in ("mean", "median") for name, ms in (("ttft", 80.0), ("tpot", 20.0))
        }
        itl = {"mean_itl_ms": 20.0, "median_itl_ms": 19.0}
        held = {**result, **times, **itl, "max_concurrency": 8, "request_throughput": 8 / 2.08}
        (found,) = read_result(tmp_path, held).identified
        assert "8 prompts in 100 gaps: up to 32% of the gaps hold one" in found.why

    def test_short_outputs_leave_no_gap_without_prompts(self, tmp_path: Path) -> None:
        short = make.serve([(64, 40)] * 160, in_flight=16)
        measured = read_result(tmp_path, "\n".join(map(json.dumps, [*alone(64), make.vllm(short, 16)])))
        assert [batch for batch, _ in decodes(measured)] == [1]
        assert "16 prompts in 39 gaps: up to 41% of the gaps hold one (longer outputs)" in reasons(measured)

    def test_a_loaded_ttft_is_never_a_point(self) -> None:
        names = sorted(str(p.relative_to(SAMPLES)) for p in (SAMPLES / "vllm").glob("*.json"))
        measured = read(*names)
        assert prompts(measured) == [256, 1024, 4096]
        assert max(map(abs, errors(measured).values())) < EXACT

    def test_a_full_server_is_not_taken_for_the_batch_that_the_client_holds(self, tmp_path: Path) -> None:
        full = make.serve([(1024, 512)] * 96, in_flight=16, max_batch=8)
        others = alone(256)
        summary = read_result(tmp_path, "\n".join(map(json.dumps, [*others, make.vllm(full, 16)])))
        assert [batch for batch, _ in decodes(summary)] == [1]
        assert "wait or are in their prompt else: the batch may be smaller" in reasons(summary)
        detailed = read_result(tmp_path, "\n".join(map(json.dumps, [*others, make.vllm(full, 16, detailed=True)])))
        assert 16 not in [batch for batch, _ in decodes(detailed)]
        assert max(map(abs, errors(detailed).values())) < EXACT

    def test_too_few_requests_do_not_hold_the_load(self, tmp_path: Path) -> None:
        run = make.serve([(1024, 512)] * 5, in_flight=4)
        results = [*alone(256), make.vllm(run, 4)]
        measured = read_result(tmp_path, "\n".join(map(json.dumps, results)))
        assert "only 2.6 of 4 requests were in flight on average: more requests are needed (40 or more)" in reasons(
            measured
        )

    def test_a_rare_request_runs_alone(self, tmp_path: Path) -> None:
        run = make.serve([(1024, 64)] * 30, sent_s=make.poisson_s(0.1, 30))
        measured = read_result(tmp_path, make.vllm(run, None, rate=0.1))
        assert prompts(measured) == [1024] and decodes(measured) == [(1, 1056)]
        assert max(map(abs, errors(measured).values())) < EXACT

    def test_tokens_in_bundles_are_not_iterations(self, tmp_path: Path) -> None:
        run = make.serve([(1024, 512)] * 90, in_flight=8)
        result = make.vllm(run, 8)
        for stat in ("mean", "median"):
            result[f"{stat}_itl_ms"] *= 4  # as with --stream-interval 4
        measured = read_result(tmp_path, "\n".join(map(json.dumps, [*alone(1024), result])))
        (point,) = [p for p in measured.points if p.batch == 8]
        # the mean gap of a request is as it was, with some of others' prompts in it
        assert 0 < point.latency_s / true_s(point) - 1 < MEAN_GAP

    def test_bundles_in_single_gaps_are_seen(self, tmp_path: Path) -> None:
        result = make.vllm(make.serve([(1024, 41)] * 20, in_flight=4), 4, detailed=True)
        result["itls"] = [[sum(gaps[k : k + 4]) for k in range(0, len(gaps), 4)] for gaps in result["itls"]]
        result["output_lens"] = [41] * 20
        measured = read_result(tmp_path, "\n".join(map(json.dumps, [*alone(256), result])))
        assert [batch for batch, _ in decodes(measured)] == [1]

    def test_speculative_decoding_gives_no_decode_times(self, tmp_path: Path) -> None:
        (result,) = alone(1024)
        measured = read_result(tmp_path, {**result, "spec_decode_acceptance_rate": 71.0})
        assert prompts(measured) == [1024] and decodes(measured) == []
        assert "speculative decoding" in reasons(measured)

    def test_failed_requests_are_left_out_and_said(self, tmp_path: Path) -> None:
        result = make.vllm(make.serve([(1024, 40)] * 8, 1), 1, detailed=True)
        for name in ("ttfts", "output_lens"):
            result[name].append(0)
        for name, value in (("input_lens", 1024), ("start_times", 9000.0), ("itls", []), ("errors", "timeout")):
            result[name].append(value)
        measured = read_result(tmp_path, {**result, "num_prompts": 9})
        assert max(map(abs, errors(measured).values())) < EXACT
        assert any("1 requests failed" in warning for warning in measured.warnings)

    def test_several_prompt_lengths_in_one_run_are_several_points(self, tmp_path: Path) -> None:
        lengths = [(n, 20) for n in (128, 512, 2048) for _ in range(4)]
        measured = read_result(tmp_path, make.vllm(make.serve(lengths, 1), 1, detailed=True))
        assert prompts(measured) == [128, 512, 2048]
        assert max(abs(e) for (phase, _, _), e in errors(measured).items() if phase == "prompt") < EXACT

    def test_lengths_that_differ_by_a_few_tokens_lie_on_one_axis(self, tmp_path: Path) -> None:
        results = [make.vllm(make.serve([(n, 512)] * 10 * b, b), b) for n, b in ((1024, 1), (1019, 4), (1030, 8))]
        measured = read_result(tmp_path, "\n".join(map(json.dumps, [*results, *alone(4096)])))
        assert {c for b, c in decodes(measured) if b > 1} == {1286}  # of the run with the most requests
        assert measured.fit is not None
        assert max(map(abs, errors(measured).values())) < 0.01

    def test_lengths_of_the_user_replace_those_of_the_file(self, tmp_path: Path) -> None:
        (result,) = alone(1024)
        measured = read_result(tmp_path, result, input_tokens=1000, output_tokens=500)
        assert prompts(measured) == [1000] and decodes(measured) == [(1, 1250)]


class TestGuideLLM:
    def test_one_report_holds_several_runs(self) -> None:
        measured = read("guidellm/0.5-concurrent.json")
        assert measured.recognised[0].tool == "GuideLLM 0.5.3"
        assert measured.recognised[0].model_id == make.MODEL_ID
        assert prompts(measured) == [512, 2048]
        assert [b for b, c in decodes(measured) if c == 912] == [1, 4, 16]
        assert "64 in flight" in measured.recognised[0].runs[4]
        alone_errors = [e for (_, _, batch), e in errors(measured).items() if batch == 1]
        assert max(map(abs, alone_errors)) < EXACT
        assert measured.fit is not None

    def test_a_mean_gap_is_at_most_too_slow_by_the_share_that_it_says(self) -> None:
        measured = read("guidellm/0.5-concurrent.json")
        for batch, share in ((4, 0.014), (16, 0.057)):
            (said,) = [f.why for f in measured.identified if f.quantity.startswith(f"decode time at batch {batch},")]
            assert f"up to {share:.1%} of it others' prompts" in said
            assert -EXACT < errors(measured)["decode", 512, batch] < share / (1 - share)

    def test_an_old_report_tells_who_ran_alone(self) -> None:
        measured = read("guidellm/0.2-sweep.json")
        assert prompts(measured) == [1024] and decodes(measured) == [(1, 1056)]
        assert max(map(abs, errors(measured).values())) < EXACT
        assert sum(p.repeats for p in measured.points if p.phase == "prompt") == 18
        assert "all sent at once: the batch is not known" in reasons(measured)

    def test_a_sample_of_the_requests_tells_nothing_of_overlaps(self, tmp_path: Path) -> None:
        busy = make.serve([(1024, 64)] * 40, sent_s=make.poisson_s(6.0, 40))
        report = make.guidellm_02([({"type_": "poisson", "rate": 6.0}, busy)])
        report["benchmarks"][0]["requests"]["successful"] = report["benchmarks"][0]["requests"]["successful"][::8]
        with pytest.raises(InputError, match="a loaded TTFT is not a prompt time"):
            read_result(tmp_path, report)

    def test_a_run_in_which_nothing_succeeded_does_not_spoil_the_others(self, tmp_path: Path) -> None:
        report = json.loads((SAMPLES / "guidellm/0.5-concurrent.json").read_text())
        for summary in report["benchmarks"][4]["metrics"].values():
            if "errored" in summary and isinstance(summary["errored"], dict):
                summary["successful"] = summary["errored"]
        measured = read_result(tmp_path, report)
        assert measured.fit is not None and "none succeeded" in measured.recognised[0].runs[4]
        assert "prompt time: the file has no times to the first token" in reasons(measured)

    def test_lengths_that_vary_give_no_prompt_time(self, tmp_path: Path) -> None:
        run = make.serve([(n, 64) for n in (200, 400, 800, 1600)], 1)
        report = make.guidellm_05([({"type_": "synchronous"}, run)])
        measured = read_result(tmp_path, report)
        assert prompts(measured) == [] and "prompt lengths vary by 71%" in reasons(measured)


class TestNvidia:
    @pytest.mark.parametrize(("tool", "title"), [("aiperf", "AIPerf"), ("genai-perf", "genai-perf")])
    def test_concurrency_is_taken_from_the_folder(self, tool: str, title: str) -> None:
        names = [str(p.relative_to(SAMPLES)) for p in sorted((SAMPLES / tool).rglob("*.csv"))]
        measured = read(*names)
        assert {each.tool for each in measured.recognised} == {title}
        assert prompts(measured) == [1000, 3000]
        assert [b for b, c in decodes(measured) if c == 1250] == [1, 8]
        assert all(abs(e) < EXACT for (_, _, batch), e in errors(measured).items() if batch == 1)
        assert 0 < errors(measured)["decode", 1000, 8] < MEAN_GAP
        assert measured.fit is not None

    def copied(self, tmp_path: Path, tool: str = "aiperf") -> Path:
        (source,) = (SAMPLES / tool).glob("*3000*/*.csv")
        copy = tmp_path / "renamed.csv"
        copy.write_bytes(source.read_bytes())
        return copy

    def test_without_a_stated_concurrency_nothing_is_known(self, tmp_path: Path) -> None:
        path = self.copied(tmp_path)
        with pytest.raises(InputError, match=r"concurrency not stated .*, 1\.0 in flight on average: a loaded TTFT"):
            read_measurements([path], **REPLICA)
        assert prompts(read_measurements([path], **REPLICA, concurrency=1)) == [3000]

    def test_the_json_beside_it_states_it(self, tmp_path: Path) -> None:
        path = self.copied(tmp_path)
        settings = {"endpoint": {"model_names": ["some/model"]}, "loadgen": {"concurrency": 1}}
        path.with_suffix(".json").write_text(json.dumps({"input_config": settings}))
        measured = read_measurements([path], **REPLICA)
        assert prompts(measured) == [3000] and measured.recognised[0].model_id == "some/model"
        with pytest.raises(InputError, match="give the CSV that lies beside it"):
            read_measurements([path.with_suffix(".json")], **REPLICA)

    def test_the_json_of_newer_versions_lists_phases(self, tmp_path: Path) -> None:
        path = self.copied(tmp_path)
        phases = [{"name": "warmup", "type": "concurrency", "concurrency": 9}]
        settings: dict[str, Any] = {"models": {"items": [{"name": "some/model"}]}, "phases": phases}
        phases.append({"name": "profiling", "type": "concurrency", "concurrency": 1})
        path.with_suffix(".json").write_text(json.dumps({"input_config": settings}))
        measured = read_measurements([path], **REPLICA)
        assert prompts(measured) == [3000] and measured.recognised[0].model_id == "some/model"
        phases[1] = {"name": "profiling", "type": "poisson", "rate": 1.0}
        path.with_suffix(".json").write_text(json.dumps({"input_config": settings}))
        with pytest.raises(InputError, match="concurrency not stated"):
            read_measurements([path], **REPLICA)

    def test_prompts_from_the_prefix_cache_have_no_prompt_time(self, tmp_path: Path) -> None:
        path = self.copied(tmp_path)
        for tokens, there in ((30.0, True), (1900.0, False)):
            row = f"Usage Prompt Cache Read Tokens (tokens),{tokens:.2f}" + f",{tokens:.2f}" * 12
            lines = [line for line in path.read_text().splitlines() if not line.startswith("Usage")]
            path.write_text("\n".join([lines[0], row, *lines[1:]]))
            measured = read_measurements([path], **REPLICA, concurrency=1)
            assert (prompts(measured) == [3000]) is there and decodes(measured) == [(1, 3025)]
        assert "63% of the prompt tokens came from the prefix cache" in reasons(measured)

    @pytest.mark.parametrize("folder", ["model-openai-chat-concurrency1", "concurrency_1", "c1"])
    def test_folders_that_state_the_concurrency(self, tmp_path: Path, folder: str) -> None:
        (tmp_path / folder).mkdir()
        assert prompts(read_measurements([self.copied(tmp_path / folder)], **REPLICA)) == [3000]

    def test_a_file_without_a_count_of_requests_may_hold_many_in_flight(self, tmp_path: Path) -> None:
        paths = []
        for in_flight, requests in ((1, 3), (64, 640)):
            paths.append(tmp_path / f"concurrency{in_flight}" / "profile_export_genai_perf.csv")
            paths[-1].parent.mkdir()
            paths[-1].write_text(make.genai_perf(make.serve([(256, 2000)] * requests, in_flight)))
        measured = read_measurements(paths, **REPLICA)
        assert decodes(measured) == [(1, 1256), (64, 1256)]
        assert 0 < errors(measured)["decode", 256, 64] < MEAN_GAP
        # without the time of such a prompt alone its bound is the least loaded TTFT, and that is too loose here
        with pytest.raises(InputError, match="of the mean gap is others' prompts"):
            read_measurements(paths[1:], **REPLICA)

    def test_a_time_needs_its_unit(self, tmp_path: Path) -> None:
        path = self.copied(tmp_path)
        path.write_text(path.read_text().replace("Time to First Token (ms)", "Time to First Token"))
        with pytest.raises(InputError, match=r"time to first token: must state its unit"):
            read_measurements([path], **REPLICA, concurrency=1)

    def test_a_value_that_is_no_number_is_named(self, tmp_path: Path) -> None:
        path = self.copied(tmp_path, "genai-perf")
        lines = path.read_text().splitlines()
        lines[1] = "Time To First Token (ms)" + ",n/a" * 9
        path.write_text("\n".join(lines))
        with pytest.raises(InputError, match=r"time to first token\.avg: must be a number of ms, got 'n/a'"):
            read_measurements([path], **REPLICA, concurrency=1)


class TestTables:
    def table(self, tmp_path: Path, text: str) -> Path:
        path = tmp_path / "points.csv"
        path.write_text(text)
        return path

    ROWS = (
        "phase,prompt_tokens,batch,context_tokens,latency_ms\n"
        "prompt,512,1,,40\nprompt,512,1,,42\nprompt,512,1,,41\nprompt,2048,1,0,130\n"
        "decode,512,1,768,9\ndecode,512,8,6144,10.5\n"
    )

    def test_repeats_become_median_and_extremes(self, tmp_path: Path) -> None:
        measured = read_measurements([self.table(tmp_path, self.ROWS)], **REPLICA)
        first = measured.points[0]
        assert (first.latency_s, first.min_s, first.max_s, first.repeats) == (0.041, 0.040, 0.042, 3)
        assert measured.fit is not None
        assert measured.fit.curves.prompt_s(1280) == pytest.approx((0.041 + 0.130) / 2)

    def test_seconds_and_milliseconds_say_the_same(self, tmp_path: Path) -> None:
        in_ms = read_measurements([self.table(tmp_path, self.ROWS)], **REPLICA)
        lines = [line.rsplit(",", 1) for line in self.ROWS.splitlines()[1:]]
        rows = "\n".join(f"{start},{float(value) / 1e3}" for start, value in lines)
        text = f"phase,prompt_tokens,batch,context_tokens,latency_s\n{rows}\n"
        in_s = read_measurements([self.table(tmp_path, text)], **REPLICA)
        assert [p.latency_s for p in in_s.points] == pytest.approx([p.latency_s for p in in_ms.points])

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("latency_ms", "latency", "row 1: must have one column latency_s, latency_ms or latency_us"),
            (",context_tokens", "", "row 1: must have context_tokens"),
            ("prompt,2048", "prefill,2048", "row 5: phase: must be prompt or decode, got 'prefill'"),
            ("prompt,2048", "prompt,2048.5", "row 5: prompt_tokens: must be a whole number of tokens"),
            (",130", ",-130", "row 5: latency_ms: must be above 0, got -130"),
            (",130", ",nan", "row 5: latency_ms: must be a number, got 'nan'"),
            (",130", ",0.13", "row 5: latency_ms: 0.13 ms is not plausible .* in another unit"),
            (",130", ",", "row 5: latency_ms: must be a number, got ''"),
            (",130", ",130,7", "row 5: must have 5 fields, has 6"),
            ("6144", "768", "row 7: context_tokens: must be of the whole batch, 8 x 512 or more, got 768"),
            ("10.5", "10500000", "row 7: latency_ms: 1.05e.07 ms is not plausible"),
        ],
    )
    def test_a_wrong_cell_is_named(self, tmp_path: Path, old: str, new: str, message: str) -> None:
        with pytest.raises(InputError, match=message):
            read_measurements([self.table(tmp_path, self.ROWS.replace(old, new))], **REPLICA)

    def test_a_written_file_reads_back_the_same(self, tmp_path: Path) -> None:
        measured = read("vllm/appended.json", "vllm/alone-256.json")
        path = tmp_path / "curve.csv"
        path.write_text(curve_text({REPLICA["tensor_parallel"]: measured.points}, model="made-up-8b", machine="box"))
        assert path.read_text().splitlines()[0] == ",".join(COLUMNS)
        (points,) = read_points(path, model="made-up-8b", machine="box").values()
        again = read_measurements([path], **REPLICA)
        for read_back in (points, again.points):
            assert [p.label for p in read_back] == [p.label for p in measured.points]
            values = [[p.latency_s, p.min_s, p.max_s, p.repeats] for p in measured.points]
            assert np.allclose([[p.latency_s, p.min_s, p.max_s, p.repeats] for p in read_back], values, rtol=1e-8)
        assert {row["provenance"] for row in csv.DictReader(path.open())} == {"measured"}
        with pytest.raises(InputError, match="must be other, got 'made-up-8b'"):
            read_measurements([path], model="other", machine="box", tensor_parallel=1)
        with pytest.raises(InputError, match=r"has no rows at tensor_parallel 4 \(has 1\)"):
            read_measurements([path], model="made-up-8b", machine="box", tensor_parallel=4)


class TestBadInput:
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("", "is empty; known are"),
            (" \n", "is empty; known are"),
            ("{", "ends in the middle of its JSON .*: is it cut off"),
            ('{"a": 1}', "is of no known benchmark .its keys: 'a'"),
            ("[1, 2]", "is a JSON array"),
            ('{"a" 1}', "is not JSON: line 1, column 6"),
            ('{"benchmarks": []}', "benchmarks: must be a list with a benchmark or more"),
            ('{"benchmarks": [7]}', "must be a JSON object, got 7"),
            ('{"benchmarks": [{"metrics": {}}]}', "metrics: has no time_to_first_token_ms"),
            ('{"request_throughput": 1, "completed": 0}', "completed: no request of the run succeeded"),
            ('{"request_throughput": 1, "completed": 5}', "has no times of tokens: is it a benchmark of embeddings"),
            ("[" * 100_000, "nested too deeply"),
            ("time,value\n1,2\n", "is a CSV file of no known benchmark .its columns: 'time, value'"),
            ("latency,batch\n1,2\n", "latency: needs its unit in its name"),
            ("Metric,avg,p50\nTokens,1,2\n", "has no row of Time to First Token or Request Latency"),
            ("phase,prompt_tokens,batch,context_tokens,latency_ms\n", "has a header but no rows"),
        ],
    )
    def test_a_foreign_file_is_refused_in_one_line(self, tmp_path: Path, content: str, message: str) -> None:
        with pytest.raises(InputError, match=message) as refused:
            read_result(tmp_path, content)
        assert "\n" not in str(refused.value) and "result.json" in str(refused.value)

    @pytest.mark.parametrize("name", ["vllm/held-4-detailed.json", "guidellm/0.5-concurrent.json"])
    def test_a_file_cut_off_anywhere_is_said_to_be(self, tmp_path: Path, name: str) -> None:
        text = (SAMPLES / name).read_text().strip()
        for share in (0.1, 0.37, 0.5, 0.83, 0.999):
            with pytest.raises(InputError, match=r"ends in the middle|cut off|is not JSON"):
                read_result(tmp_path, text[: int(len(text) * share)])

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                {"median_ttft_ms": 0.05},
                "median_ttft_ms: 0.05 ms is not plausible .1 ms to 3,600 s.: is it in another unit",
            ),
            ({"median_ttft_ms": float("nan")}, "median_ttft_ms: must be a number of ms, got nan"),
            ({"median_ttft_ms": -3.0}, "median_ttft_ms: must be above 0 ms, got -3"),
            ({"median_ttft_ms": "63"}, "median_ttft_ms: must be a number of ms, got '63'"),
            ({"median_tpot_ms": 0.009}, "median_tpot_ms: 0.009 ms is not plausible"),
            ({"mean_itl_ms": float("inf")}, "mean_itl_ms: must be a number of ms, got inf"),
            ({"max_concurrency": 0}, "max_concurrency: must be a whole number of requests, 1 or more, got 0"),
            ({"max_concurrency": None, "request_rate": -1.0}, "request_rate: must be above 0 requests/s, got -1"),
            ({"completed": 2.5}, "completed: must be a whole number of requests"),
            ({"total_input_tokens": 0}, "total_input_tokens: must be above 0 tokens, got 0"),
            ({"request_throughput": True}, "request_throughput: must be a number of requests/s, got True"),
            # times 1,000 times too long, each plausible by itself
            (
                {"request_throughput": 0.0002},
                "give 0.000.* requests in flight where 1 were held: are its times in another",
            ),
        ],
    )
    def test_a_wrong_value_of_a_summary_is_named(self, tmp_path: Path, change: dict[str, Any], message: str) -> None:
        (result,) = alone(1024)
        with pytest.raises(InputError, match=message):
            read_result(tmp_path, {**result, **change})

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("ttfts", float("nan"), "ttfts: must be a list of finite numbers"),
            ("ttfts", -0.1, r"ttfts: must be above 0 s, got -0.1 \(was the endpoint streaming\?\)"),
            ("ttfts", "a", "ttfts: must be a list of numbers"),
            ("input_lens", -1, "input_lens: must be above 0 tokens, got -1"),
            ("itls", [0.01, -0.01], "itls: must be 0 s or more, got -0.01"),
            ("itls", 3, "itls: must be a list of finite numbers"),
            ("start_times", None, "start_times: must be a list of finite numbers"),
        ],
    )
    def test_a_wrong_value_of_a_request_is_named(self, tmp_path: Path, name: str, value: Any, message: str) -> None:
        result = make.vllm(make.serve([(1024, 40)] * 3, 1), 1, detailed=True)
        result[name][1] = value
        with pytest.raises(InputError, match=message):
            read_result(tmp_path, result)

    def test_times_of_requests_in_ms_are_refused(self, tmp_path: Path) -> None:
        result = make.vllm(make.serve([(1024, 40)] * 3, 1), 1, detailed=True)
        result["itls"] = [[1e3 * gap for gap in gaps] for gaps in result["itls"]]
        result["itls"] = [[4 * gap for gap in gaps] for gaps in result["itls"]]
        with pytest.raises(InputError, match=r"itls: a median of .* s is not plausible"):
            read_result(tmp_path, result)

    def test_lists_of_other_lengths_are_refused(self, tmp_path: Path) -> None:
        result = make.vllm(make.serve([(1024, 40)] * 3, 1), 1, detailed=True)
        result["itls"].pop()
        with pytest.raises(InputError, match=r"one value for each request \(ttfts: 3, input_lens: 3, .* itls: 2\)"):
            read_result(tmp_path, result)

    def test_no_token_times_without_streaming(self, tmp_path: Path) -> None:
        (result,) = alone(1024)
        zeros = {f"{stat}_{name}_ms": 0.0 for stat in ("mean", "median") for name in ("ttft", "tpot", "itl")}
        with pytest.raises(InputError, match=r"has no times to the first token .was the endpoint streaming"):
            read_result(tmp_path, {**result, **zeros})

    def test_files_of_two_models_are_refused(self, tmp_path: Path) -> None:
        (result,) = alone(1024)
        path = tmp_path / "other.json"
        path.write_text(json.dumps({**result, "model_id": "other/model"}))
        with pytest.raises(InputError, match=r"other.json: is of the model other/model, .* of example/made-up-8b"):
            read_measurements([SAMPLES / "vllm/alone-256.json", path], **REPLICA)
        with pytest.raises(InputError, match="holds runs of several models"):
            read_result(tmp_path, json.dumps(result) + json.dumps({**result, "model_id": "other/model"}))

    def test_files_that_cannot_be_read(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="cannot be read: No such file"):
            read_measurements([tmp_path / "none.json"], **REPLICA)
        with pytest.raises(InputError, match="cannot be read: Is a directory"):
            read_measurements([tmp_path], **REPLICA)
        (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x01")
        with pytest.raises(InputError, match="is not a text file in UTF-8"):
            read_measurements([tmp_path / "binary"], **REPLICA)
        with pytest.raises(InputError, match="give a result file or more"):
            read_measurements([], **REPLICA)


class TestNextSteps:
    def test_what_is_missing_is_asked_for(self) -> None:
        measured = read("vllm/alone-1024.json")
        assert measured.fit is None and "2 or more prompt sizes" in measured.fit_refused
        steps = [" ".join(step.split()) for step in measured.next_steps]
        assert all(f"--model {make.MODEL_ID}" in step for step in steps)
        lengths = [step.split("--random-input-len ")[1].split()[0] for step in steps]
        held = [step.split("--max-concurrency ")[1].split()[0] for step in steps]
        # other prompt sizes one at a time, and more batches at the length that is there
        assert list(zip(lengths, held, strict=True)) == [
            ("256", "1"),
            ("4096", "1"),
            ("1024", "8"),
            ("1024", "32"),
            ("1024", "128"),
        ]

    def test_doing_them_makes_a_curve(self, tmp_path: Path) -> None:
        measured = read("vllm/alone-1024.json")
        results = []
        for step in measured.next_steps:
            words = step.split()
            option = {
                name: words[k + 1] for k, name in enumerate(words) if name.startswith("--") and k + 1 < len(words)
            }
            lengths = (int(option["--random-input-len"]), int(option["--random-output-len"]))
            in_flight = int(option["--max-concurrency"])
            if in_flight > 32:
                continue  # what was asked for is enough without
            run = make.serve([lengths] * int(option["--num-prompts"]), in_flight)
            results.append(make.vllm(run, in_flight, detailed=True))
        path = tmp_path / "more.json"
        path.write_text("\n".join(map(json.dumps, results)))
        joined = read_measurements([SAMPLES / "vllm/alone-1024.json", path], **REPLICA)
        assert joined.fit is not None and joined.next_steps == ()
        assert max(map(abs, errors(joined).values())) < 2 * EXACT  # of few gaps where a batch fills or drains


class TestFit:
    def test_left_out_points_are_predicted_by_the_others(self) -> None:
        measured = read("vllm/appended.json", "vllm/alone-256.json", "vllm/alone-4096.json")
        assert measured.fit is not None
        prompt, decode = measured.fit.phases
        assert (prompt.points, prompt.left_out) == (3, 1)
        # 1,024 tokens on the straight line between its neighbours
        line = np.interp(1024, [256, 4096], [make.seen_prompt_s(256), make.seen_prompt_s(4096)])
        assert prompt.left_out_largest == pytest.approx(abs(line / make.seen_prompt_s(1024) - 1), abs=0.005)
        assert prompt.largest < EXACT
        # batches of 4 and 8 lie on a straight line with the others
        assert decode.left_out == 2 and decode.left_out_largest is not None and decode.left_out_largest < EXACT

    def test_a_point_that_no_replica_can_have_is_refused_with_its_reason(self, tmp_path: Path) -> None:
        rows = TestTables.ROWS + "prompt,8192,1,0,20\n"
        path = tmp_path / "points.csv"
        path.write_text(rows)
        measured = read_measurements([path], **REPLICA)
        assert any(w.startswith("refused: 8192 x 1 prompt: falls from 0.13 s") for w in measured.warnings)


def headings(measured: Measured) -> Sequence[str]:
    return [block.title for block in measured_document(measured).blocks]


def test_the_report_says_what_was_found_and_what_was_not() -> None:
    measured = read("vllm/alone-1024.json", "vllm/rate-6.json")
    assert headings(measured) == [
        "Recognised",
        "Points",
        "Identified",
        "Not identified",
        "No curve yet",
        "Warnings",
        "To be measured next",
    ]
    shown = " ".join(render(measured_document(measured)).split())
    assert "a loaded TTFT is not a prompt time" in shown and "--max-concurrency 8" in shown
    fitted = read("vllm/appended.json", "vllm/alone-256.json")
    assert "How well the curve explains the points" in headings(fitted)
    assert "provision curves import new.csv" in render(measured_document(fitted, Path("new.csv")))


def test_the_report_as_plain_values() -> None:
    data = measured_data(read("vllm/appended.json", "vllm/alone-256.json"))
    assert [phase["phase"] for phase in data["fit"]] == ["prompt", "decode"]
    assert {"source", "quantity", "why"} == set(data["not_identified"][0])
    json.dumps({**data, "written": None})
    assert measured_data(read("vllm/alone-256.json"))["fit"] is None

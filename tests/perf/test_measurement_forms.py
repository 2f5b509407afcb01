"""Results of SGLang, inference-perf, llm-d, InferenceX and AIPerf, and bundles of tokens: what each gives a curve."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from provisioner.errors import InputError
from provisioner.perf.measurements import Measured, read_measurements
from tests.conftest import ROOT
from tests.perf.samples import make

REPLICA: dict[str, Any] = {"model": "llama-3.1-8b", "machine": "dgx-h100", "tensor_parallel": 1}
CASES = ROOT.parent / "shared" / "cases" / "measurements"

VLLM = {"request_throughput": 0.4, "completed": 16, "total_input_tokens": 16 * 1024, "total_output_tokens": 16 * 256}
VLLM |= {"num_prompts": 16, "max_concurrency": 1, "request_rate": "inf", "model_id": "some/model"}
VLLM |= {
    f"{stat}_{name}_ms": ms for stat in ("mean", "median") for name, ms in (("ttft", 70.0), ("tpot", 9.5), ("itl", 9.5))
}
SGLANG = VLLM | {
    "backend": "sglang",
    "dataset_name": "random",
    "request_rate": math.inf,
    "random_range_ratio": 1.0,
    "total_output_tokens_retokenized": 4090,
    "accept_length": None,
}


def read(folder: Path, *results: Any, name: str = "result.json", **options: Any) -> Measured:
    path = folder / name
    path.write_text(results[0] if isinstance(results[0], str) else "\n".join(map(json.dumps, results)))
    return read_measurements([path], **REPLICA | options)


def times_ms(measured: Measured) -> dict[tuple[str, int, int], float]:
    return {(p.phase, p.prompt_tokens, p.batch): round(1e3 * p.latency_s, 6) for p in measured.points}


def said(measured: Measured) -> str:
    return "\n".join(f"{f.quantity}: {f.why}" for f in (*measured.identified, *measured.not_identified))


class TestSGLang:
    def test_a_result_is_named_and_gives_what_vllm_gives(self, tmp_path: Path) -> None:
        measured = read(tmp_path, SGLANG)
        assert measured.recognised[0].tool == "SGLang bench_serving"
        assert times_ms(measured) == {("prompt", 1024, 1): 70.0, ("decode", 1024, 1): 9.5}
        assert "does not say whether lengths vary" not in said(measured)
        assert "does not say whether lengths vary" in said(read(tmp_path, VLLM))

    @pytest.mark.parametrize("accept_length", [3.1, 1.0])
    def test_with_speculation_a_gap_is_no_iteration(self, tmp_path: Path, accept_length: float) -> None:
        measured = read(tmp_path, SGLANG | {"accept_length": accept_length})
        assert times_ms(measured) == {("prompt", 1024, 1): 70.0}
        assert "speculative decoding: a gap is not one iteration" in said(measured)

    @pytest.mark.parametrize(
        ("change", "spread"),
        [
            ({"random_range_ratio": 0.0}, "by 58% (SGLang's random_range_ratio 0: 0 to 1 times the length asked for)"),
            ({"random_range_ratio": 0.5}, "by 19% (SGLang's random_range_ratio 0.5: 0.5 to 1 times"),
            ({"dataset_name": "sharegpt"}, "prompt lengths vary (dataset sharegpt)"),
        ],
    )
    def test_lengths_that_vary_give_no_prompt_time_and_are_named(
        self, tmp_path: Path, change: dict[str, Any], spread: str
    ) -> None:
        measured = read(tmp_path, SGLANG | change)
        assert times_ms(measured) == {("decode", 1024, 1): 9.5}
        assert said(measured).count(spread) == 2  # with the decode time, and as the reason for no prompt time

    def test_a_ratio_that_sglang_has_not_is_not_stated(self, tmp_path: Path) -> None:
        measured = read(tmp_path, SGLANG | {"random_range_ratio": -1.0})
        assert times_ms(measured) == {("decode", 1024, 1): 9.5} and "prompt lengths vary (dataset random)" in said(
            measured
        )

    def test_lengths_of_every_request_come_before_the_ratio(self, tmp_path: Path) -> None:
        run = make.vllm(make.serve([(n, 30) for n in (256, 512)] * 4, 1), 1, detailed=True, start_times=False)
        measured = read(tmp_path, SGLANG | run | {"random_range_ratio": 0.0, "request_rate": math.inf})
        assert [p.prompt_tokens for p in measured.points if p.phase == "prompt"] == [256, 512]

    def test_one_batch_gives_both_points_at_its_batch(self, tmp_path: Path) -> None:
        row = {"batch_size": 16, "input_len": 1024, "output_len": 16, "prefill_latency": 0.2}
        measured = read(tmp_path, row | {"median_decode_latency": 0.02})
        assert times_ms(measured) == {("prompt", 1024, 16): 200.0, ("decode", 1024, 16): 20.0}
        assert [p.context_per_sequence_tokens for p in measured.points] == [0, 1032]
        assert measured.recognised[0].tool == "SGLang bench_one_batch"
        assert times_ms(read(tmp_path, row | {"output_len": 1})) == {("prompt", 1024, 16): 200.0}
        with pytest.raises(InputError, match="prefill_latency: 4000 s is not plausible"):
            read(tmp_path, row | {"prefill_latency": 4000.0})

    def test_one_batch_of_several_sizes_makes_a_curve(self, tmp_path: Path) -> None:
        rows = [
            {"batch_size": b, "input_len": n, "output_len": 16, "prefill_latency": 1e-4 * n, "median_decode_latency": s}
            for b, n, s in ((1, 512, 0.01), (1, 1024, 0.0101), (8, 1024, 0.012))
        ]
        measured = read(tmp_path, *rows)
        assert measured.fit is not None and measured.next_steps == ()


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (
            {
                "batch_size": 9,
                "input_len": 1e308,
                "output_len": 2,
                "prefill_latency": 0.2,
                "median_decode_latency": 0.1,
            },
            "inf",
        ),
        (VLLM | {"total_input_tokens": 10**400}, "total_input_tokens: must be a number of tokens"),
        (
            make.vllm(make.serve([(1024, 40)] * 3, 1), 1, detailed=True) | {"input_lens": [10**400] * 3},
            "a list of numbers",
        ),
        (
            make.vllm(make.serve([(1024, 40)] * 3, 1), 1, detailed=True) | {"input_lens": [1e308] * 3},
            "a list of finite numbers",
        ),
    ],
)
def test_numbers_beyond_all_bounds_are_refused_with_the_file(tmp_path: Path, result: Any, message: str) -> None:
    with pytest.raises(InputError, match=rf"result\.json: .*{message}"):
        read(tmp_path, result)


class TestBundles:
    @pytest.mark.parametrize(
        "itl", [{"median_itl_ms": 0.02}, {"median_itl_ms": 0.0}, {"median_itl_ms": 12.0}, {"mean_itl_ms": 38.0}]
    )
    def test_the_mean_gap_is_taken_and_bundles_are_named(self, tmp_path: Path, itl: dict[str, float]) -> None:
        measured = read(tmp_path, VLLM | itl)
        assert times_ms(measured) == {("decode", 1024, 1): 9.5}
        assert "one request at a time; tokens came in bundles" in said(measured)
        assert "prompt time of 1,024 tokens: tokens came in bundles" in said(measured)

    def test_a_held_batch_takes_the_mean_gap(self, tmp_path: Path) -> None:
        held = VLLM | {"max_concurrency": 8, "request_throughput": 3.2, "median_itl_ms": 0.02}
        measured = read(tmp_path, held | {f"{stat}_ttft_ms": 30.0 for stat in ("mean", "median")})
        assert times_ms(measured) == {("decode", 1024, 8): 9.5}
        assert "mean gap, up to 8.4% of it others' prompts; tokens came in bundles" in said(measured)

    def test_gaps_of_nothing_in_a_list_are_seen(self, tmp_path: Path) -> None:
        result = make.vllm(make.serve([(1024, 41)] * 20, in_flight=4), 4, detailed=True)
        # each second token comes with the one before it
        result["itls"] = [[t for k in range(0, 40, 2) for t in (gaps[k] + gaps[k + 1], 0.0)] for gaps in result["itls"]]
        with pytest.raises(InputError, match="tokens came in bundles"):
            read(tmp_path, result)

    def test_a_run_without_bundles_is_none(self, tmp_path: Path) -> None:
        for name in ("held-8-detailed", "rate-6-detailed", "alone-1024", "held-16"):
            measured = read(
                tmp_path,
                VLLM,
                (json.loads((make.FOLDER / f"vllm/{name}.json").read_text()) | {"model_id": "some/model"}),
            )
            assert "bundles" not in said(measured)


class TestAIPerf:
    def test_the_overall_share_of_the_prompt_cache_counts(self, tmp_path: Path) -> None:
        (source,) = (make.FOLDER / "aiperf").glob("*3000*/*.csv")
        for share, there in ((3.2, True), (93.59, False)):
            text = source.read_text().replace(
                "Metric,Value", f"Metric,Value\nOverall Usage Prompt Cache Read % (%),{share}"
            )
            measured = read(tmp_path, text, name="profile.csv", concurrency=1)
            assert (("prompt", 3000, 1) in times_ms(measured)) is there
            assert ("decode", 3000, 1) in times_ms(measured)
        assert "94% of the prompt tokens came from the prefix cache" in said(measured)


INFERENCEX = {"hw": "h200", "tp": 1, "ep": 1, "dp_attention": "false", "conc": 1, "model": "some/model", "isl": 1024}
INFERENCEX |= {"osl": 256, "framework": "vllm", "tput_per_gpu": 500.0, "output_tput_per_gpu": 102.4, "mtp": "off"}
INFERENCEX |= {f"{stat}_{name}": s for stat in ("mean", "median") for name, s in (("ttft", 0.07), ("tpot", 0.0095))}


class TestInferenceX:
    def test_one_request_at_a_time_gives_both_points_from_seconds(self, tmp_path: Path) -> None:
        measured = read(tmp_path, INFERENCEX)
        assert measured.recognised[0].tool == "InferenceX" and measured.recognised[0].model_id == "some/model"
        assert times_ms(measured) == {("prompt", 1024, 1): 70.0, ("decode", 1024, 1): 9.5}

    def test_a_loaded_run_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(
            InputError, match=r"64 requests in flight: a loaded TTFT .* of the mean gap is others' prompts"
        ):
            read(tmp_path, INFERENCEX | {"conc": 64, "output_tput_per_gpu": 6500.0})

    @pytest.mark.parametrize("change", [{"mtp": "on"}, {"spec_decoding": "mtp"}])
    def test_speculation_is_known_by_either_key(self, tmp_path: Path, change: dict[str, Any]) -> None:
        assert times_ms(read(tmp_path, INFERENCEX | change)) == {("prompt", 1024, 1): 70.0}

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"tp": 8}, "InferenceX with tensor parallelism 8, not of one engine at tensor_parallel 1"),
            ({"disagg": True}, "InferenceX with tensor parallelism 1, disagg, not of one engine"),
            ({"dp_attention": "true"}, "InferenceX with tensor parallelism 1, dp_attention"),
            ({"isl": None}, "is a result of InferenceX without isl: give input_tokens"),
            ({"osl": None}, "is a result of InferenceX without osl: give output_tokens"),
            ({"median_ttft": 70000.0}, "median_ttft: 70000 s is not plausible"),
        ],
    )
    def test_what_is_not_one_engine_is_refused(self, tmp_path: Path, change: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message):
            read(tmp_path, INFERENCEX | change)

    def test_lengths_may_be_given(self, tmp_path: Path) -> None:
        bare = {key: value for key, value in INFERENCEX.items() if key not in ("isl", "osl")}
        measured = read(tmp_path, bare, input_tokens=1024, output_tokens=256)
        assert times_ms(measured) == times_ms(read(tmp_path, INFERENCEX))


def statistics(mean: float, median: float | None = None, **more: float) -> dict[str, float]:
    return {"mean": mean, "median": mean if median is None else median, "min": mean, "max": mean, **more}


def inference_perf(load: dict[str, Any], itl: dict[str, float] | None = None, **prompts: float) -> dict[str, Any]:
    latency = {"time_to_first_token": statistics(0.07), "time_per_output_token": statistics(0.0095)}
    return {
        "load_summary": {"count": 18, **load},
        "successes": {
            "count": 16,
            "latency": {**latency, "inter_token_latency": itl or statistics(0.0095)},
            "throughput": {"requests_per_sec": 0.4 * (load.get("concurrency") or 1)},
            "prompt_len": statistics(1024, **prompts),
            "output_len": statistics(256),
        },
        "failures": {"count": 2},
    }


class TestInferencePerf:
    def test_one_request_at_a_time_gives_both_points_from_seconds(self, tmp_path: Path) -> None:
        measured = read(tmp_path, inference_perf({"concurrency": 1, "requested_rate": 16.0}))
        assert measured.recognised[0].tool == "inference-perf"
        assert times_ms(measured) == {("prompt", 1024, 1): 70.0, ("decode", 1024, 1): 9.5}
        assert "2 requests failed" in "\n".join(measured.warnings)

    def test_a_held_batch_gives_the_median_gap(self, tmp_path: Path) -> None:
        measured = read(tmp_path, inference_perf({"concurrency": 8}, statistics(0.0095, 0.009)))
        assert times_ms(measured) == {("decode", 1024, 8): 9.0}

    def test_tokens_of_one_chunk_have_one_time_and_are_bundles(self, tmp_path: Path) -> None:
        measured = read(tmp_path, inference_perf({"concurrency": 1}, statistics(0.0095, 0.0)))
        assert times_ms(measured) == {("decode", 1024, 1): 9.5}
        assert "tokens came in bundles" in said(measured)

    def test_a_loaded_rate_gives_nothing(self, tmp_path: Path) -> None:
        report = inference_perf({"requested_rate": 4.0})
        report["successes"]["throughput"]["requests_per_sec"] = 4.0
        with pytest.raises(InputError, match=r"sent at 4 requests/s, 10.0 in flight on average: a loaded TTFT"):
            read(tmp_path, report)

    def test_the_summary_of_all_stages_needs_the_concurrency(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"concurrency not stated .give concurrency."):
            read(tmp_path, inference_perf({}))
        assert len(read(tmp_path, inference_perf({}), concurrency=1).points) == 2

    def test_lengths_that_vary_give_no_prompt_time(self, tmp_path: Path) -> None:
        measured = read(tmp_path, inference_perf({"concurrency": 1}, min=100.0, max=2000.0))
        assert times_ms(measured) == {("decode", 1024, 1): 9.5} and "prompt lengths vary by 93%" in said(measured)

    def test_no_times_without_streaming(self, tmp_path: Path) -> None:
        report = inference_perf({"concurrency": 1})
        report["successes"]["latency"] = {"time_to_first_token": None, "inter_token_latency": None}
        with pytest.raises(InputError, match=r"no times to the first token .was the endpoint streaming"):
            read(tmp_path, report)


def report(load: dict[str, Any], unit: float = 1.0, **engine: Any) -> dict[str, Any]:
    """A benchmark report of llm-d, version 0.2, in s or, with a unit of 1000, in ms."""
    name = {1.0: "s", 1e3: "ms"}[unit]

    def stats(value: float, units: str, **more: float) -> dict[str, Any]:
        return {"mean": value, "p50": value, "min": value, "max": value, "units": units, **more}

    parallelism = {"parallelism": {"tp": engine.pop("tp", 1)}}
    standardized = {"kind": "inference_engine", "model": {"name": "some/model"}, "accelerator": parallelism, **engine}
    latency = {
        "time_to_first_token": stats(0.07 * unit, name),
        "inter_token_latency": stats(0.0095 * unit, f"{name}/token"),
    }
    requests = {"total": 16, "failures": 0, "input_length": stats(1024, "count"), "output_length": stats(256, "count")}
    rate = {"request_rate": {"mean": 0.4 * (load.get("concurrency") or 1), "units": "queries/s"}}
    return {
        "version": "0.2",
        "scenario": {
            "stack": [{"standardized": standardized}, {"standardized": {"kind": "generic"}}],
            "load": {"standardized": load},
        },
        "results": {
            "request_performance": {"aggregate": {"latency": latency, "requests": requests, "throughput": rate}}
        },
    }


class TestLlmD:
    @pytest.mark.parametrize("unit", [1.0, 1e3])
    def test_a_report_gives_both_points_in_the_unit_that_it_states(self, tmp_path: Path, unit: float) -> None:
        made = report({"concurrency": 1, "tool": "guidellm"}, unit)
        as_json = read(tmp_path, made)
        assert as_json.recognised[0].tool == "llm-d benchmark report 0.2"
        assert as_json.recognised[0].model_id == "some/model"
        assert times_ms(as_json) == {("prompt", 1024, 1): 70.0, ("decode", 1024, 1): 9.5}
        assert times_ms(read(tmp_path, yaml.safe_dump(made), name="report.yaml")) == times_ms(as_json)

    def test_the_old_version_too(self, tmp_path: Path) -> None:
        made = report({})
        metrics = made.pop("results")["request_performance"]["aggregate"]
        metrics["throughput"] = {"requests_per_sec": 0.4}
        scenario = {"model": {"name": "some/model"}, "load": {"args": {"max_concurrency": 1}}}
        measured = read(tmp_path, made | {"version": "0.1", "scenario": scenario, "metrics": metrics})
        assert measured.recognised[0].tool == "llm-d benchmark report 0.1"
        assert measured.recognised[0].model_id == "some/model" and len(measured.points) == 2

    def test_a_median_of_means_is_no_gap(self, tmp_path: Path) -> None:
        made = report({"concurrency": 8})
        with pytest.raises(InputError, match=r"up to 20% of the mean gap is others' prompts"):
            read(tmp_path, made)

    def test_a_rate_is_a_loaded_run(self, tmp_path: Path) -> None:
        made = report({"concurrency": math.inf, "rate_qps": 10.0})
        made["results"]["request_performance"]["aggregate"]["throughput"]["request_rate"]["mean"] = 10.0
        with pytest.raises(InputError, match="sent at 10 requests/s: the batch is not known"):
            read(tmp_path, yaml.safe_dump(made), name="report.yml")

    @pytest.mark.parametrize(
        ("engine", "message"),
        [
            ({"tp": 8}, "llm-d with tensor parallelism 8, not of one engine at tensor_parallel 1"),
            ({"replicas": 2}, "llm-d with tensor parallelism 1, 1, not of one engine"),
        ],
    )
    def test_other_engines_are_refused(self, tmp_path: Path, engine: dict[str, Any], message: str) -> None:
        with pytest.raises(InputError, match=message):
            read(tmp_path, report({"concurrency": 1}, **engine))

    def test_a_time_without_its_unit_is_refused(self, tmp_path: Path) -> None:
        made = report({"concurrency": 1})
        del made["results"]["request_performance"]["aggregate"]["latency"]["time_to_first_token"]["units"]
        with pytest.raises(InputError, match=r"time_to_first_token: must state its unit"):
            read(tmp_path, made)

    def test_a_foreign_yaml_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"is of no known benchmark .its keys: 'a'"):
            read(tmp_path, "a: 1", name="report.yaml")


def record(request: make.Request, **metadata: Any) -> dict[str, Any]:
    def ms(seconds: float) -> dict[str, Any]:
        return {"value": 1e3 * seconds, "unit": "ms"}

    gaps = [1e3 * (b - a) for a, b in zip(request.seen_s, request.seen_s[1:], strict=False)]
    metrics = {
        "time_to_first_token": ms(request.ttft_s),
        "request_latency": ms(request.latency_s),
        "input_sequence_length": {"value": request.prompt_tokens, "unit": "tokens"},
        "output_sequence_length": {"value": request.output_tokens, "unit": "tokens"},
        "inter_chunk_latency": {"value": gaps, "unit": "ms"},
    }
    start = {"request_start_ns": round(1e9 * (1.7e9 + request.sent_s)), "benchmark_phase": "profiling"}
    return {"metadata": start | metadata, "metrics": metrics, "error": None}


class TestAIPerfRecords:
    def test_the_times_of_every_request_give_the_points(self, tmp_path: Path) -> None:
        run = make.serve([(1024, 60)] * 40, in_flight=8)
        warm_up = record(make.serve([(4000, 60)], 1)[0], benchmark_phase="warmup")
        failed = {
            "metadata": warm_up["metadata"] | {"benchmark_phase": "profiling"},
            "metrics": {},
            "error": {"code": 499},
        }
        measured = read(tmp_path, warm_up, *map(record, run), failed, name="profile_export.jsonl")
        assert measured.recognised[0].tool == "AIPerf records" and "1 requests failed" in "\n".join(measured.warnings)
        (point,) = measured.points
        assert (point.phase, point.batch) == ("decode", 8)
        assert point.latency_s == pytest.approx(make.decode_s(8, point.context_tokens), rel=0.003)

    def test_one_at_a_time_gives_prompt_times_unless_they_were_cached(self, tmp_path: Path) -> None:
        rows = [record(request) for request in make.serve([(1024, 40)] * 6, 1)]
        assert {p.phase for p in read(tmp_path, *rows).points} == {"prompt", "decode"}
        for row in rows:
            row["metrics"]["usage_prompt_cache_read_tokens"] = {"value": 900, "unit": "tokens"}
        measured = read(tmp_path, *rows)
        assert {p.phase for p in measured.points} == {"decode"}
        assert "88% of the prompt tokens came from the prefix cache" in said(measured)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"error": {"code": 499}}, "completed: no request of the run succeeded"),
            ({"metrics": {}}, "has no metrics.input_sequence_length.value|request_latency: must state its unit"),
            ({"metadata": {}}, "has no metadata.request_start_ns"),
        ],
    )
    def test_a_wrong_record_is_named(self, tmp_path: Path, change: dict[str, Any], message: str) -> None:
        (request,) = make.serve([(1024, 40)], 1)
        with pytest.raises(InputError, match=message):
            read(tmp_path, record(request) | change)


@pytest.mark.parametrize(
    ("result", "begins"),
    [
        (VLLM, "vllm bench serve --model some/model"),
        (SGLANG, "python -m sglang.bench_serving --backend sglang --model some/model"),
        (
            {"batch_size": 1, "input_len": 64, "output_len": 1, "prefill_latency": 0.1},
            "python -m sglang.bench_one_batch",
        ),
        (inference_perf({"concurrency": 1}), "vllm bench serve --model MODEL"),
    ],
)
def test_the_next_runs_are_of_the_tool_at_hand(tmp_path: Path, result: dict[str, Any], begins: str) -> None:
    steps = read(tmp_path, result).next_steps
    assert steps and all(step.startswith(begins) for step in steps)
    assert not any("{" in step for step in steps)


@pytest.mark.parametrize(
    ("name", "tool", "points"),
    [
        ("sglang_c1.jsonl", "SGLang bench_serving", {("prompt", 1024, 1): 70.0, ("decode", 1024, 1): 9.53}),
        ("sglang_c1_eagle_accept3.jsonl", "SGLang bench_serving", {("prompt", 1024, 1): 70.0}),
        ("sglang_c1_ratio0.jsonl", "SGLang bench_serving", {("decode", 512, 1): 9.53}),
        ("sglang_one_batch.jsonl", "SGLang bench_one_batch", {("prompt", 1024, 16): 200.0, ("decode", 1024, 16): 20.0}),
        ("vllm_bundled_median_itl.json", "vllm bench serve", {("decode", 128, 1): 6.5}),
        ("aiperf_cacheread/c1/profile_export_aiperf.csv", "AIPerf", {("decode", 3200, 1): 12.6}),
    ],
)
def test_the_cases_of_the_workplace(name: str, tool: str, points: dict[tuple[str, int, int], float]) -> None:
    if not CASES.is_dir():
        pytest.skip(f"{CASES} is not there")
    measured = read_measurements([CASES / name], **REPLICA)
    assert measured.recognised[0].tool == tool and times_ms(measured) == points
    with pytest.raises(InputError, match="is a result of InferenceX without isl: give input_tokens"):
        read_measurements([CASES / "inferencemax_agg.json"], **REPLICA)

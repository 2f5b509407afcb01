"""Results that hold the totals of a run: a table with a row for each tool says where its values lie."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any, Final

import numpy as np

from provisioner.errors import InputError
from provisioner.perf.measurements import runs
from provisioner.perf.measurements.runs import Contents, Details, Floats, Replica, Run, Spread, check_time
from provisioner.perf.measurements.values import SECONDS, Fields, listed, nested, number, numbers, objects_of, text
from provisioner.spelling import spelled


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """Summary of a run in a tool's JSON: paths to its values, with names joined by dots; empty if it has none.

    ``{time}`` in a path stands for one of ``names``: of the time to the first token, of the mean and of single gaps;
    ``{}`` for one of ``statistics``: median, mean and standard deviation. ``lengths`` are of prompts and outputs, and
    without ``{}`` totals of the completed requests; ``counts`` are requests attempted and completed; ``load`` has those
    in flight, the rate asked for and the rate reached; ``cached`` is the percentage of prompt tokens from the prefix
    cache. Times without a ``unit`` state it beside them. A file is of the tool if it has ``keys``, with speculative
    decoding if a key begins with ``speculative``. ``finish`` adds what a tool states in its own way.
    """

    tool: str
    keys: frozenset[str] = frozenset()
    times: str
    names: tuple[str, str, str]
    statistics: tuple[str, str, str] = ("median", "mean", "std_dev")
    unit: str = ""
    lengths: tuple[str, str]
    counts: tuple[str, str] = ("", "")
    load: tuple[str, str, str]
    cached: str = ""
    model: str = ""
    speculative: tuple[str, ...] = ()
    finish: Callable[[Run, Fields, Replica], Run] = lambda run, result, replica: run

    def read(self, shown: str, results: Sequence[Any], replica: Replica) -> Contents:
        """Runs of a file, one for each of its results."""
        return Contents.of_runs(shown, self.tool, [self.run(r, replica) for r in objects_of(shown, "result", results)])

    def run(self, result: Fields, replica: Replica) -> Run:
        """Run that one result describes; ``InputError`` names file and field."""
        attempted, completed = (result.count_if_any(path, 0) or 0 for path in self.counts)
        if result.at(self.counts[1]) == 0:
            raise InputError(f"{result.where}: {self.counts[1]}: no request of the run succeeded")
        ttft, tpot, gap = (self._spread(result, k) for k in range(3))
        if ttft is None and result.at(self.lengths[1].format("mean")) is None and not replica.output_tokens:
            raise InputError(f"{result.where}: has no times of tokens: is it a benchmark of embeddings?")
        prompts = replica.input_tokens or self._length(result, self.lengths[0], completed, "input_tokens")
        outputs = replica.output_tokens or self._length(result, self.lengths[1], completed, "output_tokens")
        extent = result.at(self.lengths[0].removesuffix(".{}"))
        low, high, deviation = (number(extent, name) for name in ("min", "max", self.statistics[2]))
        if not deviation and low is not None and high is not None:
            deviation = (high - low) / 2  # at most
        in_flight, sent = result.count_if_any(self.load[0]), result.at(self.load[1])
        in_flight = replica.concurrency if in_flight is None and sent is None else in_flight
        load = [] if in_flight is None else ["one at a time" if in_flight == 1 else f"{in_flight} in flight"]
        if sent not in (None, "inf", math.inf):
            load.append(f"sent at {result.positive(self.load[1], 'requests/s'):g} requests/s")
        unstated = f"concurrency not stated (give {spelled('concurrency')})" if sent is None else "all sent at once"
        run = Run(
            source=result.where,
            model_id=text(result.at(self.model)),
            load=", ".join(load) or unstated,
            in_flight=in_flight,
            requests=completed,
            failed=max(0, attempted - completed),
            prompt_tokens=prompts,
            output_tokens=outputs,
            vary=None if deviation is None else deviation / prompts,
            ttft=ttft,
            tpot=tpot or gap,
            gap=gap,
            rate_rps=None if result.at(self.load[2]) is None else result.positive(self.load[2], "requests/s"),
            speculative=any(
                str(key).startswith(self.speculative) and value not in (None, False, "", "none", "off")
                for key, value in result.values.items()
            ),
            cached=None if (percent := number(result.at(self.cached))) is None else percent / 100,
        )
        return self.finish(run, result, replica)

    def _spread(self, result: Fields, kind: int) -> Spread | None:
        path = self.times.replace("{time}", self.names[kind])
        median, mean, low, high = (path.format(name) for name in (*self.statistics[:2], "min", "max"))
        if result.at(median) is None and kind == 1:
            median = mean  # of the mean gaps only their mean is used
        stated = [result.at(median), result.at(mean)]
        if None in stated or stated == [0, 0]:
            return None  # not streamed, or one token each
        allowed_s = runs.GAP_RANGE_S if kind else runs.TTFT_RANGE_S
        unit = self.unit or result.unit(path.removesuffix(".{}"))
        mean_s = result.seconds(mean, allowed_s, unit)
        # the median of single gaps is as good as 0 if tokens come in bundles
        median_s = result.seconds(median, (0.0, allowed_s[1]) if kind == 2 else allowed_s, unit)
        least, most = (SECONDS[unit] * (number(result.at(extreme)) or math.nan) for extreme in (low, high))
        return Spread(median_s, mean_s, least if least > 0 else None, most if most > 0 else None)

    def _length(self, result: Fields, path: str, completed: int | None, option: str) -> float:
        mean = path.format(self.statistics[1])
        if result.at(mean) is None:
            raise InputError(f"{result.where}: is a result of {self.tool} without {mean}: give {spelled(option)}")
        return result.positive(mean, "tokens") / (completed if completed and mean == path else 1)


def _with_requests(run: Run, result: Fields, _replica: Replica) -> Run:
    """Add the times of every request if the result lists them."""
    where, lists = result.where, {name: values for name, values in result.values.items() if isinstance(values, list)}
    if not lists.get("ttfts"):
        return run
    names = ("ttfts", "input_lens", "output_lens", *({"start_times"} & lists.keys()), "itls")
    sizes = {name: len(lists[name]) if name in lists else "none" for name in names}
    if "none" in sizes.values() or len(set(sizes.values())) > 1:
        shown = ", ".join(f"{name}: {size}" for name, size in sizes.items())
        raise InputError(f"{where}: its lists must have one value for each request ({shown})")
    outputs = numbers(lists["output_lens"], f"{where}: output_lens")
    if not (ok := outputs > 0).any():
        raise InputError(f"{where}: output_lens: no request has an output")

    def above_0(name: str, unit: str, why: str = "") -> Floats:
        values = numbers(lists[name], f"{where}: {name}")[ok]
        if not (values > 0).all():
            raise InputError(f"{where}: {name}: must be above 0 {unit}, got {values.min():g}{why}")
        return values

    ttft_s = above_0("ttfts", "s", " (was the endpoint streaming?)")
    gaps = tuple(numbers(values, f"{where}: itls") for values in compress(lists["itls"], ok))
    pooled = np.concatenate(gaps)
    if pooled.size and pooled.min() < 0:
        raise InputError(f"{where}: itls: must be 0 s or more, got {pooled.min():g}")
    # the median of single gaps is as good as 0 if tokens come in bundles
    for name, values, allowed_s in (("ttfts", ttft_s, runs.TTFT_RANGE_S), ("itls", pooled, (0.0, runs.GAP_RANGE_S[1]))):
        if values.size:
            median_s = float(np.median(values))
            check_time(median_s, f"{where}: {name}", f"a median of {median_s:g} s", allowed_s)
    return run.with_details(
        Details(
            start_s=numbers(lists["start_times"], f"{where}: start_times")[ok] if "start_times" in lists else None,
            ttft_s=ttft_s,
            last_s=ttft_s + np.array([values.sum() for values in gaps]),
            prompt_tokens=above_0("input_lens", "tokens"),
            output_tokens=outputs[ok],
            gaps_s=gaps,
        )
    )


def _sglang(run: Run, result: Fields, replica: Replica) -> Run:
    """Add the spread of lengths: SGLang draws them from ``random_range_ratio`` times the length asked for up to it."""
    dataset, ratio = text(result.at("dataset_name")), number(result.at("random_range_ratio"))
    vary, lengths = math.inf, f"dataset {dataset or 'not stated'}"
    if dataset.startswith("random") and ratio is not None and 0 <= ratio <= 1:
        vary = (1 - ratio) / (1 + ratio) / math.sqrt(3)
        lengths = f"SGLang's random_range_ratio {ratio:g}: {ratio:g} to 1 times the length asked for"
    return _with_requests(replace(run, vary=vary, lengths=lengths), result, replica)


def _of_one_engine(tool: str, result: Fields, degrees: Sequence[Any], replica: Replica) -> None:
    """Refuse a result of several engines, given by their degrees of tensor parallelism, or of another degree."""
    if any(degree not in (None, replica.tensor_parallel) for degree in degrees) or len(degrees) > 1:
        has = ", ".join(map(str, degrees))
        asked = f"one engine at {spelled('tensor_parallel')} {replica.tensor_parallel}"
        raise InputError(f"{result.where}: is a result of {tool} with tensor parallelism {has}, not of {asked}")


def _inferencex(run: Run, result: Fields, replica: Replica) -> Run:
    """Add the rate, from output tokens/s per GPU, of one engine without data parallelism."""
    several = [key for key in ("disagg", "is_multinode", "dp_attention") if result.at(key) in (True, "true")]
    _of_one_engine("InferenceX", result, [result.at("tp"), *several], replica)
    tokens_per_s = result.positive("output_tput_per_gpu", "tokens/s") * replica.tensor_parallel
    return replace(run, rate_rps=tokens_per_s / run.output_tokens)


def _llm_d(run: Run, result: Fields, replica: Replica) -> Run:
    """Add the model of the engine, and leave out gaps, which are means for some of the tools behind a report."""
    parts = [nested(part, "standardized") for part in listed(result.at("scenario.stack"))]
    engines = [part for part in parts if text(part, "kind") == "inference_engine"]
    engines += [engine for engine in engines if number(engine, "replicas") not in (None, 1)]
    hosts = [nested(engine, "accelerator") for engine in engines] or listed(result.at("scenario.host.accelerator"))
    _of_one_engine("llm-d", result, [nested(host, "parallelism", "tp") for host in hosts], replica)
    models = [run.model_id, *(text(engine, "model", "name") for engine in engines)]
    gap = run.gap if run.bundled else None
    return replace(run, model_id=next(filter(None, models), ""), gap=gap)


VLLM: Final = Form(
    tool="vllm bench serve",
    keys=frozenset({"request_throughput", "completed"}),
    times="{}_{time}_ms",
    names=("ttft", "tpot", "itl"),
    unit="ms",
    lengths=("total_input_tokens", "total_output_tokens"),
    counts=("num_prompts", "completed"),
    load=("max_concurrency", "request_rate", "request_throughput"),
    model="model_id",
    speculative=("spec_decode_",),
    finish=_with_requests,
)
_SGLANG: Final = replace(
    VLLM,
    tool="SGLang bench_serving",
    keys=frozenset({"total_output_tokens_retokenized"}),
    speculative=("accept_length",),
    finish=_sglang,
)
_INFERENCEX: Final = replace(
    VLLM,
    tool="InferenceX",
    keys=frozenset({"tput_per_gpu", "conc"}),
    times="{}_{time}",
    unit="s",
    lengths=("isl", "osl"),
    load=("conc", "", ""),
    model="model",
    speculative=("mtp", "spec_decoding"),
    finish=_inferencex,
)
_INFERENCE_PERF: Final = Form(
    tool="inference-perf",
    keys=frozenset({"load_summary", "successes"}),
    times="successes.latency.{time}.{}",
    names=("time_to_first_token", "time_per_output_token", "inter_token_latency"),
    unit="s",
    lengths=("successes.prompt_len.{}", "successes.output_len.{}"),
    counts=("load_summary.count", "successes.count"),
    load=("load_summary.concurrency", "load_summary.requested_rate", "successes.throughput.requests_per_sec"),
)


def _report(version: str, at: str, load: tuple[str, str, str]) -> Form:
    """Benchmark report of llm-d, which converts results of several tools; ``at`` is the path of its metrics."""
    return replace(
        _INFERENCE_PERF,
        tool=f"llm-d benchmark report {version}",
        keys=frozenset({"version", "scenario", at.partition(".")[0]}),
        times=f"{at}.latency.{{time}}.{{}}",
        statistics=("p50", "mean", "stddev"),
        unit="",
        lengths=(f"{at}.requests.input_length.{{}}", f"{at}.requests.output_length.{{}}"),
        counts=("", f"{at}.requests.total"),
        load=load,
        model="scenario.model.name",
        finish=_llm_d,
    )


_NEW, _LOAD = "results.request_performance.aggregate", "scenario.load.standardized"

FORMS: Final = (
    _SGLANG,
    VLLM,
    _INFERENCEX,
    _INFERENCE_PERF,
    _report("0.1", "metrics", ("scenario.load.args.max_concurrency", "", "metrics.throughput.requests_per_sec")),
    _report("0.2", _NEW, (f"{_LOAD}.concurrency", f"{_LOAD}.rate_qps", f"{_NEW}.throughput.request_rate.mean")),
)
"""Summaries of a run, of each tool that writes them; the first whose keys a file has is taken."""

"""The table of trace formats, the units of times, and the rules of reading that a user gives."""

from collections.abc import Container
from dataclasses import dataclass, fields
from typing import Final, Literal, Self

TIME_UNITS: Final = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}  # units of times, in s


@dataclass(frozen=True, slots=True)
class TraceRules:
    """Rules of reading that the user gives; of a folder of windows the part ``span_s`` is drawn with the ``seed``."""

    time_unit: str | None = None
    block_tokens: int | None = None
    failed_rows: str = "drop"
    rate_rps: float | None = None
    span_s: tuple[float, float] | None = None
    seed: int = 0

    @classmethod
    def of(cls, options: object) -> Self:
        """The rules among options, which have the same names."""
        return cls(**{each.name: getattr(options, each.name) for each in fields(cls)})


@dataclass(frozen=True, slots=True)
class TraceFormat:
    """Trace format: its columns of time, prompt and output tokens, and all else that its rows mean.

    A column ``requests.prompt_length`` is one of the requests that a row lists under ``requests``. ``marks`` are
    further columns that tell the format from its neighbours, which stand below it. Times are in ``time_unit``; ""
    means none. A hash stands for ``block_tokens``. A request with a ``delay`` and no time arrives so long after the
    answer before it in its session. Rows of a format with a delay like ``sub_requests.tool_duration_ns`` either are a
    request or list those of a session, each with the delay of the next.
    """

    name: str
    title: str
    columns: tuple[str, str, str]
    time_unit: Literal["s", "ms", "us", "ns", "date", ""]  # "date" for a date and time of day
    marks: tuple[str, ...] = ()
    block_tokens: int | None = None
    delay: str = ""

    def columns_of(self, row: Container[str]) -> tuple[str, str, str]:
        """The columns of a row: those of tokens are of its list if it lists the requests of a session."""
        listed, inner, _ = self.delay.partition(".")
        time, prompt, output = self.columns
        return (time, f"{listed}.{prompt}", f"{listed}.{output}") if inner and listed in row else self.columns


_LENGTHS = ("timestamp", "input_length", "output_length")
_BATCH = ("timestamp", "requests.prompt_length", "requests.output_length")
_TOKS = ("arrival_time_ns", "input_toks", "output_toks")
FORMATS = (
    TraceFormat("own", "own", ("arrival_s", "prompt_tokens", "output_tokens"), "s"),
    TraceFormat("azure", "Azure LLM inference", ("TIMESTAMP", "ContextTokens", "GeneratedTokens"), "date"),
    TraceFormat("qwen-bailian", "Qwen-Bailian", _LENGTHS, "s", ("chat_id", "parent_chat_id"), 16),
    TraceFormat("ragpulse", "RAGPulse", _LENGTHS, "s", ("hash_ids.sys_prompt",)),
    TraceFormat("aiperf", "AIPerf sessions", _LENGTHS, "ms", ("session_id",), 512, "delay"),
    TraceFormat("mooncake", "Mooncake", _LENGTHS, "ms", (), 512),
    TraceFormat("splitwise-sim", "SplitwiseSim", ("arrival_timestamp", "prompt_size", "token_size"), "s"),
    TraceFormat("vidur", "Vidur", ("arrived_at", "num_prefill_tokens", "num_decode_tokens"), "s"),
    TraceFormat("burstgpt", "BurstGPT", ("Timestamp", "Request tokens", "Response tokens"), "s"),
    TraceFormat("semantic-router", "vLLM semantic router", ("timestamp", "prompt_tokens", "generated_tokens"), "s"),
    TraceFormat("aibrix", "AIBrix", _BATCH, "ms"),
    TraceFormat("llmservingsim", "LLMServingSim", _TOKS, "ns", delay="sub_requests.tool_duration_ns"),
)

SERVEGEN: Final = TraceFormat("servegen", "generated ServeGen", ("window", "input_tokens", "output_tokens"), "s")
"""Folders of ServeGen, whose requests are drawn (``trace_windows``)."""

NEAR_MISSES: Final = {
    r"[\d.]+,[^,]*,[^,]*,(Gamma|Weibull)?,": "has windows of ServeGen, no requests: give its folder",
    r"\s*\[": "is a JSON array; a trace has one JSON object per line",
    r"[^,]*\t": "is separated by tabs (TSV), a trace by commas: replace them",
    r"[^,]*;": "is separated by ';', a trace by commas: replace them",
    r"---|- |%YAML|[\w-]+:(\s|$)": "looks like YAML; a trace is CSV or JSON lines",
    r"[-+.\d]": "has no header line with the names of columns",
}
MAGIC: Final = {
    b"\x1f\x8b": "compressed (gzip); decompress it first",
    b"PAR1": "a Parquet file; write it as CSV",
    b"\xff\xfe": "text in UTF-16; write it in UTF-8",
}

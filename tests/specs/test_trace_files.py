"""Turns of sessions around one that failed: it took no time, and what follows it still waits for all delays."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from provisioner.errors import InputError
from provisioner.specs.trace_formats import TraceRules
from provisioner.specs.traces import Trace, describe, read_trace

Read = Callable[..., Trace]


@pytest.fixture
def turns(tmp_path: Path) -> Read:
    """Reader of AIPerf's turns, given as session, timestamp or None, delay or None, and output tokens."""

    def read(*rows: tuple[str, float | None, float | None, int], **rules: str) -> Trace:
        path = tmp_path / "turns.jsonl"
        keyed = [
            {"session_id": name, "timestamp": at, "delay": delay, "input_length": 10 * k, "output_length": tokens}
            for k, (name, at, delay, tokens) in enumerate(rows, 1)
        ]
        rows_text = [json.dumps({key: value for key, value in row.items() if value is not None}) for row in keyed]
        path.write_text("\n".join(rows_text), encoding="utf-8")
        return read_trace(path, TraceRules(**rules))

    return read


def test_the_turn_after_a_failed_first_one_arrives_at_its_time_and_the_delay(turns: Read) -> None:
    read = turns(("a", 0.0, None, 3), ("b", 200.0, None, 0), ("b", None, 500.0, 4), ("b", None, 100.0, 5))
    assert read.arrival_s.tolist() == pytest.approx([0.0, 0.7, 0.8])
    assert read.follows is not None and read.follows.tolist() == [-1, -1, 1]
    np.testing.assert_array_equal(read.delay_s, [np.nan, np.nan, 0.1])
    assert describe(read)["sessions"].startswith("2; 1 requests wait")
    assert read.facts["failed requests left out"] == "1 (25.0 %)"


def test_the_turn_after_a_failed_later_one_waits_for_the_answer_before_it_and_both_delays(turns: Read) -> None:
    read = turns(("a", 0.0, None, 3), ("a", None, 500.0, 0), ("a", None, 250.0, 0), ("a", None, 50.0, 4))
    assert read.follows is not None and read.follows.tolist() == [-1, 0]
    assert read.delay_s is not None and read.delay_s[1] == pytest.approx(0.8)


def test_a_session_of_failed_turns_alone_is_none(turns: Read) -> None:
    read = turns(("a", 0.0, None, 3), ("a", None, 10.0, 4), ("b", 0.0, None, 0), ("b", None, 5.0, 0))
    assert (read.requests, describe(read)["sessions"].partition(";")[0]) == (2, "1")
    with pytest.raises(InputError, match=r"line 3: output_length: 0 tokens"):
        turns(("a", 0.0, None, 3), ("a", None, 10.0, 4), ("b", 0.0, None, 0), failed_rows="refuse")


@pytest.mark.parametrize(
    ("tokens", "arrivals", "delays"), [((0, 4, 5), [1.25, 1.3], [0.05]), ((3, 0, 5), [1, 1.3], [0.3])]
)
def test_calls_of_an_agent_around_a_failed_one(
    tmp_path: Path, tokens: tuple[int, ...], arrivals: list[float], delays: list[float]
) -> None:
    """Tools run 250 ms after the first call and 50 ms after the second."""
    calls = [
        {"input_toks": 10, "output_toks": answer, "tool_duration_ns": wait_ns}
        for answer, wait_ns in zip(tokens, (250_000_000, 50_000_000, 0), strict=True)
    ]
    path = tmp_path / "agents.jsonl"
    path.write_text(json.dumps({"session_id": "a", "arrival_time_ns": 10**9, "sub_requests": calls}), encoding="utf-8")
    read = read_trace(path)
    assert (read.arrival_s - read.arrival_s[0] + arrivals[0]).tolist() == pytest.approx(arrivals)
    assert read.delay_s is not None and read.delay_s[1:].tolist() == pytest.approx(delays)

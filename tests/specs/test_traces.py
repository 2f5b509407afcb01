import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner.errors import InputError
from provisioner.specs import trace_files
from provisioner.specs.trace_files import FORMATS, MAX_TOKENS
from provisioner.specs.traces import describe, profile, read_trace

OWN = "arrival_s,prompt_tokens,output_tokens\n"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


@pytest.fixture
def trace(tmp_path):
    """Writes a trace file and reads it."""

    def read(content, name="trace.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_trace(path)

    return read


@pytest.fixture
def refused(trace, tmp_path):
    """The message that a file is refused with, without its path."""

    def message(content, name="trace.csv"):
        with pytest.raises(InputError) as error:
            trace(content, name)
        text = str(error.value)
        assert "\n" not in text
        assert text.startswith(f"{tmp_path / name}: ")
        return text.removeprefix(f"{tmp_path / name}: ")

    return message


# Formats


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (OWN + "0.5,10,3\n2,20,4\n", "own"),
        (AZURE + "2023-11-16 18:17:03.9799600,10,3\n2023-11-16 18:17:05.4799600,20,4\n", "azure"),
        (AZURE + "2024-05-10 00:00:00+00:00,10,3\n2024-05-10 00:00:01.500000+00:00,20,4\n", "azure"),
        (
            '{"timestamp": 500, "input_length": 10, "output_length": 3, "hash_ids": [0]}\n'
            '{"timestamp": 2000, "input_length": 20, "output_length": 4, "hash_ids": [1]}\n',
            "mooncake",
        ),
        ("timestamp,input_length,output_length\n500,10,3\n2000,20,4\n", "mooncake"),
        (
            "request_id,request_type,application_id,arrival_timestamp,batch_size,prompt_size,token_size\n"
            "0,2,0,0.5,1,10,3\n1,2,0,2.0,1,20,4\n",
            "splitwise-sim",
        ),
        ("arrived_at,num_prefill_tokens,num_decode_tokens\n0.5,10,3\n2,20,4\n", "vidur"),
        ('{"arrival_s": 0.5, "prompt_tokens": 10, "output_tokens": 3}\n'
         '{"arrival_s": 2, "prompt_tokens": 20, "output_tokens": 4}', "own"),
    ],
)  # fmt: skip
def test_every_format_is_recognised(trace, content, name):
    read = trace(content)
    assert read.format.name == name
    assert read.prompt_tokens.tolist() == [10, 20]
    assert read.output_tokens.tolist() == [3, 4]
    # dates have no zero of their own: theirs is the first request
    assert read.arrival_s.tolist() == ([0, 1.5] if name == "azure" else [0.5, 2])
    assert read.prompt_tokens.dtype == read.output_tokens.dtype == np.int64
    assert read.warnings == ()
    known = next(known for known in FORMATS if known.name == name)
    assert describe(read)["format"] == f"{known.title} ({', '.join(known.columns)})"


@pytest.mark.parametrize(
    "content",
    [
        "\ufeff" + OWN + "0.5,10,3\n2,20,4\n",
        OWN.replace("\n", "\r\n") + "0.5,10,3\r\n2,20,4\r\n",
        OWN + "0.5,10,3\n\n2,20,4\n\n  \n",
        "\n\n" + OWN + "0.5,10,3\n2,20,4",
        OWN + " 0.5 , 10 ,3\n2 ,20, 4\n",
        OWN + '"0.5","10",3\n2,"20",4\n',
        '"arrival_s","prompt_tokens" , output_tokens\n0.5,10,3\n2,20,4\n',
        OWN + "5e-1,1e1,3.0\n+2.0,20.,4\n",
        OWN + "0.5,10,3,\n2,20,4,,\n",
        "user,output_tokens,prompt_tokens,arrival_s\nanna,3,10,0.5\nbert,4,20,2\n",
    ],
)
def test_ways_to_write_the_same(trace, content):
    read = trace(content)
    assert read.arrival_s.tolist() == [0.5, 2]
    assert (read.prompt_tokens.tolist(), read.output_tokens.tolist()) == ([10, 20], [3, 4])


def test_dates_of_the_2023_traces_have_seven_decimals(trace):
    read = trace(AZURE + "2023-11-16 23:59:59.9999999,10,3\n2023-11-17 00:00:00.0000001,20,4\n")
    assert read.arrival_s.tolist() == [0, pytest.approx(2e-7, abs=1e-12)]


@pytest.mark.parametrize("zone", ["+00:00", "Z", "+02:00", "-0530", ""])
def test_dates_with_a_zone(trace, zone):
    read = trace(AZURE + f"2024-05-10T00:00:00{zone},10,3\n2024-05-10T00:01:00.25{zone},20,4\n")
    assert read.arrival_s.tolist() == [0, 60.25]


def test_times_are_read_exactly(trace):
    rng = np.random.default_rng(3)
    times = np.cumsum(rng.exponential(1 / 70, 2000))
    rows = "".join(f"{time!r},5,7\n" for time in times.tolist())
    assert (trace(OWN + rows).arrival_s == times).all()


# Mending, with a warning


def test_equal_times_are_normal(trace):
    read = trace(OWN + "1,10,3\n1,20,4\n1,30,5\n")
    assert read.warnings == ()
    assert read.prompt_tokens.tolist() == [10, 20, 30]


def test_unsorted_times_are_sorted_with_a_warning(trace):
    read = trace(OWN + "3,30,5\n1,10,3\n2,20,4\n1,11,9\n")
    assert read.arrival_s.tolist() == [1, 1, 2, 3]
    assert read.prompt_tokens.tolist() == [10, 11, 20, 30]
    assert read.output_tokens.tolist() == [3, 9, 4, 5]
    assert read.warnings == ("2 of 4 requests arrive before the one above them: sorted by time",)


@pytest.mark.parametrize("start", [-5.0, 1.7e9])
def test_times_that_start_elsewhere_are_shifted_with_a_warning(trace, start):
    read = trace(OWN + f"{start},10,3\n{start + 2},20,4\n")
    assert read.arrival_s.tolist() == [0, 2]
    assert len(read.warnings) == 1
    assert "shifted so that the first request is at 0 s" in read.warnings[0]


# Refusals


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty; a trace has a header line, or one JSON object per line"),
        ("\n \n\n", "is empty; a trace has a header line, or one JSON object per line"),
        (OWN, "has a header but no requests"),
        (OWN + "\n  \n\n", "has a header but no requests"),
        (
            "arrival_s,prompt_tokens\n1,2\n",
            "line 1: misses output_tokens of the own format, has arrival_s, prompt_tokens",
        ),
        (
            "TIMESTAMP,Tokens\n1,2\n",
            "line 1: misses ContextTokens, GeneratedTokens of the Azure LLM inference format, has TIMESTAMP, Tokens",
        ),
        (OWN + "0,10,3\n1,10,-3\n", "line 3: output_tokens: must be a whole number of tokens, 1 or more, got '-3'"),
        (OWN + "0,0,3\n", "line 2: prompt_tokens: must be a whole number of tokens, 1 or more, got '0'"),
        (OWN + "0,10,0\n", "line 2: output_tokens: must be a whole number of tokens, 1 or more, got '0'"),
        (OWN + "0,10.5,3\n", "line 2: prompt_tokens: must be a whole number of tokens, 1 or more, got '10.5'"),
        (OWN + "0,ten,3\n", "line 2: prompt_tokens: must be a whole number of tokens, 1 or more, got 'ten'"),
        (OWN + "0,,3\n", "line 2: prompt_tokens: must be a whole number of tokens, 1 or more, got ''"),
        (OWN + "0,nan,3\n", "line 2: prompt_tokens: must be a whole number of tokens, 1 or more, got 'nan'"),
        (OWN + "0,1e400,3\n", "line 2: prompt_tokens: must be a whole number of tokens, 1 or more, got '1e400'"),
        (OWN + "0,10,200000000\n", f"line 2: output_tokens: must be at most {MAX_TOKENS:,} tokens, got '200000000'"),
        (
            OWN + "0,10,9999999999999999999\n",
            "line 2: output_tokens: must be at most 100,000,000 tokens, got '9999999999999999999'",
        ),
        (OWN + "0,10,3\n\n1,10,3\nsoon,10,3\n", "line 5: arrival_s: must be a time in s, got 'soon'"),
        (OWN + "nan,10,3\n", "line 2: arrival_s: must be a time in s, got 'nan'"),
        (OWN + "inf,10,3\n", "line 2: arrival_s: must be a time in s, got 'inf'"),
        (OWN + "1_0,10,3\n", "line 2: arrival_s: must be a time in s, got '1_0'"),
        (OWN + ",10,3\n", "line 2: arrival_s: must be a time in s, got ''"),
        (OWN + "2023-11-16 18:17:03,10,3\n", "line 2: arrival_s: must be a time in s, got '2023-11-16 18:17:03'"),
        (OWN + "0,10\n", "line 2: has 2 columns, the header 3"),
        (OWN + "1,5,100,20\n", "line 2: has 4 columns, the header 3"),
        (OWN + "0,10,3\n0;10;3\n", "line 3: has 1 columns, the header 3"),
        (OWN + '0,10,3\n"0,10,3\n1,2,3\n', "line 3: has 1 columns, the header 3"),
        (
            AZURE + "2023-11-16 18:17:03.97,10,3\n2023-13-16 18:17:03,10,3\n",
            "line 3: TIMESTAMP: must be a date and time such as 2023-11-16 18:17:03.97, got '2023-13-16 18:17:03'",
        ),
        ("timestamp,input_length,output_length\nx,1,2\n", "line 2: timestamp: must be a time in ms, got 'x'"),
        ('[{"timestamp": 0}]', "is a JSON array; a trace has one JSON object per line"),
        (
            '{"timestamp": 0, "input_length": 5}\n',
            "line 1: misses output_length of the Mooncake format, has timestamp, input_length",
        ),
        ("{\n", "line 1: is not a JSON object on one line: Expecting property name enclosed in double quotes"),
    ],
)  # fmt: skip
def test_wrong_files_are_refused_with_file_line_column_and_value(refused, content, message):
    assert refused(content) == message


@pytest.mark.parametrize("date", ["5", "1700000000", "now", "2023", "NaT", "", "2023-11-16", "2023-11-16 18"])
def test_what_numpy_takes_for_a_date_is_refused(refused, date):
    message = refused(AZURE + f"2023-11-16 18:17:03.97,10,3\n{date},10,3\n")
    assert message.startswith("line 3: TIMESTAMP: must be a date and time such as ")
    assert message.endswith(f", got {date!r}")


def test_a_file_without_known_columns_is_told_all_formats(refused):
    message = refused("when,in,out\n1,2,3\n")
    assert message.startswith("line 1: no known trace columns, has when, in, out; known are: ")
    for known in FORMATS:
        assert ", ".join(known.columns) in message


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ('{"timestamp": 1, "input_length": 5}', "misses output_length"),
        ('{"timestamp": "1s", "input_length": 5, "output_length": 5}', "timestamp: must be a time in ms, got '1s'"),
        ('{"timestamp": NaN, "input_length": 5, "output_length": 5}', "timestamp: must be a time in ms, got nan"),
        (
            '{"timestamp": 1, "input_length": 0, "output_length": 5}',
            "input_length: must be a whole number of tokens, 1 or more, got 0",
        ),
        (
            '{"timestamp": 1, "input_length": true, "output_length": 5}',
            "input_length: must be a whole number of tokens, 1 or more, got True",
        ),
        (
            '{"timestamp": 1, "input_length": 5, "output_length": null}',
            "output_length: must be a whole number of tokens, 1 or more, got None",
        ),
        ("[1, 5, 5]", "must be a JSON object, got [1, 5, 5]"),
        ("timestamp", "is not a JSON object on one line: Expecting value"),
        (
            '{"timestamp": 1, "input_length": 5, "output_length": 5, "hash_ids": 7}',
            "hash_ids: must be a list of block numbers, got 7",
        ),
        (
            '{"timestamp": 1, "input_length": 5, "output_length": 5, "hash_ids": [[1]]}',
            "hash_ids: must be a list of block numbers, got [[1]]",
        ),
    ],
)  # fmt: skip
def test_wrong_json_lines(refused, second, message):
    first = '{"timestamp": 0, "input_length": 5, "output_length": 5}'
    assert refused(f"{first}\n\n{second}\n", "trace.jsonl") == f"line 3: {message}"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x1f\x8b\x08\x00abc", "is compressed (gzip); decompress it first"),
        (b"PK\x03\x04\x00\x00", "is not a text file; a trace is CSV or JSON lines"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "is not a text file; a trace is CSV or JSON lines"),
        (b"\xff\xfea\x00r\x00", "is not a text file; a trace is CSV or JSON lines"),
        (b"\x80\x81\x82\x83\n", "is not a text file in UTF-8; a trace is CSV or JSON lines"),
        (OWN.encode() + b"0,10,3\n\xff,10,3\n", "is not a text file in UTF-8; a trace is CSV or JSON lines"),
        (b"x" * (1 << 21), "line 1: is over 1,048,576 bytes long; not a trace"),
    ],
)
def test_binary_files(refused, content, message):
    assert refused(content) == message


def test_random_bytes_are_one_line(refused):
    for seed in range(20):
        refused(np.random.default_rng(seed).bytes(5000))


def test_missing_files_and_directories(tmp_path):
    with pytest.raises(InputError, match=r"gone\.csv: no such file$"):
        read_trace(tmp_path / "gone.csv")
    with pytest.raises(InputError, match=r": is a directory; a trace is one CSV or JSON lines file$"):
        read_trace(tmp_path)


def test_a_stream_is_read_like_a_file(tmp_path):
    """A shell's <(...) is a pipe: it cannot be read twice."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    content = OWN + "".join(f"{k},10,3\n" for k in range(50_000))
    code = "import sys; text = sys.stdin.read(); open(sys.argv[1], 'w').write(text)"
    with subprocess.Popen([sys.executable, "-c", code, str(pipe)], stdin=subprocess.PIPE, text=True) as writer:
        writer.stdin.write(content)
        writer.stdin.close()
        assert read_trace(pipe).requests == 50_000


# Chunks, and the two ways to read one


def test_line_numbers_count_over_chunks_and_blank_lines(refused, monkeypatch):
    monkeypatch.setattr(trace_files, "CHUNK_LINES", 3)
    rows = "0,10,3\n" * 4 + "\n" + "0,10,3\n" * 4 + "0,10,x\n"
    assert refused(OWN + rows).startswith("line 11: output_tokens: ")
    assert refused(AZURE + "2023-11-16 18:17:03.97,10,3\n" * 7 + "x,1,2\n").startswith("line 9: TIMESTAMP: ")


rows = st.lists(
    st.tuples(
        st.floats(0, 1e7, allow_nan=False),
        st.integers(1, MAX_TOKENS),
        st.integers(1, MAX_TOKENS),
        st.sampled_from(["{},{},{}", " {} , {},{} ", "{:.3f},{},{}", '"{}",{},{}', "{},{}.0,{}", "{},{},{},"]),
    ),
    min_size=1,
    max_size=30,
)


@given(rows, st.integers(1, 40), st.sampled_from(["own", "azure"]))
@settings(max_examples=80)
def test_both_ways_to_read_a_chunk_agree(tmp_path_factory, rows, chunk_lines, name):
    lines = []
    for time, prompt, output, how in rows:
        moment: object = time
        if name == "azure":
            moment = str(datetime(2023, 11, 16, tzinfo=UTC) + timedelta(seconds=time)).removesuffix("+00:00")
            how = how.replace(":.3f", "")
        lines.append(how.format(moment, prompt, output))
    path = tmp_path_factory.getbasetemp() / "both.csv"
    path.write_text((OWN if name == "own" else AZURE) + "\n".join(lines))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace_files, "CHUNK_LINES", chunk_lines)
        compiled = read_trace(path)
        patch.setattr(trace_files.Reader, "_compiled", lambda self, lines: None)
        by_line = read_trace(path)
    for field in ("arrival_s", "prompt_tokens", "output_tokens"):
        assert (getattr(compiled, field) == getattr(by_line, field)).all()
    assert compiled.warnings == by_line.warnings


def test_well_formed_files_take_the_compiled_reader(trace, monkeypatch):
    monkeypatch.setattr(trace_files.Reader, "_row", None)
    assert trace(OWN + "0,10,3\n1,20,4\n").requests == 2
    assert trace(AZURE + "2023-11-16 18:17:03.9799600,10,3\n").requests == 1
    assert trace(AZURE + "2024-05-10 00:00:00.009930+00:00,10,3\n").requests == 1
    with pytest.raises(TypeError):
        trace(OWN + "0,10,3.0\n")


# Prefix blocks


def mooncake(*requests):
    return "".join(
        json.dumps({"timestamp": k, "input_length": tokens, "output_length": 5, "hash_ids": blocks}) + "\n"
        for k, (tokens, blocks) in enumerate(requests)
    )


def test_share_of_prompt_tokens_in_blocks_seen_before(trace):
    # second request: a whole block of 512 seen; third: both blocks, the second of which holds 88 tokens
    read = trace(mooncake((1024, [0, 1]), (1000, [0, 2]), (600, [0, 2])), "trace.jsonl")
    assert read.prefix_reuse == pytest.approx((512 + 512 + 88) / (1024 + 1000 + 600))
    assert read.workload("w").context_share_reused == read.prefix_reuse
    assert describe(read)["prompt tokens in prefix blocks seen before"] == "42.4 %"


def test_without_hashes_nothing_is_said_of_reuse(trace):
    assert trace(OWN + "0,10,3\n").prefix_reuse is None
    assert trace('{"timestamp": 0, "input_length": 5, "output_length": 5}').prefix_reuse is None


def test_blocks_are_counted_up_to_a_limit(trace, monkeypatch):
    monkeypatch.setattr(trace_files, "MAX_PREFIX_BLOCKS", 1)
    read = trace(mooncake((1024, [0, 1]), (1024, [0, 1]), (1024, [0, 1])), "trace.jsonl")
    assert read.prefix_reuse == 0
    assert read.warnings == ("the share of prompt tokens seen before is that of the first 1 requests",)


@pytest.mark.parametrize(("name", "requests", "share"), [("conversation", 12_031, 0.374), ("synthetic", 3_993, 0.651)])
def test_mooncake_traces(shared_data, name, requests, share):
    read = read_trace(shared_data / "mooncake" / f"{name}_trace.jsonl")
    assert (read.format.name, read.requests) == ("mooncake", requests)
    assert read.prefix_reuse == pytest.approx(share, abs=0.001)


@pytest.mark.parametrize(("name", "requests", "cv"), [("code", 8_819, 13.15), ("conv", 19_366, 1.094)])
def test_azure_traces(shared_data, name, requests, cv):
    read = read_trace(shared_data / "azure-2023" / f"AzureLLMInferenceTrace_{name}.csv")
    assert (read.format.name, read.requests, read.warnings) == ("azure", requests, ())
    assert profile(read.arrival_s).cv == pytest.approx(cv, rel=1e-3)


# Arrival profile


def test_profile_of_arrivals():
    measured = profile([0, 0.5, 1.5, 1.75, 4.0, 61.0, 120.0])
    assert (measured.duration_s, measured.requests) == (120.0, 7)
    assert measured.mean_rate_rps == pytest.approx(6 / 120)
    gaps = np.diff([0, 0.5, 1.5, 1.75, 4.0, 61.0, 120.0])
    assert measured.cv == pytest.approx(gaps.std() / gaps.mean())
    # the request at 120 s opens a third minute, which is not a full one
    assert measured.rate_by_minute_rps == pytest.approx((5 / 60, 1 / 60))
    counts = np.array([5, 1])
    assert measured.index_of_dispersion[60] == pytest.approx(counts.var() / counts.mean())
    counts = np.bincount([0, 0, 1, 1, 4, 61], minlength=120)
    assert measured.index_of_dispersion[1] == pytest.approx(counts.var() / counts.mean())


def test_profile_of_poisson_arrivals():
    times = np.cumsum(np.random.default_rng(11).exponential(1 / 20, 100_000))
    measured = profile(times)
    assert measured.cv == pytest.approx(1, abs=0.02)
    assert measured.mean_rate_rps == pytest.approx(20, rel=0.02)
    assert measured.index_of_dispersion[1] == pytest.approx(1, abs=0.05)
    assert np.mean(measured.rate_by_minute_rps) == pytest.approx(20, rel=0.02)


def test_profiles_of_very_few_requests():
    assert (profile([5.0]).mean_rate_rps, profile([5.0]).cv, profile([5.0]).rate_by_minute_rps) == (None, None, ())
    assert profile([1.0, 1.0, 1.0]).mean_rate_rps is None
    assert (profile([1.0, 3.0]).mean_rate_rps, profile([1.0, 3.0]).cv) == (0.5, None)
    assert profile([0.0, 10.0, 30.0]).rate_by_minute_rps == (pytest.approx(2 / 30),)


def test_a_long_and_sparse_trace_costs_no_memory():
    measured = profile([0.0, 1.0, 9e7])
    assert measured.rate_by_minute_rps == ()
    assert measured.index_of_dispersion[1] == pytest.approx(1, abs=1e-6)


# Workload of a trace


def test_workload_of_a_trace(trace):
    read = trace(OWN + "0,10,3\n1,10,3\n3,20,4\n")
    workload = read.workload("mine")
    assert (workload.name, workload.title) == ("mine", "trace.csv (own trace)")
    assert workload.weight.tolist() == [pytest.approx(2 / 3), pytest.approx(1 / 3)]
    assert workload.rate_rps == pytest.approx(2 / 3)
    assert workload.cv == 1.0
    assert workload.arrivals.cv == pytest.approx(np.std([1, 2]) / 1.5)
    assert workload.arrivals.requests == 3
    assert read.workload("mine", rate_rps=70).rate_rps == 70


def test_a_trace_without_any_time_needs_a_rate(trace):
    read = trace(OWN + "1,10,3\n1,10,3\n")
    with pytest.raises(InputError, match=r"all requests arrive at one time, so it has no rate: give one with"):
        read.workload("mine")
    workload = read.workload("mine", rate_rps=5)
    assert (workload.rate_rps, workload.cv) == (5, 1.0)
    assert describe(read)["mean rate"] == "not measurable: no time between the requests"


def test_a_trace_of_many_lengths_is_binned(trace):
    rng = np.random.default_rng(0)
    n = 20_000
    prompt, output = rng.integers(1, 9_000, n), rng.integers(1, 2_000, n)
    lines = "".join(f"{k},{p},{o}\n" for k, (p, o) in enumerate(zip(prompt, output, strict=True)))
    workload = trace(OWN + lines).workload("mine")
    assert workload.classes <= 4000
    assert workload.mean_prompt_tokens == pytest.approx(prompt.mean())
    for q in (0.5, 0.9, 0.99):
        assert workload.quantile("prompt", q) == pytest.approx(np.quantile(prompt, q), rel=0.02)


# Memory

MEASURE = """
import sys
from pathlib import Path
from provisioner.specs.traces import describe, read_trace

def peak_mb():
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024

before = peak_mb()
trace = read_trace(sys.argv[1])
trace.workload("w")
describe(trace)
print(trace.requests, before, peak_mb())
"""


def peak_mb(path, repo_root) -> tuple[int, float, float]:
    """Requests read, and the peak memory in MB before and after reading a trace, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True, cwd=repo_root
    )
    requests, before, after = done.stdout.split()
    return int(requests), float(before), float(after)


def write_rows(path, blocks):
    """A trace of that many times 500,000 rows, whose times start over with each block: it must be sorted too."""
    rng = np.random.default_rng(1)
    n = 500_000
    times = np.cumsum(rng.exponential(1 / 70, n)).tolist()
    prompt, output = rng.integers(1, 8_000, n).tolist(), rng.integers(1, 2_000, n).tolist()
    block = "".join(f"{t:.7f},{p},{o}\n" for t, p, o in zip(times, prompt, output, strict=True))
    with path.open("w") as file:
        file.write(OWN)
        for _ in range(blocks):
            file.write(block)


def test_memory_of_half_a_million_rows(tmp_path, repo_root):
    path = tmp_path / "big.csv"
    write_rows(path, 1)
    requests, before, after = peak_mb(path, repo_root)
    assert requests == 500_000
    # 1 GB for 20 times as many: what a chunk needs (about 70 MB) does not grow, a row takes below 70 bytes
    assert after - before < 150


@pytest.mark.slow
def test_ten_million_rows_stay_under_1_gb(tmp_path, repo_root):
    path = tmp_path / "big.csv"
    write_rows(path, 20)
    requests, _, after = peak_mb(path, repo_root)
    assert requests == 10_000_000
    assert after < 1000

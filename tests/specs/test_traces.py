import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner import files
from provisioner.errors import InputError
from provisioner.specs import trace_files
from provisioner.specs.trace_files import MAX_TOKENS
from provisioner.specs.trace_formats import FORMATS, TraceRules
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
        (
            "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
            "0.5,GPT-4,10,3,13,API log\n2,ChatGPT,20,4,24,Conversation log\n",
            "burstgpt",
        ),
        (
            "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
            "0.5,a-1,43,GPT-4,10,3,13,API log\n2.0,b-2,2,ChatGPT,20,4,24,Conversation log\n",
            "burstgpt",
        ),
        (
            '{"chat_id": 1, "parent_chat_id": -1, "timestamp": 0.5, "input_length": 10, "output_length": 3,'
            ' "type": "text", "turn": 1, "hash_ids": [7]}\n'
            '{"chat_id": 2, "parent_chat_id": 1, "timestamp": 2.0, "input_length": 20, "output_length": 4,'
            ' "type": "text", "turn": 2, "hash_ids": [7, 8]}\n',
            "qwen-bailian",
        ),
        (
            '{"timestamp": "0.5", "input_length": 10, "output_length": 3, "session_id": "a",'
            ' "hash_ids": {"sys_prompt": [3], "history": []}}\n'
            '{"timestamp": "2", "input_length": 20, "output_length": 4, "session_id": "a",'
            ' "hash_ids": {"sys_prompt": [3], "history": [9]}}\n',
            "ragpulse",
        ),
        (
            '{"session_id": "a", "timestamp": 500, "input_length": 10, "output_length": 3}\n'
            '{"session_id": "b", "timestamp": 2000, "input_length": 20, "output_length": 4}\n',
            "aiperf",
        ),
        ("timestamp,prompt_tokens,generated_tokens,selected_model\n0.5,10,3,small\n2,20,4,large\n", "semantic-router"),
        (
            '{"timestamp": 0, "requests": []}\n'
            '{"timestamp": 500, "requests": [{"prompt": "a", "prompt_length": 10, "output_length": 3}]}\n'
            '{"timestamp": 2000, "requests": [{"prompt": "b", "prompt_length": 20, "output_length": 4}]}\n',
            "aibrix",
        ),
        (
            '{"input_toks": 10, "output_toks": 3, "arrival_time_ns": 500000000, "input_tok_ids": [1, 2]}\n'
            '{"input_toks": 20, "output_toks": 4, "arrival_time_ns": 2000000000}\n',
            "llmservingsim",
        ),
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
    if name != "azure":
        unit = {"llmservingsim": "ns", "mooncake": "ms", "aiperf": "ms", "aibrix": "ms"}.get(name, "s")
        assert describe(read)["times"] == f"in {unit}, the unit of the {known.title} format"


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


def test_the_page_of_traces_has_every_format(repo_root):
    page = (repo_root / "docs" / "how-to" / "own-traces.md").read_text(encoding="utf-8")
    for known in FORMATS:
        names = {part for column in known.columns for part in column.split(".")} | {*known.marks, known.delay}
        assert f"| {known.title}" in page
        assert all(f"`{name}`" in page for name in names if name and "." not in name)


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
        (OWN + "0,10,0\n", "has failed requests only (0 output tokens)"),
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
        ('[{"timestamp": 0}]', "line 1: is a JSON array; a trace has one JSON object per line"),
        (OWN.replace(",", ";"), "line 1: is separated by ';', a trace by commas: replace them"),
        (OWN.replace(",", "\t"), "line 1: is separated by tabs (TSV), a trace by commas: replace them"),
        ("name: coding\n", "line 1: looks like YAML; a trace is CSV or JSON lines"),
        ("0,10,3\n", "line 1: has no header line with the names of columns"),
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
        (b"\xff\xfea\x00r\x00", "is text in UTF-16; write it in UTF-8"),
        (b"PAR1\x15\x04", "is a Parquet file; write it as CSV"),
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
    with pytest.raises(InputError, match=r": is a folder; a trace is one file in it, CSV or JSON lines$"):
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


@pytest.mark.parametrize("line", ["0,10,3\\n", '{"timestamp": 1, "input_length": 10, "output_length": 3}\\n', "y"])
def test_a_stream_without_end_is_refused_by_its_size(tmp_path, monkeypatch, line):
    monkeypatch.setattr(files, "MOST_BYTES", 1 << 20)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    code = f"import sys\nwith open(sys.argv[1], 'w') as out:\n  while True:\n    out.write({line!r} * 1000)"
    endless = subprocess.Popen([sys.executable, "-c", code, str(pipe)], stderr=subprocess.DEVNULL)
    with endless, pytest.raises(InputError) as error:
        read_trace(pipe)
    assert str(error.value) == (
        f"{pipe}: cannot be read: too large: without end, or longer; at most 1,048,576 bytes are read"
    )


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/urandom"])
def test_a_device_without_end_is_refused_by_its_size(monkeypatch, device):
    monkeypatch.setattr(files, "MOST_BYTES", 1 << 20)
    with pytest.raises(InputError, match=f"^{device}: cannot be read: too large: without end, or longer; at most "):
        read_trace(device)


def test_a_huge_file_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "huge.csv"
    with open(path, "wb") as file:
        file.truncate(trace_files.MAX_BYTES + 1)  # takes no room on the disk
    with pytest.raises(InputError, match=r"too large: 2,147,483,649 bytes; at most 2,147,483,648 bytes are read$"):
        read_trace(path)


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
        rules = TraceRules(time_unit=None if name == "azure" else "s")  # any spacing of times
        compiled = read_trace(path, rules)
        patch.setattr(trace_files.Reader, "_compiled", lambda self, lines: None)
        by_line = read_trace(path, rules)
    for field in ("arrival_s", "prompt_tokens", "output_tokens"):
        assert (getattr(compiled, field) == getattr(by_line, field)).all()
    assert compiled.warnings == by_line.warnings


def test_well_formed_files_take_the_compiled_reader(trace, monkeypatch):
    monkeypatch.setattr(trace_files.Reader, "_row", None)
    assert trace(OWN + "0,10,3\n1,20,4\n").requests == 2
    assert trace(AZURE + "2023-11-16 18:17:03.9799600,10,3\n").requests == 1
    assert trace(AZURE + "2024-05-10 00:00:00.009930+00:00,10,3\n").requests == 1
    assert trace(OWN + "0,10,3\n1,20,0\n").requests == 1
    with pytest.raises(InputError, match="is not a row of"):
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


# Units of times and of prefix blocks


def mooncake_rows(times, blocks=None, tokens=1000):
    """JSON lines in Mooncake's columns; ``blocks`` is the number of hashes of a prompt."""
    lines = [{"timestamp": time, "input_length": tokens, "output_length": 5} for time in times]
    if blocks is not None:
        lines = [line | {"hash_ids": [*range(k, k + blocks)]} for k, line in enumerate(lines)]
    return "".join(json.dumps(line) + "\n" for line in lines)


@pytest.mark.parametrize(
    ("content", "unit", "sign", "name"),
    [
        (mooncake_rows([0, 500, 1000]), "ms", "the unit of the Mooncake format", "mooncake"),
        (mooncake_rows([0.5, 500.5, 1000.5], 2), "ms", "the unit of the Mooncake format", "mooncake"),
        (mooncake_rows([0.0, 0.5, 1.0], 63), "s", "the unit of the Qwen-Bailian format", "qwen-bailian"),
        (mooncake_rows([1_753_780_607, 1_753_780_608]), "s", "since 1970 by their size", "mooncake"),
        (mooncake_rows([1_753_780_607_000, 1_753_780_608_000]), "ms", "since 1970 by their size", "mooncake"),
        (mooncake_rows([1_753_780_607_000_000, 1_753_780_608_000_000]), "us", "since 1970 by their size", "mooncake"),
        (mooncake_rows(["1753780607550317897", "1753780608550317897"]), "ns", "since 1970 by their size", "mooncake"),
    ],
)  # fmt: skip
def test_units_that_the_file_tells(trace, content, unit, sign, name):
    read = trace(content, "t.jsonl")
    assert (read.facts["times"], read.format.name) == (f"in {unit}, {sign}", name)
    assert read.arrival_s[-1] - read.arrival_s[0] == pytest.approx(1.0)
    assert read.facts["times"] in read.workload("w", rate_rps=1).sources[0]


@pytest.mark.parametrize(
    ("content", "doubt"),
    [
        (mooncake_rows([0.0, 0.5, 1.0]), "Mooncake has whole ms, Qwen-Bailian s"),
        (mooncake_rows([0, 10, 100], 63), "Mooncake has whole ms, Qwen-Bailian s"),
        (mooncake_rows([0, 0, 1, 1, 2]), "Mooncake has whole ms, Qwen-Bailian s"),  # more than one request in each ms
        (OWN + "0,10,3\n0.0001,10,3\n", "s, the unit of the own format, would be 10,000 requests/s over 100 us"),
        (OWN + "0,10,3\n40000000,10,3\n", "s, the unit of the own format, would be 2.5e-08 requests/s over 11,111 h"),
    ],
)  # fmt: skip
def test_units_that_nothing_tells_are_refused_with_rate_and_length_under_each(trace, refused, content, doubt):
    message = refused(content)
    assert message.startswith(f"the unit of its times is not told: {doubt}; give time_unit (s: ")
    assert [part.partition(":")[0] for part in message.partition("(")[2].split("; ")] == ["s", "ms", "us", "ns"]


def test_the_user_states_a_unit(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text(mooncake_rows([0, 0, 1, 1, 2]))
    for unit, last_s in (("s", 2.0), ("ms", 2e-3), ("us", 2e-6), ("ns", 2e-9)):
        read = read_trace(path, TraceRules(time_unit=unit))
        assert (read.arrival_s[-1], read.facts["times"]) == (pytest.approx(last_s), f"in {unit}, as time_unit says")
    path.write_text(OWN + "-1e308,10,3\n1e308,10,3\n")
    with pytest.raises(InputError, match="the unit of its times is not told: ns, as time_unit says, would be "):
        read_trace(path, TraceRules(time_unit="ns"))
    path.write_text(AZURE + "2023-11-16 18:17:03.97,10,3\n")
    with pytest.raises(InputError, match="has dates; leave out time_unit"):
        read_trace(path, TraceRules(time_unit="ms"))


@pytest.mark.parametrize(("hashes", "size"), [(63, 16), (16, 64), (2, 512)])
def test_hashes_tell_the_size_of_their_blocks(trace, hashes, size):
    read = (
        trace(mooncake_rows([0, 500, 1000], hashes), "t.jsonl")
        if size != 16
        else trace(mooncake_rows([0.0, 0.5, 1.0], hashes))
    )
    assert read.facts["prefix blocks"] == f"of {size} tokens"
    # each prompt has all blocks but the first of the one before it as its own first ones
    seen = (hashes - 1) * size / 1000
    assert read.prefix_reuse == pytest.approx(2 / 3 * seen)


def test_hashes_of_no_usual_size_give_no_share_unless_the_user_states_it(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text(mooncake_rows([0, 500, 1000], 1, 300) + mooncake_rows([1500, 2000], 1, 3000))
    read = read_trace(path)
    assert read.prefix_reuse is None
    assert read.facts["prefix blocks"] == "of no usual size: no share of repeated prefixes (block_tokens states it)"
    path.write_text(mooncake_rows([0, 500, 1000], 2, 1500).replace("[1, 2]", "[0, 1]").replace("[2, 3]", "[0, 1]"))
    read = read_trace(path, TraceRules(block_tokens=1000))
    assert (read.prefix_reuse, read.facts["prefix blocks"]) == (pytest.approx(2 / 3), "of 1,000 tokens")


# Failed rows, sessions, and files of lengths


@pytest.mark.parametrize("failed", [1, 2])
def test_failed_rows_are_left_out_with_their_number_and_share(trace, tmp_path, failed):
    content = OWN + "".join(f"{k},10,{3 * (k >= failed)}\n" for k in range(25))
    read = trace(content)
    share = f"{failed} ({failed * 4}.0 %)"
    assert (read.requests, read.facts["failed requests left out"]) == (25 - failed, share)
    warned = (f"failed requests, with 0 output tokens, are left out of the load: {share}",)
    assert read.warnings == (warned if failed == 2 else ())
    with pytest.raises(InputError, match=r"line 2: output_tokens: 0 tokens, .*; failed_rows drop leaves it out$"):
        read_trace(tmp_path / "trace.csv", TraceRules(failed_rows="refuse"))
    assert read_trace(tmp_path / "trace.csv", TraceRules(failed_rows="drop")).requests == 25 - failed


AIPERF = (
    '{"session_id": "a", "timestamp": 0, "input_length": 10, "output_length": 3}\n'
    '{"session_id": "a", "delay": 500, "input_length": 20, "output_length": 4}\n'
    '{"session_id": "b", "timestamp": 200, "input_length": 30, "output_length": 5}\n'
    '{"session_id": "a", "input_length": 40, "output_length": 6}\n'
)
AGENTIC = (
    '{"input_toks": 5, "output_toks": 2, "arrival_time_ns": 0}\n',
    '{"session_id": "a", "arrival_time_ns": 1000000000, "sub_requests": [{"input_toks": 10, "output_toks": 3,'
    ' "tool_duration_ns": 250000000}, {"input_toks": 20, "output_toks": 4, "tool_duration_ns": 0}]}\n',
)


def test_turns_of_a_session_wait_for_the_answer_before_them(trace):
    read = trace(AIPERF)
    assert read.prompt_tokens.tolist() == [10, 30, 20, 40]
    assert read.follows.tolist() == [-1, -1, 0, 2]
    np.testing.assert_array_equal(read.delay_s, [np.nan, np.nan, 0.5, 0.0])
    assert read.arrival_s.tolist() == [0.0, 0.2, 0.5, 0.5]
    assert describe(read)["sessions"] == "2; 2 requests wait for answers; rates are of earliest arrivals"
    assert (read.waiting, read.untimed) == (2, "session_id and delay (delay) make 2 requests wait for answers")
    with pytest.raises(InputError, match=r"session_id and delay .* so it has no rate: give one with rate_rps"):
        read.workload("w")
    assert (read.workload("w", rate_rps=3).cv, read.workload("w", rate_rps=3).arrivals) == (1.0, None)


@pytest.mark.parametrize("rows", [AGENTIC, AGENTIC[::-1], AGENTIC[1:], (*AGENTIC, AGENTIC[1])])
def test_calls_of_an_agent_wait_for_the_answer_and_the_tool_before_them(trace, rows):
    """Rows of LLMServingSim are requests or sessions of calls, in any order; a session's name may come again."""
    read = trace("".join(rows))
    flat, sessions = rows.count(AGENTIC[0]), rows.count(AGENTIC[1])
    assert read.format.name == "llmservingsim"
    assert read.prompt_tokens.tolist() == [*[5] * flat, *[10] * sessions, *[20] * sessions]
    assert read.follows.tolist() == [-1] * (flat + sessions) + [flat + k for k in range(sessions)]
    assert read.arrival_s.tolist() == [*[0.0] * flat, *[1.0] * sessions, *[1.25] * sessions]
    assert set(read.delay_s[-sessions:]) == {0.25}


def test_a_faster_trace_of_sessions_starts_them_sooner_and_keeps_the_delays(trace):
    """The turn that waits 0.5 s comes before the other session at half the rate, and after it at ten times the rate."""
    slow, fast = trace(AIPERF).scaled(rate=0.25), trace(AIPERF).scaled(rate=10.0)
    assert slow.arrival_s.tolist() == [0.0, 0.5, 0.5, 0.8]
    assert (slow.prompt_tokens.tolist(), slow.follows.tolist()) == ([10, 20, 40, 30], [-1, 0, 1, -1])
    assert fast.arrival_s.tolist() == [0.0, 0.02, 0.5, 0.5]
    assert fast.prompt_tokens.tolist() == [10, 30, 20, 40]


def test_turns_with_times_of_their_own_come_at_them(trace):
    read = trace(AIPERF.replace('"delay": 500', '"timestamp": 900'))
    assert (read.arrival_s.tolist(), read.follows.tolist()) == ([0.0, 0.2, 0.9, 0.9], [-1, -1, -1, 2])
    alone = trace("".join(AIPERF.splitlines(keepends=True)[:3:2]))
    assert (alone.waiting, alone.follows, alone.untimed) == (0, None, "")


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ('{"session_id": "b", "delay": 5, "input_length": 5, "output_length": 5}', "misses timestamp"),
        (
            '{"session_id": "a", "delay": -5, "input_length": 5, "output_length": 5}',
            "delay: must be a time of 0 or more, got -5",
        ),
        ('{"session_id": ["a"], "delay": 5, "input_length": 5}', "is not a row of the AIPerf sessions format"),
    ],
)  # fmt: skip
def test_wrong_later_turns(refused, second, message):
    assert refused(AIPERF.partition("\n")[0] + "\n" + second) == f"line 2: {message}"


def test_sessions_without_any_time_miss_the_first_one(refused):
    row = '{"session_id": "a", "input_length": 5, "output_length": 5}'
    assert refused(row).startswith("line 1: misses timestamp of the AIPerf sessions format, has session_id")


def test_a_file_of_lengths_has_no_times(trace):
    read = trace("prompt_tokens,output_tokens\n10,3\n20,4\n")
    assert (read.format.name, read.prompt_tokens.tolist()) == ("lengths", [10, 20])
    assert (read.untimed, read.facts) == ("has lengths only, no times", {"times": "none"})
    with pytest.raises(InputError, match=r"has lengths only, no times, so it has no rate: give one with rate_rps"):
        read.workload("w")
    assert read.workload("w", rate_rps=3).rate_rps == 3


def test_lengths_beside_an_unknown_time_are_no_file_of_lengths(refused):
    assert "misses arrival_s" in refused("time,prompt_tokens,output_tokens\n1,10,3\n")


@pytest.mark.parametrize(
    ("name", "rate_rps", "reuse"), [("bailian_seconds.jsonl", 10.0, 0.079), ("replayer_ns.jsonl", 10.2, None)]
)
def test_traces_in_other_units(shared_data, name, rate_rps, reuse):
    read = read_trace(shared_data.parent / "cases" / "traces" / name)
    assert profile(read.arrival_s).mean_rate_rps == pytest.approx(rate_rps, abs=0.1)
    assert read.prefix_reuse == (None if reuse is None else pytest.approx(reuse, abs=0.001))


def test_a_folder_stands_for_the_trace_in_it(tmp_path):
    (tmp_path / "0_trace.jsonl").write_text(mooncake_rows([0, 500]))
    (tmp_path / "1_sys_prompt.jsonl").write_text('{"sys_prompt_id": 1, "token_length": 5}\n')
    assert read_trace(tmp_path).requests == 2


def test_a_folder_of_several_traces_is_none(tmp_path):
    for name in ("a_trace.jsonl", "b_trace.jsonl"):
        (tmp_path / name).write_text(mooncake_rows([0, 500]))
    with pytest.raises(InputError, match=r": is a folder; a trace is one file in it, CSV or JSON lines$"):
        read_trace(tmp_path)


# RAGPulse: prompts of components


def ragpulse(folder, *prompts, tokens):
    """A folder in RAGPulse's form: prompts by the ids of their components, which have as many ``tokens`` each."""
    rows = [
        {"timestamp": str(k), "input_length": sum(tokens[c] for part in ids.values() for c in part) + 10}
        | {"output_length": 5, "hash_ids": ids, "session_id": "s"}
        for k, ids in enumerate(prompts)
    ]
    (folder / "0_trace.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, kept in (("1_sys_prompt", range(10)), ("2_passages", range(10, 100))):
        lines = [{f"{name[2:]}_id": c, "token_length": tokens[c]} for c in kept if c in tokens]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    return folder


def test_components_seen_before_count_as_far_as_a_common_prefix_goes(tmp_path):
    tokens = {1: 500, 2: 100, 10: 300, 11: 200, 12: 50}
    folder = ragpulse(
        tmp_path,
        {"sys_prompt": [1, 2], "passages_ids": [10, 11]},
        {"sys_prompt": [1, 2], "passages_ids": [11, 10]},  # the system prompt alone: passages in another order
        {"sys_prompt": [1, 2], "passages_ids": [10, 12, 11]},  # and one passage; what follows another is new
        {"sys_prompt": [2, 1], "passages_ids": [10]},  # nothing
        {"sys_prompt": [], "passages_ids": [10, 10, 10]},  # nothing: no prompt began with it, itself does not count
        {"sys_prompt": [1, 2], "passages_ids": [11, 10]},  # all but the template
        tokens=tokens,
    )
    read = read_trace(folder)
    prompts = [1110, 1110, 1160, 910, 910, 1110]
    assert read.prompt_tokens.tolist() == prompts
    assert read.prefix_reuse == pytest.approx((600 + 900 + 1100) / sum(prompts))
    assert read.workload("w").context_share_reused == read.prefix_reuse
    assert read.facts["prompt components"] == "sys_prompt 47.5 %, passages_ids 51.5 %"
    alone = read_trace(folder / "0_trace.jsonl")
    assert (alone.prefix_reuse, alone.prompt_tokens.tolist()) == (None, prompts)
    assert (
        alone.facts["prompt components"] == "of unknown length, which the folder of the trace states: give the folder"
    )


def test_components_of_unknown_length_are_refused(tmp_path):
    folder = ragpulse(tmp_path, {"sys_prompt": [1], "passages_ids": [10]}, tokens={1: 5, 10: 6})
    (folder / "2_passages.jsonl").unlink()
    with pytest.raises(
        InputError, match=r"line 1: hash_ids: passages_ids: 10 has no token_length in the folder of the trace"
    ):
        read_trace(folder)
    for line in ('{"passages_id": 10}', '{"passages_id": [1], "token_length": 4}', '{"token_length": 4}', "[1]", "{"):
        (folder / "2_passages.jsonl").write_text(line)
        with pytest.raises(InputError, match=r"2_passages\.jsonl: line 1: "):
            read_trace(folder)


def test_ragpulse_of_the_public_week(shared_data):
    read = read_trace(shared_data / "ragpulse")
    assert (read.format.name, read.requests, read.untimed) == ("ragpulse", 7_106, "")
    assert read.arrival_s[-1] == 604_603
    # counted anew, with the text of each prefix as its key
    lines = [
        [json.loads(line) for line in path.read_text().splitlines() if line]
        for path in sorted((shared_data / "ragpulse").glob("*.jsonl"))
    ]
    tokens = {next(iter(row.values())): row["token_length"] for rows in lines[1:] for row in rows}
    seen, again = set(), 0
    for row in lines[0]:
        ids = [c for part in row["hash_ids"].values() for c in part]
        prefixes = [" ".join(map(str, ids[: k + 1])) for k in range(len(ids))]
        again += sum(tokens[c] for c, prefix in zip(ids, prefixes, strict=True) if prefix in seen)
        seen.update(prefixes)
    share = again / sum(row["input_length"] for row in lines[0])
    assert share == pytest.approx(0.314, abs=0.0005)
    assert read.prefix_reuse == pytest.approx(share, rel=1e-12)


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

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.errors import InputError
from provisioner.specs import units


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2s", 2.0),
        ("60ms", 0.06),
        ("0.5 min", 30.0),
        (" 1.5 s ", 1.5),
        ("1e-3s", 1e-3),
        ("250us", 250e-6),
        ("2h", 7200.0),
        (".5s", 0.5),
        ("2 sec", 2.0),
    ],
)
def test_durations(text, seconds):
    assert units.parse_duration(text) == pytest.approx(seconds, rel=1e-12)


@pytest.mark.parametrize("given_", ["2", 2, 2.0, "", "s", "2 m", "2x", "two s", "2s3", "1,5s", None, True, "2 S"])
def test_a_duration_needs_a_number_and_a_unit(given_):
    with pytest.raises(InputError) as error:
        units.parse_duration(given_, "ttft p99")
    assert str(error.value) == f"ttft p99: must be a time with its unit, such as 2s, 60ms or 0.5min, got {given_!r}"


@pytest.mark.parametrize("text", ["0s", "-1s", "nan s", "inf s", "1e999 s", "-0.0ms"])
def test_a_duration_is_above_zero(text):
    with pytest.raises(InputError, match=r"^ttft: must be a time above 0 s, got '"):
        units.parse_duration(text, "ttft")


@pytest.mark.parametrize(("text", "factor"), [("6x", 6.0), ("1.25 x", 1.25), ("2X", 2.0)])
def test_factors(text, factor):
    assert units.parse_factor(text) == factor


@pytest.mark.parametrize("text", ["6", 6, "x", "-6x", "0x", "nanx", "infx", "6s", "6xx", "6x7"])
def test_bad_factors(text):
    with pytest.raises(InputError, match=r"^tbt p50: must be a factor .*, got "):
        units.parse_factor(text, "tbt p50")


@pytest.mark.parametrize("value", [0, -1, "0", "-70"])
def test_positive_refuses_zero_and_negative(value):
    with pytest.raises(InputError) as error:
        units.parse_positive(value, "--rate", "requests/s")
    assert str(error.value) == f"--rate: must be above 0 requests/s, got {value}"


@pytest.mark.parametrize("value", ["seventy", "", "nan", "inf", None, True, [], math.nan, math.inf, 10**400])
def test_numbers_are_finite_numbers(value):
    for parse in (units.parse_number, units.parse_positive, units.parse_non_negative):
        with pytest.raises(InputError, match=r"^--rate: must be a number of requests/s, got "):
            parse(value, "--rate", "requests/s")
    with pytest.raises(InputError, match="must be a number"):
        units.parse_fraction(value, "share")


def test_non_negative_and_fraction():
    assert units.parse_non_negative("0", "headroom") == 0
    with pytest.raises(InputError, match=r"^headroom: must be 0 or more, got -0.1$"):
        units.parse_non_negative(-0.1, "headroom")
    assert units.parse_fraction("20%", "share") == 0.2
    assert units.parse_fraction(1, "share") == 1.0
    for value in (20, "120%", -0.1):
        with pytest.raises(InputError, match=r"^share: must be between 0 and 1 \(or 0% and 100%\), got "):
            units.parse_fraction(value, "share")


def test_whole_numbers():
    assert units.parse_whole("20", "stock", "machines") == 20
    assert units.parse_whole(0, "stock", minimum=0) == 0
    for value in ("1.5", 0, -3):
        with pytest.raises(InputError, match=r"^stock: must be a whole number of machines, 1 or more, got "):
            units.parse_whole(value, "stock", "machines")


@given(st.floats(min_value=1e-6, max_value=1e6))
def test_a_shown_time_reads_back_within_its_three_digits(seconds):
    shown = units.format_seconds(seconds).replace(",", "")
    assert units.parse_duration(shown) == pytest.approx(seconds, rel=6e-3)


@given(st.floats(min_value=1e-3, max_value=900))
def test_a_shown_factor_reads_back_within_its_three_digits(factor):
    assert units.parse_factor(units.format_factor(factor)) == pytest.approx(factor, rel=6e-3)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.9996, "1 s"),
        (0.99949, "999 ms"),
        (9.996, "10 s"),
        (99.96, "100 s"),
        (119.99, "2 min"),
        (0.0, "0 s"),
        (math.inf, "inf s"),
        (1e6, "278 h"),
        (0.0005, "500 us"),
    ],
)
def test_times_at_the_edges_of_their_units(seconds, text):
    assert units.format_seconds(seconds) == text


def test_unit_of_a_field_is_its_suffix():
    for field, unit in {
        "max_power_w": "W",
        "network_gbps": "Gb/s",
        "gpu_link_gb_per_s": "GB/s",
        "cost_usd_per_h": "$/h",
        "duration_s": "s",
        "rate_rps": "requests/s",
        "trained_context_tokens": "tokens",
        "memory_gib_per_gpu": "GiB",
        "layers": "",
    }.items():
        assert units.unit_of(field) == unit


def test_every_message_is_one_line():
    for value in ("2\nm", "\t", "x" * 500):
        with pytest.raises(InputError) as error:
            units.parse_duration(value)
        assert "\n" not in str(error.value)
    assert len(units.quoted("x" * 500)) == 60

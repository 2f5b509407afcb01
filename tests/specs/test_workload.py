import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from provisioner.errors import InputError
from provisioner.specs import catalog
from provisioner.specs.lengths import Lengths, binned, log_edges
from provisioner.specs.workload import MAX_CLASSES, Workload, from_lengths

SHIPPED = ["coding", "conversation"]
TRACES = {"coding": "AzureLLMInferenceTrace_code.csv", "conversation": "AzureLLMInferenceTrace_conv.csv"}

tokens = st.integers(min_value=1, max_value=20_000)
pairs = st.lists(st.tuples(tokens, st.integers(1, 2_000)), min_size=1, max_size=200)


def made(lengths, **fields) -> Workload:
    return from_lengths("w", [prompt for prompt, _ in lengths], [output for _, output in lengths], **fields)


@pytest.fixture(params=SHIPPED)
def shipped(request) -> Workload:
    return catalog.workload(request.param)


# Lengths: one class


@given(st.integers(1, 5_000), st.integers(0, 500), st.floats(0, 1))
def test_a_class_has_its_mean_and_stays_in_its_bounds(low, width, position):
    high, mean = low + width, low + position * width
    one = Lengths(np.array([mean]), np.array([low]), np.array([high]))
    values = np.arange(low, high + 1)
    cdf = np.array([one.cdf(int(value))[0] for value in values])
    assert one.cdf(low - 1)[0] == 0
    assert cdf[-1] == pytest.approx(1)
    assert (np.diff(cdf) >= -1e-12).all()
    probability = np.diff(cdf, prepend=0.0)
    # rounding a length to an integer can move the mean by the part of one token in which it lies
    assert probability @ values == pytest.approx(mean, abs=0.25)
    u = np.linspace(0, 1, 1001)[1:-1]
    at = one.take(np.zeros(u.size, dtype=np.int64)).at(u)
    assert ((low <= at) & (at <= high)).all()
    # the inverse: the smallest length whose probability reaches u
    assert (cdf[at - low] >= u - 1e-9).all()
    assert (np.concatenate([[0.0], cdf])[at - low] <= u + 1e-9).all()


def test_a_class_with_its_mean_in_the_middle_is_uniform():
    one = Lengths(np.array([12.0]), np.array([10]), np.array([14]))
    assert [one.cdf(k)[0] for k in range(9, 15)] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])


def test_log_edges_are_single_integers_at_small_lengths():
    edges = log_edges(1, 10_000, 1.12)
    assert edges[:6] == [1, 2, 3, 4, 5, 6]
    assert edges[-1] == 10_001
    steps = np.array(edges[1:-1]) / np.array(edges[:-2])
    assert (steps[20:] < 1.14).all()


@given(st.lists(tokens, min_size=1, max_size=300))
def test_bins_partition_the_lengths_and_keep_their_mean(values):
    lengths = np.array(values)
    edges, bins = binned(lengths)
    index = np.searchsorted(edges, lengths, side="right") - 1
    assert (np.unique(index) == np.arange(edges.size)).all()
    assert (bins.low[index] <= lengths).all()
    assert (lengths <= bins.high[index]).all()
    assert bins.tokens[index].mean() == pytest.approx(lengths.mean())


# Workload: laws


@given(pairs)
def test_exact_pairs_are_kept(lengths):
    workload = made(lengths)
    assert workload.classes == len(set(lengths))
    assert workload.weight.sum() == pytest.approx(1)
    prompt, output = np.array(lengths).T
    assert workload.mean_prompt_tokens == pytest.approx(prompt.mean())
    assert workload.mean_output_tokens == pytest.approx(output.mean())
    for q in (0.0, 0.1, 0.5, 0.9, 0.99, 1.0):
        assert workload.quantile("prompt", q) == np.quantile(prompt, q, method="inverted_cdf")
        assert workload.quantile("output", q) == np.quantile(output, q, method="inverted_cdf")


@given(pairs, st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_samples_are_among_the_pairs_and_repeat_with_the_seed(lengths, seed):
    workload = made(lengths)
    prompt, output = workload.sample(np.random.default_rng(seed), 300)
    assert prompt.dtype == output.dtype == np.int64
    assert set(zip(prompt.tolist(), output.tolist(), strict=True)) <= set(lengths)
    again = workload.sample(np.random.default_rng(seed), 300)
    assert (prompt == again[0]).all()
    assert (output == again[1]).all()


@given(pairs, st.integers(1, 250))
@settings(max_examples=60)
def test_binning_and_coarsening_keep_means_and_bounds(lengths, most):
    exact = made(lengths)
    for workload in (made(lengths, max_exact=0), exact.coarsen(most), exact.coarsen(most).independent()):
        assert workload.mean_prompt_tokens == pytest.approx(exact.mean_prompt_tokens)
        assert workload.mean_output_tokens == pytest.approx(exact.mean_output_tokens)
        assert workload.prompt.low.min() >= exact.prompt.low.min()
        assert workload.prompt.high.max() <= exact.prompt.high.max()
        assert workload.output.low.min() >= exact.output.low.min()
        assert workload.output.high.max() <= exact.output.high.max()
    assert exact.coarsen(most).classes <= most


def test_independent_drops_the_correlation_and_keeps_the_marginals(shipped):
    apart = shipped.independent()
    assert apart.classes <= MAX_CLASSES
    product = apart.weight @ (apart.prompt.tokens * apart.output.tokens)
    assert product == pytest.approx(apart.mean_prompt_tokens * apart.mean_output_tokens, rel=1e-9)
    for side in ("prompt", "output"):
        for q in (0.1, 0.5, 0.9, 0.99):
            assert apart.quantile(side, q) == shipped.quantile(side, q)


def test_independent_of_many_lengths_is_coarsened():
    rng = np.random.default_rng(5)
    workload = from_lengths("w", rng.integers(1, 5000, 3000), rng.integers(1, 2000, 3000))
    apart = workload.independent()
    assert workload.classes > 2900
    assert apart.classes <= MAX_CLASSES
    assert apart.mean_prompt_tokens == pytest.approx(workload.mean_prompt_tokens)
    assert apart.mean_output_tokens == pytest.approx(workload.mean_output_tokens)


def test_a_workload_of_one_class():
    workload = from_lengths("one", [1500], [13], rate_rps=70)
    assert (workload.classes, workload.quantile("prompt", 0.99)) == (1, 1500.0)
    assert workload.sample(np.random.default_rng(0), 2)[0].tolist() == [1500, 1500]
    assert workload.independent().classes == workload.coarsen(1).classes == 1


@pytest.mark.parametrize(
    ("prompt", "output", "message"),
    [
        ([], [], "needs as many prompt as output lengths, at least one"),
        ([1, 2], [1], "needs as many prompt as output lengths, at least one"),
        ([0], [1], "prompt and output tokens must be 1 or more"),
        ([1], [0], "prompt and output tokens must be 1 or more"),
    ],
)
def test_wrong_lengths(prompt, output, message):
    with pytest.raises(InputError) as error:
        from_lengths("w", prompt, output)
    assert str(error.value) == f"workload w: {message}"


def test_a_workload_checks_itself():
    good = from_lengths("w", [1, 2], [3, 4])
    with pytest.raises(InputError, match=r"^workload w: rate_rps: must be above 0 requests/s, got 0$"):
        from_lengths("w", [1], [1], rate_rps=0)
    with pytest.raises(InputError, match=r"^workload w: cv: must be 0 or more, got -1$"):
        from_lengths("w", [1], [1], cv=-1)
    with pytest.raises(InputError, match=r"^workload w: context_share_reused: must be between 0 and 1"):
        from_lengths("w", [1], [1], context_share_reused=2)
    with pytest.raises(InputError, match=r"^workload w: max_classes: must be 1 or more, got 0$"):
        good.coarsen(0)
    with pytest.raises(InputError, match=r"^workload w: quantile: must be between 0 and 1"):
        good.quantile("prompt", 1.5)


# The shipped workloads against the traces that they were derived from


def test_shipped_workloads_plan_for_70_requests_per_second_of_poisson_arrivals(shipped):
    assert (shipped.rate_rps, shipped.cv) == (70.0, 1.0)
    assert shipped.classes <= 2500
    assert shipped.arrivals.mean_rate_rps < 10
    assert shipped.sources


def test_how_bursty_the_traces_were():
    coding, conversation = (catalog.workload(name).arrivals for name in SHIPPED)
    assert (coding.requests, conversation.requests) == (8819, 19366)
    assert coding.cv == pytest.approx(13, abs=0.5)
    assert conversation.cv == pytest.approx(1.1, abs=0.05)
    assert len(coding.rate_by_minute_rps) == 57
    assert coding.index_of_dispersion[60] > 100 > conversation.index_of_dispersion[60] > 10


def test_medians_are_those_of_the_paper():
    coding, conversation = (catalog.workload(name) for name in SHIPPED)
    # Splitwise, section III: coding 1500 and 13, conversation 1020 and 129
    assert coding.quantile("prompt", 0.5) == pytest.approx(1500, rel=0.03)
    assert coding.quantile("output", 0.5) == 13
    assert conversation.quantile("prompt", 0.5) == pytest.approx(1020, rel=0.01)
    assert conversation.quantile("output", 0.5) == 129


@pytest.fixture(params=SHIPPED)
def beside_trace(request, shared_data):
    """A shipped workload, with the prompt and output tokens of its trace."""
    path = shared_data / "azure-2023" / TRACES[request.param]
    lengths = np.loadtxt(path, delimiter=",", skiprows=1, usecols=(1, 2), dtype=np.int64)
    return catalog.workload(request.param), lengths[:, 0], lengths[:, 1]


@pytest.mark.parametrize("drawn", ["joint", "independent"])
def test_sampled_percentiles_are_within_1_percent_of_the_trace(beside_trace, drawn):
    workload, *trace = beside_trace
    source = workload if drawn == "joint" else workload.independent()
    samples = source.sample(np.random.default_rng(2024), 1_000_000)
    for sampled, of_trace in zip(samples, trace, strict=True):
        for q in (50, 90, 99):
            assert np.percentile(sampled, q) == pytest.approx(np.percentile(of_trace, q), rel=0.01)
        # between them the bins are wider
        every = np.arange(5, 100)
        off = np.abs(np.percentile(sampled, every) - np.percentile(of_trace, every))
        assert (off <= np.maximum(1.0, 0.025 * np.percentile(of_trace, every))).all()
        assert sampled.mean() == pytest.approx(of_trace.mean(), rel=0.005)


def test_class_means_have_the_trace_s_means_and_percentiles(beside_trace):
    workload, prompt, output = beside_trace
    # the files give the means of the bins to four decimals
    assert workload.mean_prompt_tokens == pytest.approx(prompt.mean(), rel=1e-6)
    assert workload.mean_output_tokens == pytest.approx(output.mean(), rel=1e-6)
    for side, of_trace in (("prompt", prompt), ("output", output)):
        tokens = getattr(workload, side).tokens
        order = np.argsort(tokens)
        reached = np.cumsum(workload.weight[order])
        for q in (50, 90, 99):
            at = tokens[order][np.searchsorted(reached, q / 100)]
            assert at == pytest.approx(np.percentile(of_trace, q), rel=0.01)


def test_the_joint_distribution_keeps_what_the_lengths_have_to_do_with_each_other(beside_trace):
    workload, prompt, output = beside_trace
    sampled = workload.sample(np.random.default_rng(7), 500_000)
    assert np.corrcoef(*sampled)[0, 1] == pytest.approx(np.corrcoef(prompt, output)[0, 1], abs=0.01)
    for longest in (400, 1100, 3000):
        of_samples = sampled[1][sampled[0] <= longest].mean()
        assert of_samples == pytest.approx(output[prompt <= longest].mean(), rel=0.06)


def test_no_row_of_a_trace_can_be_read_off_the_bins(beside_trace):
    workload, prompt, output = beside_trace
    single = (workload.prompt.low == workload.prompt.high) & (workload.output.low == workload.output.high)
    # classes of one exact pair: at the smallest lengths, where every bin is one integer, and at the medians
    assert workload.weight[single].sum() < 0.03
    assert workload.classes < 0.25 * len(set(zip(prompt.tolist(), output.tolist(), strict=True)))


def test_the_share_of_longer_requests_is_in_plain_digits() -> None:
    three = from_lengths("three", [100, 200, 300], [10, 10, 10])
    said = [three.longer_than(tokens).removesuffix(" of the requests of three") for tokens in (1, 150, 250, 400)]
    assert said == ["up to 100 %", "up to 66.7 %", "up to 33.3 %", "up to 0 %"]

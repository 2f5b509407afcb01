"""Rate levels of a trace: its rates window by window, its peak rate, and its burstiness within the windows."""

import numpy as np

from provisioner.specs.lengths import FloatArray

WINDOW_S = 60.0  # rates are taken by the minute,
_FEWEST_PER_WINDOW = 30  # as long as it has as many requests: fewer do not tell a rate from chance
_MOST_LEVELS = 8

NO_PEAK = "below 2 minutes or 60 requests there is no peak to tell"
"""Reason why the mean rate of a trace stands for its peak rate."""


def rate_levels(arrival_s: FloatArray) -> tuple[tuple[tuple[float, float], ...], float]:
    """Rate levels of a trace from sorted arrival times (R,) in s, of which two differ, and the CV within its windows.

    A level is its rate in requests/s with its share of all requests; the rate of the highest is the peak rate.
    Windows are minutes (longer if a minute holds too few requests); minutes of similar rate are merged into at most
    8 levels, each at the largest rate among its minutes weighted by requests. A trace below two windows has one level,
    its mean rate. The CV is the root of the index of dispersion of counts per second around each minute's own rate, at
    least that of Poisson arrivals.

    >>> rate_levels(np.arange(0.0, 50.0, 0.5))       # 100 requests in 49.5 s, one window
    (((2.0, 1.0),), 1.0)
    """
    duration = float(arrival_s[-1] - arrival_s[0])
    window = max(WINDOW_S, _FEWEST_PER_WINDOW * duration / arrival_s.size)
    count = int(duration // window)
    if count < 2:
        return (((arrival_s.size - 1) / duration, 1.0),), _dispersion_cv(arrival_s, duration)
    length = duration / count
    index = np.minimum((arrival_s - arrival_s[0]) // length, count - 1).astype(np.int64)
    requests = np.bincount(index, minlength=count).astype(np.float64)
    rates = requests / length
    # Equal steps of rate between the lowest and the highest: chance alone must not split a steady rate.
    noise = 2.0 * np.sqrt(rates.mean() / length)
    steps = int(np.clip((rates.max() - rates.min()) / max(2.0 * noise, 1e-12), 1, _MOST_LEVELS))
    level = np.minimum(((rates - rates.min()) / max(np.ptp(rates), 1e-12) * steps).astype(np.int64), steps - 1)
    of_level, weighted = np.bincount(level, requests), np.bincount(level, requests * rates)
    some = of_level > 0.0
    windows = zip((weighted[some] / of_level[some]).tolist(), (of_level[some] / requests.sum()).tolist(), strict=True)
    return tuple(windows), _dispersion_cv(arrival_s, length)


def _dispersion_cv(arrival_s: FloatArray, window_s: float) -> float:
    """Square root of the variance-to-mean ratio of counts per second around the mean of each window; at least 1."""
    seconds = (arrival_s - arrival_s[0]).astype(np.int64)
    per_window = max(int(window_s), 2)
    last = int(seconds[-1]) // per_window * per_window
    if last < per_window:
        return 1.0
    second, counts = np.unique(seconds[seconds < last], return_counts=True)  # not every second of a long trace
    _, window = np.unique(second // per_window, return_inverse=True)
    in_window = np.bincount(window, counts)
    spread = (np.square(counts).sum() - np.square(in_window).sum() / per_window) / (per_window - 1)
    return float(np.sqrt(max(spread / (in_window.sum() / per_window), 1.0)))

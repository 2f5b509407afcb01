"""The probability that an arrival waits: Erlang's formulas for any real number of servers, and peaked arrivals."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def erlang_b(servers: ArrayLike, offered_load: ArrayLike) -> Array:
    """Blocking probability of M/G/c/c, for a real number of servers >= 0 and an offered load in erlangs.

    ``B(c, a) = a^c e^-a / Gamma(c + 1, a)``, the continuous extension of Erlang's first formula
    (Jagerman 1974, "Some properties of the Erlang loss function"). Arguments broadcast.

    >>> round(float(erlang_b(2, 1.0)), 6)      # (1/2) / (1 + 1 + 1/2)
    0.2
    """
    from scipy.special import gammaincc, gammaln

    c = np.asarray(servers, dtype=np.float64)
    a = np.asarray(offered_load, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore", under="ignore"):
        log_pmf = c * np.log(a) - a - gammaln(c + 1.0)
        upper = gammaincc(c + 1.0, a)
        # Far overload: the upper tail underflows; there B -> 1 - c / a.
        blocked = np.where(upper > 1e-280, np.exp(log_pmf) / np.maximum(upper, 1e-300), 1.0 - c / a)
    return np.where(a > 0.0, np.clip(blocked, 0.0, 1.0), np.where(c > 0.0, 0.0, 1.0))


def peakedness(cv: float, service_s: Array, weight: Array) -> float:
    """Variance-to-mean ratio of the busy servers that an arrival process with this CV keeps in an infinite pool.

    ``z = 1 + (cv^2 - 1) * integral (1 - G(x))^2 dx / E[S]``: the heavy-traffic peakedness of a renewal process
    offered to service times with distribution G (Whitt 1984, "Heavy-traffic approximations for service
    systems with blocking"). It is 1 for Poisson arrivals and cv^2 for constant service times.

    ``service_s`` and ``weight`` are the atoms (C,) of G, weights summing to 1; without any service it is 1.

    >>> peakedness(2.0, np.array([1.0]), np.array([1.0]))
    4.0
    """
    order = np.argsort(service_s)
    values, tail = service_s[order], 1.0 - np.concatenate(([0.0], np.cumsum(weight[order])[:-1]))
    steps = np.diff(np.concatenate(([0.0], values)))
    mean = float(np.sum(service_s * weight))
    if mean <= 0.0:
        return 1.0
    return max(1e-3, 1.0 + (cv * cv - 1.0) * float(np.sum(tail * tail * steps)) / mean)

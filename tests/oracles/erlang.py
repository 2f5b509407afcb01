"""Erlang's second formula, as the sum over states."""

from math import exp, lgamma, log


def erlang_c(servers: int, offered: float) -> float:
    """Probability of a wait in M/M/c at an offered load below ``servers``, in erlangs."""
    terms = [exp(k * log(offered) - offered - lgamma(k + 1)) for k in range(servers + 1)]
    last = terms[-1] * servers / (servers - offered)
    return last / (sum(terms[:-1]) + last)

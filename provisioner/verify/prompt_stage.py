"""The prompt pools of strict pools by themselves, no slower than with any token pools behind them.

A prompt machine that hands over at once keeps no KV cache, so that no prompt of it waits for memory. Behind any token
pool prompts end at the same times unless one of them is refused memory (tests/simulation/test_separable.py). One that
waits can make others end earlier, in smaller iterations that take less time per token. Here no iteration takes more
time per token than a smaller one. Percentiles of TTFT are taken as bounds of those behind any token pools: none of
7,200 was above, which is evidence and no proof.
"""

from dataclasses import replace
from functools import lru_cache

import numpy as np

from provisioner.perf.assumptions import ReplicaPerf
from provisioner.simulation.cluster import Cluster, Pool
from provisioner.simulation.run import Prepared


def prompt_stage(cluster: Cluster) -> Cluster | None:
    """The prompt pools of a cluster of strict pools, which emit the first token at once; None under other policies.

    The token pool behind them, whatever the cluster's, has nothing to do for requests of one output token.
    """
    prompts = tuple(replace(pool, perf=_at_best(pool.perf)) for pool in cluster.pools if pool.role == "prompt")
    if cluster.policy.name != "strict" or cluster.outages or not prompts:
        return None
    idle = Pool("token", prompts[0].perf, 1, batch_tokens=prompts[0].batch_tokens)
    return Cluster((*prompts, idle), replace(cluster.policy, first_token="prompt", handover_s=0.0))


@lru_cache(maxsize=256)
def _at_best(perf: ReplicaPerf) -> ReplicaPerf:
    """A replica on which no iteration takes more time per token of prompts than a smaller one."""
    return replace(perf, curve=replace(perf.curve, prompt=perf.curve.prompt.at_best()))


def prompts_alone(prepared: Prepared) -> Prepared | None:
    """A request set whose requests end with their first token; None if arrivals wait for the end of others.

    None also for a set so long that its records are made as it is served.
    """
    requests = prepared.requests
    if requests.follows is not None or requests.in_flight is not None or prepared.records is None:
        return None
    one = np.ones_like(requests.output_tokens)
    records = prepared.records.copy()
    records["output_tokens"] = one
    return Prepared(replace(requests, output_tokens=one), prepared.reference, records)

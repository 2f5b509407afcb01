"""Load on one pool: pure formulas for the latency distributions of a pool of replicas (docs/queueing.md)."""

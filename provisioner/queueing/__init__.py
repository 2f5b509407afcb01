"""Load on one pool: pure formulas for the latencies of a pool of replicas (docs/explanation/queueing.md)."""

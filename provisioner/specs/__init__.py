"""Specs: machines, models, workloads, traces, prices and limits, with their loaders; no formulas."""

"""Measuring a curve: prompt and decode iterations of a model's shape, with random weights, on the GPU at hand.

PyTorch is imported where it is used, and nothing else that a bare GPU machine may lack: ``python -m
provisioner.profiling --help`` needs PyTorch and PyYAML alone.
"""

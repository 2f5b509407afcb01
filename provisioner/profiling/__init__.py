"""Measurement of a curve: prompt and decode iterations of a model's shape, with random weights, on the local GPU.

PyTorch is imported on first use. A bare GPU machine may lack other packages: ``python -m provisioner.profiling`` needs
PyTorch and PyYAML alone.
"""

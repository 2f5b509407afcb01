"""Latency curves of one replica from a user's own measurements: the result files of benchmark tools."""

from provisioner.perf.measurements.identify import Finding
from provisioner.perf.measurements.measured import Fit, Measured, PhaseFit, read_measurements
from provisioner.perf.measurements.runs import Recognised

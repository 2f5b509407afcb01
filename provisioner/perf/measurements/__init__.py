"""Latency curves from a user's own measurements: what benchmark tools wrote, and what it says about one replica."""

from provisioner.perf.measurements.identify import Finding
from provisioner.perf.measurements.measured import Fit, Measured, PhaseFit, read_measurements, write_points
from provisioner.perf.measurements.runs import Recognised

__all__ = ["Finding", "Fit", "Measured", "PhaseFit", "Recognised", "read_measurements", "write_points"]

"""The decision: designs, candidate pool sizes, the integer linear program, and the plan."""

import highspy  # noqa: F401  # before PuLP, which takes an interrupt of this import for a missing solver

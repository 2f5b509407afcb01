"""The decision: designs, candidate pool sizes, the integer linear program, and the plan."""

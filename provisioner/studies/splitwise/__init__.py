"""The published results of the Splitwise paper, computed again: its numbers, the experiments, and the findings."""

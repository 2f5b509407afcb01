"""Plans proven by simulation: the formulas guess, the proof proposes, the simulator judges."""

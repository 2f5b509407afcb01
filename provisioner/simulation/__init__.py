"""The independent judge: requests served iteration by iteration, event by event."""

"""One machine, no queue: latency curves, memory and KV-cache transfer."""

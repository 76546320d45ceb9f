"""What sparse weights, sparse spikes and gated patches save, in cycles: `python -m sw.ladder`."""

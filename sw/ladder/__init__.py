"""What sparse weights, spikes and gated patches save, in cycles: `spiketicket bench ladder`."""

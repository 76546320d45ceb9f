"""Bitstreams for real boards: `spiketicket build --help`."""

from sw.starting import quiet_interrupt

quiet_interrupt()

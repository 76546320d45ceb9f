"""Bitstreams for real boards: `python -m hw.build --help`."""

from sw.starting import quiet_interrupt

quiet_interrupt()

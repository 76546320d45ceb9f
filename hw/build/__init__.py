"""Bitstreams for real boards: `python -m hw.build --help`."""

"""Gateware of SpikeTicket: an event-driven core for sparse spiking networks, in Amaranth.

`hw.config` and `hw.program` are plain Python, shared with the host; everything else needs Amaranth.
"""

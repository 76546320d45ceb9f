"""The host's side of a board, simulated or live.

From the wire upwards: `transport` (bytes), `protocol` (frames), `session` (reliable exchange),
`jobs` and `packing` (what is sent), `readback` and `inference` (what comes back), `driver`
(`Accelerator`, the way in), `opening` and `connect` (which board).
"""

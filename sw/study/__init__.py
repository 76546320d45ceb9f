"""The trade study behind the core's architecture: dataflows, workloads, areas, and the decision.

`spiketicket bench study` prints the tables of `docs/architecture.md`.
"""

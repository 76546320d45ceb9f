"""Ticket searches: how the surviving weights are found."""

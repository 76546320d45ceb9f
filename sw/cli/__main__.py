"""`python -m sw.cli`: the command `spiketicket` where it is not installed."""

from .app import door

if __name__ == "__main__":
    door()

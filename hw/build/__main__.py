"""`python -m hw.build`: the same as `spiketicket build`."""

from sw.cli.app import door

if __name__ == "__main__":
    door("build")

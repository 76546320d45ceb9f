"""`python -m sw.tickets`: the same as `spiketicket find`; torchrun starts it so."""

from sw.cli.app import door

if __name__ == "__main__":
    door("find")

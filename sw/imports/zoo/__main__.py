"""`python -m sw.imports.zoo`: the same as `spiketicket import zoo`."""

from sw.cli.app import door

if __name__ == "__main__":
    door("import", "zoo")

"""The zoo: networks written every way that is in use, imported and compared with their own runs.

    spiketicket import zoo

Each is made small, with random weights, twice: on whole numbers, where every spike must be equal,
and on floats, where rounding shows how near it stays. docs/zoo.md is its table.
"""

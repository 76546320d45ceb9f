"""Wrong lines of the unit: the tests must notice `MUTATIONS`."""

from sim.wrong_lines import bad

MUTATIONS = bad(
    "hw/datagrams.py",
    ("with m.If(rx.valid & held & ~called):", "with m.If(rx.valid & ~called):",
     "anybody's datagrams reach the link"),
    ("sync.eq(rx.payload.data[:6] == SYNC)", "sync.eq(rx.payload.data[:5] == SYNC & 31)",
     "any request takes the board"),
    ("with m.Elif(broken & ~sending):", "with m.Elif(broken & 0):",
     "a break does not give the board back"),
    ("m.d.comb += link.valid.eq(1)\n                m.next = \"PASS FIRST\"",
     "m.next = \"PASS FIRST\"", "no zero before a datagram"),
    ("(length == REPLY_BYTES - 1)", "0", "long replies overwrite the buffer"),
    tests=("tests/test_datagrams.py",))

"""Wrong lines of the unit: the tests must notice `MUTATIONS` and the proofs `BUGS`."""

from sim.wrong_lines import bad, bug

_FORMAT, _BOARD = ("tests/test_packing.py",), ("tests/test_link.py", "-k", "packed or cannot")

PACKING = bad(
    "hw/packing.py",
    ("with m.If(byte == 0):", "with m.If(0):", "silent groups are not counted"),
    ("self.packed & ~present.bit_select(index, 1)", "~present.bit_select(index, 1)",
     "an expanding write has a presence byte"),
    ("m.d.sync += lane.eq(0)", "m.d.sync += lane.eq(lane)",
     "a silent word repeats the one before"),
    ("Mux(half_left, half, byte[:4])", "byte[:4]", "half of the masks are lost"),
    ("half_left.eq(~half_left)", "half_left.eq(0)", "a byte for every mask"),
    ("own.eq(is_active & (self.mask == 0))", "own.eq(is_active)",
     "reads masks that are not sent"),
    ("zeros.eq(zeros - 1)", "zeros.eq(0)", "a run of silent groups ends after two"),
    tests=_FORMAT)

PACKING_ON_BOARD = bad(
    "hw/packing.py",
    ("m.d.sync += [some.eq(1), byte.eq(0)]", "m.d.sync += some.eq(1)",
     "what is missing repeats the last byte"),
    tests=_BOARD)

COMMANDS = bad(
    "hw/commands.py",
    ("with m.If(chained):", "with m.If(1):", "the epoch counts what was not done too"),
    ("chained.eq(~header.sync | header.write | header.run)", "chained.eq(~header.sync)",
     "a sync that writes does not advance the epoch"),
    ("next_epoch(epoch, self.requests.payload)", "next_epoch(0, self.requests.payload)",
     "the epoch is the last request's alone"),
    ("m.d.comb += verdict.eq(Status.STOPPED)", "m.d.comb += verdict.eq(possible)",
     "what waits before a sync is called done"),
    ("with m.Elif(void | (cycles >= header.max_cycles)):",
     "with m.Elif(cycles >= header.max_cycles):", "a sync does not end a run"),
    ("last_word.eq((count == 1) | void)", "last_word.eq(count == 1)",
     "a sync does not end a read"),
    ("syncs + self.sync_kept - sync_taken", "syncs + self.sync_kept",
     "nothing is done after a sync"),
    ("m.d.sync += jammed.eq(1)", "m.d.sync += jammed.eq(0)",
     "a sync that finds no room ends nothing"),
    ("m.d.sync += jammed.eq(0)\n                with m.If(fault",
     "m.d.sync += jammed.eq(jammed)\n                with m.If(fault",
     "nothing is done after a sync that found no room"),
    tests=("tests/test_link.py", "-k", "epoch or sync"))

COMMANDS_PACKED = bad(
    "hw/commands.py",
    ("ResetInserter(~writing)(unpacker)", "unpacker", "begins where the last write ended"),
    ("unpacker.ended.eq(payload == 0)", "unpacker.ended.eq(0)",
     "a packed write that is too short never ends"),
    ("m.next = \"DROP\"", "m.next = \"RUN\"", "the rest is taken for a request"),
    ("too_many | (end > size)", "end > size", "a number of 2^24 counts as 0"),
    ("header.packed | (payload != 0)", "payload != 0", "packed without a write does nothing"),
    ("            | no_number | ", "            | ", "a packed write needs no number"),
    tests=_BOARD)

MUTATIONS = (*PACKING, *PACKING_ON_BOARD, *COMMANDS, *COMMANDS_PACKED)

BUGS = (
    bug("framing.CobsEncoder/roundtrip", "frames_are_whole", "framing",
        "code.eq(code + run + 1), run.eq(0)", "code.eq(code + run + 1)",
        "starts a block with the length of the one before"),
    bug("framing.FrameReceiver/frames", "", "framing",
        "room.eq(used + words + 2 < self._depth)", "room.eq(used + words < self._depth)",
        "sees room where there is none"),
    bug("framing.FrameReceiver/resync", "same", "framing",
        "m.d.sync += [left.eq(0), implied.eq(0)]", "m.d.sync += implied.eq(0)",
        "goes on counting a block of before the zero", quick=True),
    bug("framing.FrameSender/bytes", "bytes_held", "framing",
        "(left != 0) & (quiet | cobs.i.ready)", "left != 0", "goes on when a byte was not taken"),
    bug("commands.Commands/stream", "replies_held", "commands",
        "self.replies.payload.last.eq(last_word)",
        "self.replies.payload.last.eq(void)", "changes its mind about the end", 24),
    bug("commands.Commands/ends", "", "commands", "left.eq(left - 1), next_address()",
        "next_address()", "a digest never ends"),
    bug("commands.Commands/epoch", "advances", "commands", "with m.If(chained):", "with m.If(1):",
        "the epoch counts what was not done too", 24),
    bug("commands.Commands/epoch", "writes_are_chained", "commands",
        "chained.eq(~header.sync | header.write | header.run)", "chained.eq(~header.sync)",
        "a sync that writes does not advance the epoch", 24),
)

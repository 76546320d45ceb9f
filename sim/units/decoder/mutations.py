"""Wrong lines of the unit: the tests must notice `MUTATIONS` and the proofs `BUGS`."""

from sim.wrong_lines import bad, bug

DECODER = bad(
    "hw/decoder.py",
    ("(~reader.bits[0]).replicate(12)", "(~reader.bits[0]).replicate(12) << 1",
     "a Rice skip is one too short"),
    ("wrapped.eq(beyond[-1] & ~", "wrapped.eq((beyond + 1)[-1] & ~",
     "the tap wraps one channel late"),
    ("at_end.eq(last_tap & left[-1])", "at_end.eq(last_tap & (left + 1)[-1])",
     "a row ends one code late"),
    ("wraps.eq(stays + self.channels)", "wraps.eq(stays + self.channels + 1)",
     "every further tap is one channel longer"),
    ("Mux(body[0], -1, 1)", "Mux(body[0], 1, -1)", "signs of 1-bit weights swapped"),
    ("value.eq(body[:b].as_signed())", "value.eq(body[:b])", "weights without a sign"),
    ("& self.masks.gap)", ")", "bits of the next code in the gap"),
    ("reader.bits[1:] & self.masks.neuron", "reader.bits[1:]", "bits of the next field in a bias"),
    ("^ reader.bits[0].replicate(24)", "^ Const(0, 24)", "biases without a sign"),
    ("(reader.bits & self.masks.channel) + 1", "(reader.bits & self.masks.channel)",
     "rows a channel too low"),
    ("with m.If(first_pass):", "with m.If(1):", "every pass of a row is another channel's"),
    ("header.row.channel.eq(-1)", "header.row.channel.eq(header.row.channel)",
     "channels count on from the layer before"),
    ("reader.seek_bit.eq(row_bit)", "reader.seek_bit.eq(0)", "rewinds to the word, not the bit"),
    ("strip_word.eq(strip_word + layer.strip_step)", "strip_word.eq(strip_word + 1)",
     "strips one word apart"),
    ("codes.eq(~attends)", "codes.eq(1)", "attention takes codes out of the next row's header"),
    ("header.first_group.eq(group == 0)", "header.first_group.eq(first_pass)",
     "membranes of the strip before"),
    ("header.last_strip.eq(last_strip)", "header.last_strip.eq(0)",
     "the drain never sees the last strip"),
    ("ends[0].eq(self.bit + self.count)", "ends[0].eq(self.bit + self.count - (self.count == 24))",
     "a threshold of 23 bits"),
)

READER = bad(
    "hw/decoder.py",
    ("& ~self.hold", "", "a word is taken that is not there"),
    tests=("tests/test_decoder.py", "-k", "bit_reader"))

MUTATIONS = (*DECODER, *READER)

BUGS = (
    bug("decoder.BitReader/window", "window", "decoder", "(level + arriving) < depth",
        "(level + arriving) <= depth", "reads ahead too far", 12),
    bug("decoder.RowDecoder/streams", "item", "decoder", "(item_free | ~code_is_weight)",
        "1", "overwrites an item that waits", 20),
    bug("decoder.RowDecoder/channels", "channel", "decoder", "with m.If(first_pass):",
        "with m.If(1):", "every pass of a row counts on"),
    bug("decoder.RowDecoder/attention", "marker_comes", "decoder",
        "(attended | self.attended) & item_free", "self.attended & item_free",
        "no marker if the last item of a pass waits"),
)

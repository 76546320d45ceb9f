"""The mutations of `sim.mutate`: one wrong line each, in gateware, compiler or reference.

`old` must occur exactly once in its file; where a change of the code breaks that, `sim.mutate`
names the entry. Keep `old` as short as it can be.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """Replaces `old` by `new` in `file`; `why` says what is wrong then.

    tests: arguments of pytest that judge it; (): the regression's networks.
    """

    file: str
    old: str
    new: str
    why: str
    tests: tuple[str, ...] = ()


def _in(file: str, *entries: tuple[str, str, str],
        tests: tuple[str, ...] = ()) -> list[Mutation]:
    return [Mutation(file, *entry, tests) for entry in entries]


NEURON = _in(
    "hw/neuron.py",
    ("fire = ~above[-1]", "fire = ~above[-1] & (above != 0)", "fires only above the threshold"),
    ("Mux(layer.soft_reset, above", "Mux(~layer.soft_reset, above", "soft and hard reset swapped"),
    ("above[:24].as_signed(), layer.v_reset)", "above[:24].as_signed(), 0)",
     "hard reset to 0 instead of v_reset"),
    ("leaked.eq(membrane * layer.leak)", "leaked.eq(membrane * layer.leak + 128)",
     "leak rounds to nearest"),
    ("summed.eq(product + ", "summed.eq(product + Mux(product[-1], 255, 0) + ",
     "leak rounds towards zero"),
    ("Mux(self.parity, self.bias1, self.bias0)", "self.bias0", "bias of the other pass"),
    ("Mux(layer.bit_planes, self.total, self.currents[t])", "self.currents[t]",
     "places of bit-planes taken for timesteps"),
    ("Mux(parity, self.threshold1, self.threshold0)", "self.threshold1",
     "threshold of the other pass"),
    ("m.d.comb += [self.spikes.eq(spikes)", "m.d.comb += [self.spikes.eq(spikes[::-1])",
     "timesteps in reverse order"),
)

UNIT = _in(
    "hw/unit.py",
    ("take = head_valid & ~head.end & ~self.claim", "take = head_valid & ~head.end",
     "the drain's claim is ignored"),
    ("bank.eq(~bank)", "bank.eq(bank)", "banks are not swapped"),
    ("switch = is_end & ~other_busy", "switch = is_end", "does not wait for the other bank"),
    ("adders.clear.eq(clear)", "adders.clear.eq(sweeping)",
     "a drained accumulator is not cleared"),
    ("(self.drain & self.drain_clear)", "self.drain",
     "a pool clears what its next window needs"),
    ("sweeping.eq(~sweep_place.all())", "sweeping.eq(0)", "the sweep stops after one place"),
    ("(head.address + lane)", "(head.address)", "all lanes of a word at one address"),
    ("with m.If(take & mask[t]):", "with m.If(take):", "adds in timesteps without a spike"),
    ("level >= self._depth - self._margin", "level >= self._depth", "the queue overflows"),
)

FETCH = _in(
    "hw/fetch.py",
    ("Mux(first[-1], 0, first)", "first", "words before the map are not clipped"),
    ("Mux(last > limit, limit, last)", "last", "words after the map are not clipped"),
    ("words + s1_tap.extra - 1", "words - 1", "the extra word of a shift is not read"),
    ("Mux(s1.last_strip, layer.strip_words_last, layer.strip_words)", "layer.strip_words",
     "the last strip is as long as the others"),
    ("s2.base.eq(s1_tap.base + s1_product)", "s2.base.eq(s1_tap.base)",
     "every channel reads channel 0"),
    ("use_mask.eq(a.edge_word == 0)", "use_mask.eq(a.edge_word == layer.row_words_mask)",
     "the mask of the first word applied to the last one"),
    ("use_mask.eq(a.edge_word == layer.row_words_mask)", "use_mask.eq(0)",
     "the mask of the last word ignored"),
    ("| (~use_mask).replicate(cfg.window)", "| (~use_mask).replicate(cfg.window) | 1",
     "mask bit 0 ignored"),
    ("subs * (p.word - p.strip_word)", "subs * q.word", "later strips at the wrong addresses"),
    ("int(r + u >= units)", "int(r + u > units)",
     "borrow of the address"),
    ("(u + r) % units", "(u - r) % units", "rotates the wrong way"),
    ("int(u < part)", "int(u <= part)",
     "one position too many in a partial row"),
    ("group_planes.eq(g * layer.planes_per_group)", "group_planes.eq(0)",
     "every group reads the first one's planes"),
    ("plane_index.eq(plane_index + 1)", "plane_index.eq(plane_index)",
     "the first plane over and over"),
    ("q.weight.eq(w.value << plane_read.data.shift)", "q.weight.eq(w.value)",
     "bit planes all weigh the same"),
    ("go.eq(r_valid & ~self.almost_full & ~self.port_blocked)",
     "go.eq(r_valid & ~self.almost_full)", "reads while the port is written"),
    ("1 << self.live_address[:3]", "1 << (self.live_address[:3] | 1)",
     "words taken for silent that are not"),
    ("row.eq(r.row + subs * step)", "row.eq(r.row)", "words after a silent one at its place"),
    ("self.items.ready.eq(~ranges.almost_full)", "self.items.ready.eq(1)",
     "weights are lost when their queue is full"),
    ("rotated[i * units + u].any() & c.mask", "rotated[i * units + u][0] & c.mask",
     "lanes that spike only in later timesteps are dropped"),
    ("self.request & ~go & ~self.port_blocked", "self.request & ~go",
     "attention reads while the port is written"),
    ("Mux(go, step, 0) + ", "step + ", "the word walk moves attention's addresses"),
    ("s2.timesteps.eq(s1.timesteps)", "s2.timesteps.eq(-1)",
     "attention's items add in every timestep"),
)

DECODER = _in(
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
    ("& gap_mask)", ")", "bits of the next code in the gap"),
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

ATTENTION = [
    *_in("hw/attention.py",
         ("Mux(self.group[0], layer.group_stride, 0)", "0", "k and v of an even group"),
         ("with m.If(in_head == last_channel):", "with m.If(0):",
          "every head takes k of the first"),
         ("others.eq(left & ~alike)", "others.eq(left & ~lowest)", "repeats equal timesteps")),
    *_in("hw/spike_counter.py",
         ("both = spikes[t] & read.data.word_select(t, self._window)", "both = spikes[t]",
          "counts the spikes of k alone"),
         ("self.silent.eq(stored & ~spoke)", "self.silent.eq(stored & ~Cat(spikes).any())",
          "judges v by its last word")),
]

DRAIN = _in(
    "hw/drain.py",
    ("first_group, layer.v_reset, back.data)", "first_group, 0, back.data)",
     "membranes start from 0"),
    ("& layer.pitch_mask) < layer.row_valid", "& layer.pitch_mask) <= layer.row_valid",
     "one column too many"),
    ("& (q < limit)", "& (q < layer.positions)", "positions after the last strip's end"),
    ("& (best > new)", "& (best < new)", "minimum pool"),
    ("Array(halves[1::2])", "Array(halves[::2])", "both lanes take the even position"),
    ("Cat(unit1[0], engine1)", "unit1[0]",
     "the second engine's neurons get the first one's currents"),
    ("walker.step & (passes.engine == e)", "walker.step", "claims and clears of both engines"),
    ("slot[:(cfg.tile_positions - 1).bit_length()], engine2)",
     "slot[:(cfg.tile_positions - 1).bit_length()], Const(0, 1))",
     "engines take each other's membranes"),
    ("sum(parts), 0)", "sum(parts[:3]), 0)", "the readout misses a timestep"),
    ("currents2[i][t] << t,", "currents2[i][t],", "bit-planes count the same in every place"),
    ("slot.eq(Mux(tag2.pass_end, 0, slot + 1))", "slot.eq(slot + 1)",
     "a group takes other positions' membranes"),
    ("(walker.at_edge & Cat(1, passes.first_strip)).any()", "walker.at_edge[0]",
     "an overlapping pool takes the row above the map"),
    ("(~tag2.inside[0] | (had & (best > new)))", "had & (best > new)",
     "a pool takes positions outside the map"),
)

PASSES = _in(
    "hw/passes.py",
    ("group_offsets[e] + layer.out_group_stride", "group_offsets[e]", "all groups in one place"),
    ("strip_offsets[e] + layer.strip_out_words", "strip_offsets[e]", "all strips in one place"),
    ("header.row.channel * layer.out_channel_stride", "header.row.channel",
     "channels a word apart"),
    ("(one_group | ~own)", "1", "reads membranes before they are stored"),
    ("(~held | (self.engine == e))", "1", "rows of two engines in one word, or in one sum"),
    ("filled[e].bit_select(banks[e], 1)", "filled[e].any()", "walks a bank that is not full"),
    ("else Mux(self.engine, offsets[1], offsets[0])", "else offsets[0]",
     "both engines write where the first one does"),
)

WALKER = _in(
    "hw/walker.py",
    ("layer.count_oy_last, layer.count_oy)", "layer.count_oy, layer.count_oy)",
     "the last strip has as many rows as the others"),
    ("Mux(new_phase, phase_start, self.position)", "self.position",
     "a phase starts where the one before ended"),
    ("before = self.first & layer.pool_overlap", "before = Const(0)",
     "an overlapping pool starts a position late"),
    ("Mux(layer.listed, self.list_token, layer.step_ox)", "layer.step_ox",
     "the list of kept tokens is ignored"),
)

GATE = [
    *_in("hw/gate.py",
         ("reaches & (~equals | missing.any())", "reaches & (~equals | ~missing.any())",
          "of equal scores the wrong ones are kept"),
         ("inside & Mux(host, chosen", "inside & Mux(host, ~chosen", "the host's mask inverted"),
         ("m.d.sync += above.eq(count)", "m.d.sync += above.eq(0)",
          "too many of equal scores are kept")),
    *_in("hw/core.py",
         ("gate.keep.eq(layer.out_pitch)", "gate.keep.eq(layer.out_pitch - 1)",
          "a token too few is kept")),
    *_in("hw/sequencer.py",
         ("self.layer.score_clear & (position == 2)", "0",
          "scores of the image before are left")),
    *_in("hw/packer.py",
         ("self.scores.pair.eq(pair_of_outputs)", "self.scores.pair.eq(0)",
          "every other output does not count for the gate")),
]

OUTPUTS = _in(
    "hw/outputs.py",
    ("Mux(header.last_group, layer.last_mask, 0b1111)", "0b1111",
     "timesteps after the last one spike"),
    ("(merged | Mux(visit.window_first, 0, window_or)) & last", "merged & last",
     "the pool's last visit instead of the OR"),
    ("Mux(layer.pair_merge, second, 0)", "0", "the second position of a pair is lost"),
    ("(layer.flush_strip | header.last_strip)", "1", "a fresh word for every strip"),
    ("visit.pass_first | first)", "visit.pass_first)",
     "forgets that a pass has begun before its first window ends"),
    ("Mux(starts, threshold, so_far)", "Mux(starts, 0, so_far)", "the readout's bias is lost"),
)

PACKER = _in(
    "hw/packer.py",
    ("pitch_words & ~index[:4]", "0", "no words of zeros up to the next image row"),
    ("(lane | pitch_lanes) + 1", "lane + 1", "no zeros up to the next image row"),
    ("m.d.sync += word[i].eq(0)", "m.d.sync += word[i].eq(word[i])",
     "lanes keep spikes of the word before"),
    ("Mux(item.phase_end, layer.out_phase_stride, 0)", "0", "all phases in one place"),
    ("~(next_pending & (move | out_valid)) & (next_fill == 0)", "next_fill == 0",
     "a finished word is overwritten while it waits"),
    ("Mux(item.parity, self.total1, self.total0)", "self.total0",
     "the sum of another row's pass"),
)

CORE = [
    *_in("hw/core.py",
         ("self.ready.eq(Mux(any_valid, 1 << choice, 0))", "self.ready.eq(self.valid)",
          "the arbiter loses words"),
         ("odd.map_data.eq(ram.b_data)", "odd.map_data.eq(ram.a_data)",
          "odd engines see the even engines' words"),
         ("address >> weight_bits == i", "address >> weight_bits == 0",
          "all pairs hold the first one's weights")),
    *_in("hw/sequencer.py",
         ("(position != program.TAP_WORDS - 1) | ~last_tap", "1",
          "the next layer starts a word late"),
         ("self.plane_index.eq(self.plane_index + 1)", "self.plane_index.eq(self.plane_index)",
          "one plane only")),
]

COMPILER = [
    *_in("sw/compile/rice.py",
         ("stored = (values < 0)", "stored = (values > 0)", "signs of 1-bit weights swapped"),
         ("mark = head + np.cumsum(lengths) - lengths + skips",
          "mark = head + np.cumsum(lengths) - lengths", "skip bits after their weight"),
         ("bits[mark + 1 + width + n] = gaps >> n & 1", "bits[mark + 1 + width + n] = gaps & 1",
          "bits of the gap")),
    *_in("sw/compile/taps.py",
         ("lanes[m * units + (u + shift) % units]", "lanes[m * units + u]",
          "mask bits in lane order"),
         ("sy, ry = divmod((dy - use.padding)", "sy, ry = divmod((dy - use.padding + 1)",
          "kernel one row too low"),
         ("sy -= first_row", "sy -= 0", "overlapping pools one row too high")),
    *_in("sw/compile/assemble.py",
         ("bit * layout.bits_a_mask)", "bit)", "the upper bit-planes count an eighth")),
    *_in("sw/compile/layout.py",
         ('step.pool.mode != "max"', 'step.pool.mode != "or"',
          "bit-planes where a maximum comes first")),
    *_in("sw/compile/steps.py",
         ("for version in use.versions), *self.keys]", "for version in use.versions)]",
          "k and v are overwritten before attention reads them")),
    *_in("sw/compile/tokens.py",
         ("step.score, step.score_clear = True, step is scored[0]",
          "step.score, step.score_clear = True, step is scored[-1]",
          "scores are cleared between two maps")),
    *_in("sw/compile/image_gate.py",
         ("return row * self.pitch + column", "return row * self.grid[1] + column",
          "masks by token, not by flat position"),
         ("return array, self.words(mask)", "return array, self.words(~mask)",
          "the host keeps what is to be dropped")),
    *_in("sw/compile/header.py",
         ("(plan.network.timesteps - 1) % 4 + 1", "plan.network.timesteps % 4",
          "mask of the last group"),
         ("rows_before - 1) * pitch + columns", "rows_before - 1) * pitch + columns - 1",
          "the last position of a map is dropped"),
         ('"key": key.base, "value": value.base', '"key": value.base, "value": key.base',
          "k and v swapped"),
         ("+ step.overlaps * columns", "", "the row that two strips share is dropped"),
         ('"out_pitch": gate.keep', '"out_pitch": gate.keep - (gate.keep > 1)',
          "the gate keeps a token less"),
         ("(rows - 1) * step.pitch + columns, \"positions_last\"",
          "(rows - 1) * step.pitch + 1, \"positions_last\"",
          "the gate leaves out the end of its last row")),
    *_in("sw/compile/assemble.py",
         ("tap.phase * layouts[0].phase_words", "tap.phase", "phases a word apart"),
         ("+ layout.copy_of_group[group] * layout.copy_words", "", "groups read the first copy")),
    *_in("sw/compile/layout.py",
         ("if items[n][1] <= dies and born <= items[n][2]",
          "if items[n][1] < dies and born < items[n][2]",
          "a layer's output may overwrite its input")),
    *_in("hw/program.py",
         ("- moved) % (1 << WALK_BITS)\n            moved += (counts",
          ") % (1 << WALK_BITS)\n            moved += (counts", "the walk does not go back")),
]

REFERENCE = [
    *_in("sw/integer/reference.py",
         ("s = v >= theta", "s = v > theta", "fires only above the threshold"),
         ("v >>= 8 ", "v += 128; v >>= 8 ", "leak rounds to nearest"),
         ("if neuron.reset == \"hard\" else", "if neuron.reset == \"soft\" else",
          "soft and hard reset swapped"),
         ("v = np.full(current.shape[1:], neuron.v_reset, np.int64)",
          "v = np.zeros(current.shape[1:], np.int64)", "membranes start from 0"),
         ("axis=(0, 3, 4)) * repeats", "axis=(0, 3, 4))", "readout of one timestep")),
    *_in("sw/core/machine_kernel.py",
         ("if v >= threshold:", "if v > threshold:", "fires only above the threshold"),
         ("((h[_LEAK] * v) >> 8)", "((h[_LEAK] * v + 128) >> 8)", "leak rounds to nearest"),
         ("masks[out] |= fired", "masks[out] = fired", "the pool's last visit instead of the OR")),
]

_FORMAT, _BOARD = ("tests/test_packing.py",), ("tests/test_link.py", "-k", "packed or cannot")
LINK = [
    *_in("hw/packing.py",
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
         tests=_FORMAT),
    *_in("hw/packing.py",
         ("m.d.sync += [some.eq(1), byte.eq(0)]", "m.d.sync += some.eq(1)",
          "what is missing repeats the last byte"),
         tests=_BOARD),
    *_in("hw/commands.py",
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
         tests=("tests/test_link.py", "-k", "epoch or sync")),
    *_in("hw/commands.py",
         ("ResetInserter(~writing)(unpacker)", "unpacker", "begins where the last write ended"),
         ("unpacker.ended.eq(payload == 0)", "unpacker.ended.eq(0)",
          "a packed write that is too short never ends"),
         ("m.next = \"DROP\"", "m.next = \"RUN\"", "the rest is taken for a request"),
         ("too_many | (end > size)", "end > size", "a number of 2^24 counts as 0"),
         ("header.packed | (payload != 0)", "payload != 0", "packed without a write does nothing"),
         ("            | no_number | ", "            | ", "a packed write needs no number"),
         tests=_BOARD),
    *_in("sw/board/packing.py",
         ("before + room - 3", "before + room + 4", "a frame longer than was asked for"),
         ("np.minimum(_RUN, b - run) - 1", "np.minimum(_RUN, b - run)", "a silent group too many"),
         ("return (value or 15) if", "return value if", "silence has no common mask"),
         tests=_FORMAT),
]

# No network of the regression brings the core there; the benches of these units stall at random.
STALLS = [
    *_in("hw/fetch.py",
         ("f_valid.eq(p_valid & wanted.any())", "f_valid.eq(p_valid & wanted[:-1].any())",
          "a plane with a spike in its last word only is dropped"), tests=("tests/test_fetch.py",)),
    *_in("hw/drain.py",
         ("tag2.valid & ~keep", "~keep", "the pool takes what is read while the walk stands still"),
         tests=("tests/test_drain.py", "-k", "test_drain")),
    *_in("hw/outputs.py",
         ("visit.pass_end & ~visit.parity", "visit.pass_end",
          "a row's sum is overwritten by the next row's"),
         tests=("tests/test_drain.py", "-k", "test_packer or test_outputs")),
]

MUTATIONS: tuple[Mutation, ...] = (
    *NEURON, *UNIT, *FETCH, *DECODER, *ATTENTION, *DRAIN, *PASSES, *WALKER, *GATE, *OUTPUTS,
    *PACKER, *CORE, *COMPILER, *REFERENCE, *LINK, *STALLS)

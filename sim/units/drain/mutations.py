"""Wrong lines of the unit: the tests must notice `MUTATIONS` and the proofs `BUGS`."""

from sim.wrong_lines import bad, bug

DRAIN = bad(
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
    ("sweeping.eq(~sweep_place.all())", "sweeping.eq(0)", "the sweep stops after one place"),
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

PASSES = bad(
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

WALKER = bad(
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

OUTPUTS = bad(
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

# No network of the regression brings the core there; the unit's bench stalls at random.
DRAIN_STALLS = bad(
    "hw/drain.py",
    ("tag2.valid & ~keep", "~keep", "the pool takes what is read while the walk stands still"),
    tests=("tests/test_drain.py", "-k", "test_drain"))

# No network of the regression brings the core there; the unit's bench stalls at random.
OUTPUTS_STALLS = bad(
    "hw/outputs.py",
    ("visit.pass_end & ~visit.parity", "visit.pass_end",
     "a row's sum is overwritten by the next row's"),
    tests=("tests/test_drain.py", "-k", "test_packer or test_outputs"))

MUTATIONS = (*DRAIN, *PASSES, *WALKER, *OUTPUTS, *DRAIN_STALLS, *OUTPUTS_STALLS)

BUGS = (
    bug("passes.HeaderQueue/order", "header_no_overflow", "passes",
        "self.i.ready.eq(level != HEADERS)", "self.i.ready.eq(1)", "takes a fifth header", 10,
        quick=True),
    bug("passes.Passes/choice", "filled", "passes",
        "filled[e].bit_select(banks[e], 1)", "filled[e].any()", "walks the bank that is not full"),
    bug("passes.Passes/choice", "two_live", "passes", "& ~in_flight[1]", "",
        "a third pass while two are live"),
    bug("passes.Passes/choice", "one_of_an_engine", "passes", "(one_group | ~own)", "1",
        "reads membranes before they are stored"),
    bug("passes.Passes/choice", "row_is_whole", "passes",
        "(~held | (self.engine == e))", "1", "another engine's pass in the middle of a row"),
    bug("passes.Passes/choice", "in_turn", "passes", "Mux(self.engine, ~may[0], may[1])",
        "~may[0]", "the first engine always goes first"),
    bug("drain.Drain/claims", "claimed", "drain",
        "port.read.eq(port.claim |", "port.read.eq(port.claim | tag0.valid |",
        "reads the first unit without a claim"),
    bug("drain.Drain/stops", "stops", "drain",
        "walker.step.eq(walker.running & ~finished.almost_full)",
        "walker.step.eq(walker.running)", "walks on although the queue is almost full"),
)

"""Wrong lines of the unit: the tests must notice `MUTATIONS` and the proofs `BUGS`."""

from sim.wrong_lines import bad, bug

FETCH = bad(
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

# No network of the regression brings the core there; the unit's bench stalls at random.
FETCH_STALLS = bad(
    "hw/fetch.py",
    ("f_valid.eq(p_valid & wanted.any())", "f_valid.eq(p_valid & wanted[:-1].any())",
     "a plane with a spike in its last word only is dropped"), tests=("tests/test_fetch.py",))

MUTATIONS = (*FETCH, *FETCH_STALLS)

BUGS = (
    bug("engine.Engine/stops", "stops", "fetch",
        "go.eq(r_valid & ~self.almost_full & ~self.port_blocked)",
        "go.eq(r_valid & ~self.port_blocked)", "issues although a queue is almost full"),
    bug("fetch.Fetch/queues", "ranges_stop", "fetch", "self.items.ready.eq(~ranges.almost_full)",
        "self.items.ready.eq(1)", "takes items although their queue is almost full"),
    bug("fetch.Fetch/passes", "idle_means_empty", "fetch", "self.idle.eq(~(r_valid | ",
        "self.idle.eq(~(", "idle with a word left to visit"),
    bug("fetch.Fetch/port", "one_of_two", "fetch", "self.request & ~go & ~self.port_blocked",
        "self.request & ~self.port_blocked", "grants the word walk's turn", quick=True),
    bug("fetch.Fetch/passes", "unit", "fetch", "f.timesteps.eq(p.timesteps)", "f.timesteps.eq(-1)",
        "adds in every timestep"),
)

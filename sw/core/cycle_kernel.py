"""The cycle-stepped model of one layer on the core: numba, one iteration per clock.

Every register that can delay anything is modelled: decoder, fetch pipeline, queues, units, drain,
neuron pipeline, packer, write arbiter. The stages and their rules are the cycle contract of
`docs/core.md`, in the order of the gateware in `hw/`. `sw.core.cycles` prepares the arrays and
names the results. Only activity matters here, never a value: a map word is the bit set of its lanes
with a non-empty spike mask (in attention, where items count in some timesteps only, one bit set a
timestep).
"""

from __future__ import annotations

import numpy as np

from .jit import njit

# Columns of the tap table.
(TAP_BASE, TAP_STRIDE, TAP_OFFSET, TAP_SHIFT, TAP_EXTRA, TAP_EDGE, TAP_PLANE, TAP_PLANES,
 TAP_WORDS) = range(9)

# Columns of the layer's vector.
(L_GROUPS, L_STRIPS, L_STRIP_WORDS, L_STRIP_WORDS_LAST, L_ROW_WORDS_MASK, L_PLANES_PER_GROUP,
 L_PAIR, L_PAIR_MERGE, L_POOL_MAX, L_READOUT, L_FLUSH, L_OUT_PITCH, L_POSITIONS,
 L_POSITIONS_LAST, L_STRIP_STEP, L_ATTENTION, L_KEY_WORDS, L_HEAD_WIDTH) = range(18)

# Columns of the core's vector. C_PIPELINE: visits between the walk and the drain's queue. C_SKIP: 0
# if words without any spike are fetched, too (for the study's ladder; the gateware skips them).
# C_FETCH: places of each of the fetch's two queues. C_DRAIN, C_DRAIN_MARGIN: of the drain's queue.
(C_ENGINES, C_UNITS, C_WINDOW, C_QUEUE, C_MARGIN, C_PIPELINE, C_SKIP, C_FETCH, C_DRAIN,
 C_DRAIN_MARGIN) = range(10)

# Flags of a step of the drain walk; the number of neurons it visits is above them.
F_WINDOW_END, F_ROW_END, F_PHASE_END, F_LAST, F_COUNT = 1, 2, 4, 8, 16
F_VALID, F_LAST_STRIP, F_LAST_PASS = 1 << 8, 1 << 9, 1 << 10

# What an accumulate slot (a unit in a cycle) did: an update, or what kept it from one.
(USED, SCAN, QUEUE, NEURON, PORT, DECODE, DONE) = range(7)
CAUSES = 7

# Counters.
(N_WORDS, N_WEIGHTS, N_UPDATES, N_QUEUE, N_PORT, N_STARVED, N_BANK, N_NEURONS, N_WRITTEN,
 N_CODES, N_PASSES, N_SILENT) = range(12)
COUNTERS = 12

HEADER_QUEUE = 4
READER_RESTART = 5
NOTHING, END = -2, -1
IDLE, CHANNEL, BIAS, THRESHOLD, CODES, ATTEND = range(6)
POP, BASE, WAIT, WALK = range(4)

SLICES = 2
"""Cycles in which a word of k or v is counted: 2 timesteps at a time."""

QUEUE_FULL = 7
"""Sums that wait in the queue when reading stops, a cycle later."""

# State of the source of an engine's items (`hw.attention.AttentionSource`). S_STATE of its reader,
# S_WAIT: cycles until it may ask, S_STOP: the queue has filled. S_ASKED: words of the pass.
# S_SILENT: cycles until it is known that v is silent. S_BUSY: cycles until the last word has left
# the counter. S_PUSHES: bit n: sums enter the queue in n + 1 cycles. S_LEVEL: of the queue.
# S_TAKEN: sums taken from it. S_VALID: sums are at hand, S_LEFT: items still to make of them.
# S_ITEM: item in the output register, S_NEXT: the one after. S_AT: channel of the last pass.
# S_LATCHED: the decoder knows that the pass is done.
(S_STATE, S_PASS, S_WAIT, S_PAUSE, S_STOP, S_ASKED, S_SILENT, S_BUSY, S_PUSHES, S_LEVEL, S_TAKEN,
 S_VALID, S_LEFT, S_ITEM, S_NEXT, S_AT, S_LATCHED) = range(17)
SOURCE = 17
RESTING, READING, FINISHED = range(3)


@njit
def word_jobs(bits, start, limit, units, window, jobs):
    """Active lanes per unit of a map word whose lane 0 is output position `start`."""
    jobs[:] = 0
    for i in range(window):
        if (bits >> np.uint64(i)) & np.uint64(1):
            q = start + i
            if 0 <= q < limit:
                jobs[q % units] += 1


@njit
def next_live(address, word, last, active, skip):
    """First word from `word` to `last` to fetch, `last` + 1 if there is none; word 0 is at
    `address`."""
    while skip and word <= last and active[address + word] == 0:
        word += 1
    return word


@njit
def source_begins(s, number, channel, starts):
    """The pass `number` starts in the next cycle."""
    # Seeking the channel, then four cycles to make addresses.
    s[S_WAIT] = 6 + channel - s[S_AT]
    s[S_STATE], s[S_PASS], s[S_AT] = READING, number, channel
    s[S_ASKED], s[S_TAKEN], s[S_SILENT], s[S_LATCHED] = 0, 0, 0, 0
    s[S_NEXT], s[S_ITEM] = starts[number], NOTHING


@njit
def source_asks(s):
    """Whether a map word is requested in this cycle."""
    return s[S_STATE] == READING and s[S_WAIT] == 0 and s[S_PAUSE] == 0 and s[S_STOP] == 0


@njit
def source_step(s, granted, item_free, words, width, takes, silent):
    """One cycle; returns the item that the decoder takes, END in the pass' last cycle, else
    NOTHING. item_free: the decoder would take one."""
    taken = NOTHING
    free = s[S_ITEM] == NOTHING or item_free
    if item_free:
        taken = s[S_ITEM]
    if (s[S_STATE] == FINISHED and s[S_BUSY] == 0 and s[S_LEVEL] == 0 and s[S_VALID] == 0
            and s[S_ITEM] == NOTHING):
        s[S_STATE] = RESTING
        taken = END
    # items of the sums at hand, and the next ones from the queue
    ends = s[S_VALID] == 0 or (s[S_LEFT] <= 1 and (free or s[S_LEFT] == 0))
    if free:
        s[S_ITEM] = NOTHING
        if s[S_VALID] and s[S_LEFT] > 0:
            s[S_ITEM] = s[S_NEXT]
            s[S_NEXT] += 1
            s[S_LEFT] -= 1
    was = s[S_LEVEL]
    if ends:
        s[S_VALID] = was > 0
        if was > 0:
            s[S_LEFT] = takes[s[S_PASS] * width + s[S_TAKEN]]
            s[S_TAKEN] += 1
            s[S_LEVEL] -= 1
    s[S_LEVEL] += s[S_PUSHES] & 1
    s[S_PUSHES] >>= 1
    s[S_STOP] = was >= QUEUE_FULL
    # reader and counter
    for column in (S_WAIT, S_PAUSE, S_BUSY):
        if s[column] > 0:
            s[column] -= 1
    if s[S_SILENT] > 0:
        s[S_SILENT] -= 1
        if s[S_SILENT] == 0:
            s[S_STATE] = FINISHED
    if granted:
        s[S_PAUSE] = SLICES - 1
        s[S_ASKED] += 1
        busy = 2 + SLICES
        if s[S_ASKED] > words:
            busy += 3
            if s[S_ASKED] % words == 0:
                busy += 1
                s[S_PUSHES] |= 1 << (5 + SLICES)
                if s[S_ASKED] == words * (width + 1):
                    s[S_STATE] = FINISHED
        elif s[S_ASKED] == words and silent[s[S_PASS]]:
            s[S_SILENT] = 3 + SLICES
        s[S_BUSY] = max(s[S_BUSY], busy)
    return taken


@njit
def run_layer(size, layer, taps, allowed, planes, active, row_start, code_start, code_tap,
              code_channel, walk_start, walk_position, walk_flags, spikes, channels, item_steps,
              item_start, takes, silent, served):
    """Step one layer from the start of the engines until the sequencer sees them done.

    size, layer: vectors of the columns above. taps [n_taps, 9]; allowed [n_taps] uint64 by lane.
    planes: word offsets. active: uint64 per map word. row_start [engines + 1] into the rows,
    code_start [rows + 1] into the codes; code_tap is -1 for a skip bit. walk_start [3]: the steps
    of any strip and of the last one in walk_position and walk_flags. In an attention layer spikes
    [map_words, 4] are bit sets, channels [rows] the output channels, and items stand for the codes:
    see `attention_items.prepare`. served: the engine whose word was written last.
    Returns (cycles, causes [CAUSES], counters [COUNTERS], served); causes count unit-cycles.
    """
    engines, units, window = size[C_ENGINES], size[C_UNITS], size[C_WINDOW]
    depth, margin, stages = size[C_QUEUE], size[C_MARGIN], size[C_PIPELINE]
    skip, fetch_queue = size[C_SKIP] != 0, size[C_FETCH]
    drain_queue, drain_margin = size[C_DRAIN], size[C_DRAIN_MARGIN]
    groups, strips = layer[L_GROUPS], layer[L_STRIPS]
    attention, key_words, width = layer[L_ATTENTION], layer[L_KEY_WORDS], layer[L_HEAD_WIDTH]
    per_row = groups * strips
    pair, readout, pool_max = layer[L_PAIR], layer[L_READOUT], layer[L_POOL_MAX]
    two_outputs = pair and not layer[L_PAIR_MERGE]
    pitch_lanes = (layer[L_OUT_PITCH] - 1) % window
    pitch_words = (layer[L_OUT_PITCH] - 1) // window
    causes = np.zeros(CAUSES, np.int64)
    count = np.zeros(COUNTERS, np.int64)

    # decoder: state, row, pass of the row, next code to extract, code extracted
    state = np.full(engines, IDLE, np.int64)
    row = row_start[:-1].copy()
    sub = np.zeros(engines, np.int64)
    code = np.zeros(engines, np.int64)
    reader = np.full(engines, READER_RESTART, np.int64)
    extracted = np.full(engines, NOTHING, np.int64)
    header = np.zeros(engines, np.bool_)
    sources = np.zeros((engines, SOURCE), np.int64)     # of an attention layer's items
    # weights on their way through the fetch: item, s1, s2, s3, the queue of ranges, w, then planes
    # of them: q, p, f (knows its live words), the queue of visits, r (fetches them); with strip and
    # group
    stage = np.full((engines, 9), NOTHING, np.int64)
    stage_sub = np.zeros((engines, 9), np.int64)
    ranges = np.zeros((engines, fetch_queue), np.int64)
    ranges_sub = np.zeros((engines, fetch_queue), np.int64)
    ranges_at = np.zeros(engines, np.int64)
    ranges_level = np.zeros(engines, np.int64)
    ranges_almost = np.zeros(engines, np.bool_)
    first = np.zeros((engines, 5), np.int64)    # word range, from w on
    last = np.zeros((engines, 5), np.int64)
    address = np.zeros((engines, 5), np.int64)  # of word 0
    plane = np.zeros(engines, np.int64)
    any_live = np.zeros(engines, np.bool_)
    visits = np.zeros((engines, fetch_queue, 5), np.int64)   # weight, strip and group, word range
    visits_at = np.zeros(engines, np.int64)
    visits_level = np.zeros(engines, np.int64)
    visits_almost = np.zeros(engines, np.bool_)
    # words between the fetch and the queues: valid (1 word, 2 end), lanes per unit
    flight = np.zeros((engines, 3), np.int64)
    flight_jobs = np.zeros((engines, 3, units), np.int64)
    # queues and units; a job is its number of lanes, 0 ends the pass
    queue = np.zeros((engines, units, depth), np.int64)
    head_at = np.zeros((engines, units), np.int64)
    level = np.zeros((engines, units), np.int64)
    almost = np.zeros((engines, units), np.bool_)
    stalls = np.zeros(engines, np.bool_)        # a queue was almost full
    job = np.full((engines, units), NOTHING, np.int64)
    bank = np.zeros((engines, units), np.int64)
    filled = np.zeros((engines, units, 2), np.bool_)
    all_filled = np.zeros(engines, np.bool_)    # as the drain sees it, a cycle late
    add = np.zeros((engines, units), np.bool_)
    # drain
    headers = np.zeros(engines, np.int64)
    drain = np.full(engines, POP, np.int64)
    drained = np.zeros(engines, np.int64)       # pass that is walked
    in_flight = np.zeros(engines, np.int64)
    step = np.full(engines, -1, np.int64)
    tags = np.zeros((engines, stages), np.int64)
    at = np.zeros(engines, np.int64)            # ring index of the first stage
    claims = np.full(engines, -1, np.int64)     # position that the first stage claims
    outputs = np.zeros((engines, drain_queue), np.int64)
    outputs_at = np.zeros(engines, np.int64)
    outputs_level = np.zeros(engines, np.int64)
    outputs_almost = np.zeros(engines, np.bool_)
    # packer: the output it looks at, whether it takes one in this cycle
    item = np.zeros(engines, np.int64)
    advance = np.ones(engines, np.bool_)
    pending = np.zeros(engines, np.bool_)       # a word is finished ...
    out = np.zeros(engines, np.bool_)           # ... or waits for the arbiter
    fill = np.zeros(engines, np.int64)
    fill_ends = np.zeros(engines, np.bool_)
    lane = np.zeros(engines, np.int64)
    index = np.zeros(engines, np.int64)
    working = np.ones(engines, np.bool_)
    # arbiter
    announce = False
    write = False
    jobs = np.zeros(units, np.int64)

    for e in range(engines):
        if row_start[e + 1] > row_start[e]:
            state[e] = CHANNEL
            code[e] = code_start[row[e]]
    cycle = 0
    while True:
        cycle += 1
        all_done = not announce and not write
        # arbiter, from the packers' registers
        choice = -1
        for i in range(1, engines + 1):
            e = (served + i) % engines
            if out[e]:
                choice = e
                break
        if write:
            count[N_WRITTEN] += 1
        for e in range(engines):
            decoder_idle = state[e] == IDLE and stage[e, 0] == NOTHING and not header[e]
            packer_busy = pending[e] or out[e] or item[e] != 0
            drain_idle = (drain[e] == POP and headers[e] == 0 and in_flight[e] == 0
                          and not packer_busy)
            idle = decoder_idle and drain_idle
            if idle and not working[e]:
                causes[DONE] += units
                continue
            if not (idle and not working[e]):
                all_done = False
            working[e] = not idle

            # ---- packer, neuron pipeline and drain
            move = pending[e] and not out[e]
            push = False
            pass_done = False
            waiting_outputs = outputs_level[e]
            if advance[e]:
                tag = item[e]
                if tag & F_VALID:
                    pass_done = (tag & F_LAST) != 0
                    if readout:
                        push = pass_done and (tag & F_LAST_PASS) != 0
                    elif tag & F_WINDOW_END:
                        row_end = (tag & F_ROW_END) != 0
                        after = lane[e] + (2 if two_outputs else 1)
                        if row_end:
                            after = (lane[e] | pitch_lanes) + 1
                        sequence_end = (tag & F_PHASE_END) != 0 and (
                            layer[L_FLUSH] != 0 or (tag & F_LAST_STRIP) != 0)
                        push = after >= window or sequence_end
                        rest = pitch_words & ~(index[e] & 15) if row_end else 0
                        lane[e] = after % window
                        if push:
                            index[e] += 1
                            fill[e] = rest
                        if sequence_end:
                            lane[e] = 0
                            fill_ends[e] = True
                            if rest == 0:
                                index[e] = 0
                                fill_ends[e] = False
                item[e] = 0
                if waiting_outputs > 0:
                    item[e] = outputs[e, outputs_at[e]]
                    outputs_at[e] = (outputs_at[e] + 1) % drain_queue
                    outputs_level[e] -= 1
            elif fill[e] > 0 and move:
                push = True
                fill[e] -= 1
                index[e] += 1
                if fill[e] == 0 and fill_ends[e]:
                    index[e] = 0
                    fill_ends[e] = False
            walks = step[e] >= 0 and not outputs_almost[e]
            claim_at = claims[e]
            claims[e] = walk_position[step[e]] if walks else -1
            tag1, tag2 = tags[e, (at[e] + 1) % stages], tags[e, (at[e] + 2) % stages]
            tag = tags[e, (at[e] + stages - 1) % stages]
            if tag & F_VALID and (tag & F_LAST or (tag & F_WINDOW_END and not readout)):
                outputs[e, (outputs_at[e] + outputs_level[e]) % drain_queue] = tag
                outputs_level[e] += 1
            outputs_almost[e] = waiting_outputs >= drain_queue - drain_margin
            if tag2 & F_VALID and not readout and (tag2 & F_WINDOW_END or not pool_max):
                count[N_NEURONS] += (tag2 // F_COUNT) & 3
            release = -1
            if tag1 & F_VALID and tag1 & F_LAST:
                release = (drained[e] - 1) & 1

            pop_header = False
            start_walk = False
            if drain[e] == POP:
                may_start = in_flight[e] < 2 if groups == 1 else in_flight[e] == 0
                if headers[e] > 0 and may_start:
                    pop_header = True
                    drain[e] = BASE
            elif drain[e] == BASE or drain[e] == WAIT:
                start_walk = drain[e] == WAIT and all_filled[e]
                drain[e] = WAIT
                all_filled[e] = True
                for u in range(units):
                    all_filled[e] = all_filled[e] and filled[e, u, drained[e] & 1]
            at[e] = (at[e] + stages - 1) % stages
            tags[e, at[e]] = 0
            if walks:
                which = drained[e] % per_row
                new_tag = walk_flags[step[e]] | F_VALID
                if which // groups == strips - 1:
                    new_tag |= F_LAST_STRIP
                if which == per_row - 1:
                    new_tag |= F_LAST_PASS
                tags[e, at[e]] = new_tag
                step[e] += 1
                if new_tag & F_LAST:
                    step[e] = -1
                    drained[e] += 1
                    drain[e] = POP
            if start_walk:
                drain[e] = WALK
                final = (drained[e] % per_row) // groups == strips - 1
                step[e] = walk_start[1] if final else walk_start[0]
            in_flight[e] += int(start_walk) - int(pass_done)
            pending[e] = push or (pending[e] and not move)
            advance[e] = not (pending[e] and (move or out[e])) and fill[e] == 0
            out[e] = move or (out[e] and choice != e)

            # ---- fetch: what moves in this cycle
            stalled = stalls[e]
            stalls[e] = False
            for u in range(units):
                stalls[e] = stalls[e] or almost[e, u]
            blocked = announce and e % 2 == 0
            r = stage[e, 8]
            go = r != NOTHING and not stalled and not blocked
            r_finished = r == NOTHING
            # words in flight reach the queues (below), then everything moves on
            landing = flight[e, 2]
            for u in range(units):
                jobs[u] = flight_jobs[e, 2, u]
            for i in range(2, 0, -1):
                flight[e, i] = flight[e, i - 1]
                for u in range(units):
                    flight_jobs[e, i, u] = flight_jobs[e, i - 1, u]
            flight[e, 0] = 0
            why = DECODE
            if r != NOTHING:
                why = SCAN
                if stalled:
                    why = QUEUE
                    count[N_QUEUE] += 1
                elif blocked:
                    why = PORT
                    count[N_PORT] += 1
            elif decoder_idle:
                why = NEURON                    # only the last passes' drains are left
            else:
                count[N_STARVED] += 1
                if (stage[e, 7] != NOTHING or stage[e, 6] != NOTHING or stage[e, 5] != NOTHING
                        or stage[e, 4] != NOTHING):
                    why = SCAN
            if go and r == END:
                flight[e, 0] = 2
                r_finished = True
                count[N_PASSES] += 1
            elif go:
                tap = code_tap[r]
                strip = stage_sub[e, 8] // groups
                limit = layer[L_POSITIONS_LAST if strip == strips - 1 else L_POSITIONS]
                word = first[e, 4]
                bits = active[address[e, 4] + word]
                if attention:
                    bits = np.uint64(0)
                    for t in range(4):
                        if item_steps[r] >> t & 1:
                            bits |= spikes[address[e, 4] + word, t]
                place = word & layer[L_ROW_WORDS_MASK]
                edge = taps[tap, TAP_EDGE]
                if (edge == 0 or (edge == 1 and place == 0)
                        or (edge == 2 and place == layer[L_ROW_WORDS_MASK])):
                    bits = bits & allowed[tap]
                start = window * (word - strip * layer[L_STRIP_STEP]) - taps[tap, TAP_SHIFT]
                word_jobs(bits, start, limit, units, window, flight_jobs[e, 0])
                flight[e, 0] = 1
                count[N_WORDS] += 1
                if bits == 0:
                    count[N_SILENT] += 1
                first[e, 4] = next_live(address[e, 4], word + 1, last[e, 4], active, skip)
                r_finished = first[e, 4] > last[e, 4]
            waiting_visits = visits_level[e]
            w = stage[e, 4]
            w_go = w != NOTHING and not visits_almost[e]
            finished = w == NOTHING
            if w_go:
                finished = (w == END or first[e, 0] > last[e, 0]
                            or plane[e] + 1 == taps[code_tap[w], TAP_PLANES])
                if finished and w >= 0:
                    count[N_WEIGHTS] += 1
            if r_finished:
                stage[e, 8] = NOTHING
                if waiting_visits > 0:
                    at_visit = visits[e, visits_at[e]]
                    stage[e, 8], stage_sub[e, 8] = at_visit[0], at_visit[1]
                    first[e, 4], last[e, 4], address[e, 4] = at_visit[2], at_visit[3], at_visit[4]
                    visits_at[e] = (visits_at[e] + 1) % fetch_queue
                    visits_level[e] -= 1
            if stage[e, 7] != NOTHING and any_live[e]:
                at_visit = visits[e, (visits_at[e] + visits_level[e]) % fetch_queue]
                at_visit[0], at_visit[1] = stage[e, 7], stage_sub[e, 7]
                at_visit[2], at_visit[3], at_visit[4] = first[e, 3], last[e, 3], address[e, 3]
                visits_level[e] += 1
            visits_almost[e] = waiting_visits >= fetch_queue - margin
            p = stage[e, 6]
            stage[e, 7], stage_sub[e, 7] = p, stage_sub[e, 6]
            any_live[e] = p == END
            if p >= 0:
                last[e, 3], address[e, 3] = last[e, 2], address[e, 2]
                first[e, 3] = next_live(address[e, 2], first[e, 2], last[e, 2], active, skip)
                any_live[e] = first[e, 3] <= last[e, 3]
            stage[e, 6], stage_sub[e, 6] = stage[e, 5], stage_sub[e, 5]
            first[e, 2], last[e, 2], address[e, 2] = first[e, 1], last[e, 1], address[e, 1]
            stage[e, 5], stage_sub[e, 5] = (w if w_go else NOTHING), stage_sub[e, 4]
            first[e, 1], last[e, 1] = first[e, 0], last[e, 0]
            if w_go and w >= 0:
                tap = code_tap[w]
                entry = ((stage_sub[e, 4] % groups) * layer[L_PLANES_PER_GROUP]
                         + taps[tap, TAP_PLANE] + plane[e])
                address[e, 1] = (taps[tap, TAP_BASE] + code_channel[w] * taps[tap, TAP_STRIDE]
                                 + planes[entry])
            if w_go:
                plane[e] += 1
            waiting_ranges = ranges_level[e]
            items_ready = not ranges_almost[e]
            item_free = stage[e, 0] == NOTHING or items_ready
            if finished:
                stage[e, 4] = NOTHING
                if waiting_ranges > 0:
                    stage[e, 4] = ranges[e, ranges_at[e]]
                    stage_sub[e, 4] = ranges_sub[e, ranges_at[e]]
                    ranges_at[e] = (ranges_at[e] + 1) % fetch_queue
                    ranges_level[e] -= 1
                plane[e] = 0
                w = stage[e, 4]
                if w >= 0:
                    tap, strip = code_tap[w], stage_sub[e, 4] // groups
                    nw = layer[L_STRIP_WORDS_LAST if strip == strips - 1 else L_STRIP_WORDS]
                    begin = strip * layer[L_STRIP_STEP] + taps[tap, TAP_OFFSET]
                    first[e, 0] = max(begin, 0)
                    last[e, 0] = min(begin + nw - 1 + taps[tap, TAP_EXTRA],
                                     taps[tap, TAP_WORDS] - 1)
            if stage[e, 3] != NOTHING:
                place = (ranges_at[e] + ranges_level[e]) % fetch_queue
                ranges[e, place], ranges_sub[e, place] = stage[e, 3], stage_sub[e, 3]
                ranges_level[e] += 1
            ranges_almost[e] = waiting_ranges >= fetch_queue - margin
            stage[e, 3], stage_sub[e, 3] = stage[e, 2], stage_sub[e, 2]
            stage[e, 2], stage_sub[e, 2] = stage[e, 1], stage_sub[e, 1]
            stage[e, 1] = NOTHING
            if items_ready:
                stage[e, 1], stage_sub[e, 1] = stage[e, 0], stage_sub[e, 0]
                stage[e, 0] = NOTHING

            # ---- decoder
            header_taken = header[e] and headers[e] < HEADER_QUEUE
            if state[e] == CHANNEL:
                if reader[e] > 0:
                    reader[e] -= 1
                elif not header[e]:
                    state[e] = BIAS
            elif state[e] == BIAS:
                state[e] = THRESHOLD
            elif state[e] == THRESHOLD:
                state[e] = CODES
                header[e] = True
                extracted[e] = NOTHING
                if attention:
                    state[e] = ATTEND
                    source_begins(sources[e], row[e] * groups + sub[e] % groups, channels[row[e]],
                                 item_start)
            elif state[e] == CODES or state[e] == ATTEND:
                ends = False
                if state[e] == ATTEND:
                    granted = source_asks(sources[e]) and not go and not blocked
                    count[N_WORDS] += granted
                    x = source_step(sources[e], granted, item_free, key_words, width, takes, silent)
                    if x >= 0:
                        stage[e, 0], stage_sub[e, 0] = x, sub[e]
                    elif x == END:
                        sources[e, S_LATCHED] = 1
                    ends = sources[e, S_LATCHED] and item_free
                else:
                    end_of_row = code_start[row[e] + 1]
                    x = extracted[e]
                    # The filler bit waits: the pass ends.
                    ends = x >= 0 and x == end_of_row and item_free
                    consume = x >= 0 and x < end_of_row and (item_free or code_tap[x] < 0)
                    if consume:
                        count[N_CODES] += 1
                        if code_tap[x] >= 0:
                            stage[e, 0], stage_sub[e, 0] = x, sub[e]
                    if not ends and (x == NOTHING or consume):
                        extracted[e] = code[e]
                        code[e] += 1
                if ends:
                    stage[e, 0], stage_sub[e, 0] = END, sub[e]
                    sub[e] += 1
                    state[e] = CHANNEL
                    if sub[e] == per_row:
                        sub[e] = 0
                        row[e] += 1
                        if row[e] == row_start[e + 1]:
                            state[e] = IDLE
                    else:
                        reader[e] = READER_RESTART
                    if state[e] == CHANNEL:
                        code[e] = code_start[row[e]]
            if header_taken:
                header[e] = False
            headers[e] += int(header_taken) - int(pop_header)

            # ---- units
            updates, waiting = 0, 0
            for u in range(units):
                claimed = claim_at >= 0 and (u == claim_at % units
                                             or (pair and u == claim_at % units + 1))
                if add[e, u]:
                    updates += 1
                take = job[e, u] > 0 and not claimed
                add[e, u] = take
                done = job[e, u] == NOTHING
                if job[e, u] == 0:
                    other = 1 - bank[e, u]
                    if filled[e, u, other]:
                        waiting += 1
                    else:
                        filled[e, u, bank[e, u]] = True
                        bank[e, u] = other
                        done = True
                elif take:
                    job[e, u] -= 1
                    done = job[e, u] == 0
                was = level[e, u]
                if done:
                    job[e, u] = NOTHING
                    if was > 0:
                        job[e, u] = queue[e, u, head_at[e, u]]
                        head_at[e, u] = (head_at[e, u] + 1) % depth
                        level[e, u] -= 1
                almost[e, u] = was >= depth - margin
                if landing == 2 or (landing == 1 and jobs[u] > 0):
                    queue[e, u, (head_at[e, u] + level[e, u]) % depth] = (
                        0 if landing == 2 else jobs[u])
                    level[e, u] += 1
                if release >= 0:
                    filled[e, u, release] = False
            count[N_UPDATES] += updates
            count[N_BANK] += waiting
            causes[USED] += updates
            causes[NEURON] += waiting
            causes[why] += units - updates - waiting
        if all_done:
            cycle += 1                          # until the sequencer sees it
            causes[DONE] += engines * units
            break
        write = announce
        announce = choice >= 0
        if announce:
            served = choice
    return cycle, causes, count, served

"""The software core's loops, in numba: one engine's rows of one layer; see `sw.core.machine`."""

from __future__ import annotations

import numpy as np

from hw import program
from hw.config import KEY_WORDS

from .jit import njit

COUNTERS = ("codes", "weights", "words", "empty_ranges", "jobs", "updates", "visits", "writes",
            "silent_values")
"""Counted per engine: codes decoded; weights among them, or items of an attention layer; map words
fetched, those of k and v included; planes whose range was empty; jobs put into unit queues; updates
(active lanes); drain steps; words written; passes whose v is silent (of k the core then reads the
few words that it asks for before it knows, which `words` leaves out)."""

TAP = ("base", "channel_stride", "word_offset", "channels", "shift", "extra", "edge", "mask",
       "plane_start", "plane_count", "channel_words")
HEADER = (*(program.plain(name) for fields in program.HEADER for name, _ in fields),
          *(f"inc_{name}" for name in ("kx", "ky", "ox", "oy", "px", "py")))
"""Fields of a tap and of a layer in the order of the arrays that `run_engine` takes."""

_H = {name: index for index, name in enumerate(HEADER)}

PROBLEMS = {1: "tap address outside the map memory", 2: "a weight past the last tap",
            3: "accumulator address outside the strip", 4: "too many words written",
            5: "drain position outside the strip", 6: "score of a token beyond the gate's",
            7: "a listed token beyond the gate's list", 8: "k and v do not fit the counter",
            9: "more visits than membranes", 10: "plane outside the table",
            11: "a row's stream does not end in the weight memory",
            12: "outputs without a pitch"}
"""What can be wrong in `run_engine`, 0 if all is well."""

_LEAK, _VRESET = _H["leak"], _H["v_reset"]
(_RICE, _BITS, _READOUT, _SOFT, _MAX, _PAIR, _MERGE, _FLUSH, _GROUPS, _LASTMASK,
 _ROWWORDS, _PPG, _STRIPS, _SW, _SWL, _POS, _POSL, _PITCHMASK, _ROWVALID, _OUTPITCH, _CKX, _CKY,
 _COX, _COY, _COYL, _CPX, _CPY, _IKX, _IKY, _IOX, _IOY, _IPX, _IPY, _OBASE, _OCH, _OGR, _OPH,
 _OSTRIP, _STEP, _ATTENTION, _KEY, _VALUE, _KEYWORDS, _KEYGROUP, _HEAD, _LISTED, _SCORE,
 _OVERLAP, _PLANES, _CHANNELBITS, _NEURONBITS) = (_H[name] for name in (
     "rice_k", "value_bits", "readout", "soft_reset", "pool_max", "pair", "pair_merge",
     "flush_strip", "n_groups", "last_mask", "row_words_mask", "planes_per_group", "n_strips",
     "strip_words", "strip_words_last", "positions", "positions_last", "pitch_mask", "row_valid",
     "out_pitch", "count_kx", "count_ky", "count_ox", "count_oy", "count_oy_last", "count_px",
     "count_py", "inc_kx", "inc_ky", "inc_ox", "inc_oy", "inc_px", "inc_py", "out_base",
     "out_channel_stride", "out_group_stride", "out_phase_stride", "strip_out_words", "strip_step",
     "attention", "key", "value", "key_words", "key_group_stride", "head_width", "listed", "score",
     "pool_overlap", "bit_planes", "channel_bits", "neuron_bits"))


@njit
def _bits(stream, at, count):
    value = 0
    for n in range(count):
        bit = at + n
        word = stream[(bit >> 5) % stream.size]         # beyond the end: found by `run_engine`
        value |= ((np.int64(word) >> (bit & 31)) & 1) << n
    return value


@njit
def _signed(value, width):
    return value - (1 << width) if value >> (width - 1) else value


@njit
def _unfold(value):
    """Inverse of `sw.compile.rice.fold`."""
    return -(value >> 1) - 1 if value & 1 else value >> 1


@njit
def _add(lanes, tap, channel, value, timesteps, h, planes, units, group, tf, nw, positions, acc,
         counters, unit_updates):
    """Add one weight in some timesteps of the group, at every position; returns a problem."""
    window = lanes.shape[1]
    subs = window // units
    shift, mask, edge = tap[4], tap[7], tap[6]
    first = tf + tap[2]
    last = min(first + nw - 1 + tap[5], tap[10] - 1)
    first = max(first, 0)
    base = tap[0] + channel * tap[1]
    for p in range(tap[9]):
        entry = group * h[_PPG] + tap[8] + p
        if entry >= planes.shape[0]:
            return 10
        offset, scaled = planes[entry, 0], value << planes[entry, 1]
        if last < first:
            counters[3] += 1
        for j in range(first, last + 1):
            address = base + offset + j
            if address < 0 or address >= lanes.shape[0]:
                return 1
            if lanes[address].any():                # silent words are not read
                counters[2] += 1
            row_word = j & h[_ROWWORDS]
            masked = edge == 0 or (edge == 1 and row_word == 0) or (
                edge == 2 and row_word == h[_ROWWORDS])
            for u in range(units):
                any_active = False
                source = (u + shift) % units
                wrap = 1 if u + shift % units >= units else 0
                for m in range(subs):
                    spikes = lanes[address, m * units + source] & timesteps
                    allowed = not masked or (mask >> (m * units + u)) & 1
                    a = subs * (j - tf) + m - shift // units - wrap
                    if spikes == 0 or not allowed or a < 0 or a * units + u >= positions:
                        continue
                    if a * units + u >= acc.shape[0]:
                        return 3
                    any_active = True
                    unit_updates[u] += 1
                    counters[5] += 1
                    for t in range(4):
                        if spikes >> t & 1:
                            acc[a * units + u, t] += scaled
                if any_active:
                    counters[4] += 1
    return 0


@njit
def _pass(lanes, stream, at, h, taps, planes, units, group, tf, nw, positions, acc, counters,
          unit_updates):
    """One pass over a row's codes; returns (next bit, problem)."""
    n_taps, k, width = taps.shape[0], h[_RICE], h[_BITS]
    tap, channel = 0, 0
    while tap < n_taps:
        counters[0] += 1
        bit = _bits(stream, at, 1)
        at += 1
        step = 1 << k
        if bit:
            raw = _bits(stream, at, width)
            value = (1 - 2 * raw) if width == 1 else _signed(raw, width)
            skip = _bits(stream, at + width, k)
            at += width + k
            channel += skip
            if channel >= taps[tap, 3]:
                channel -= taps[tap, 3]
                tap += 1
            if tap >= n_taps:
                return at, 2
            counters[1] += 1
            problem = _add(lanes, taps[tap], channel, value, 15, h, planes, units, group, tf, nw,
                           positions, acc, counters, unit_updates)
            if problem:
                return at, problem
            step = 1
        channel += step
        if channel >= taps[tap, 3]:
            channel -= taps[tap, 3]
            tap += 1
    return at + 1, 0                                        # behind the row's filler bit


@njit
def _attend(lanes, row, h, taps, planes, units, group, tf, nw, positions, acc, counters,
            unit_updates):
    """One pass of an attention layer: channel `row` of v, and the k of its head, weigh q."""
    words = h[_KEYWORDS]
    if not 1 <= words <= KEY_WORDS or h[_HEAD] == 0:
        return 8
    value = h[_VALUE] + row * words + group * h[_KEYGROUP]
    head = row - row % h[_HEAD]
    key = h[_KEY] + head * words + group * h[_KEYGROUP]
    if max(value, key + (h[_HEAD] - 1) * words) + words > lanes.shape[0]:
        return 1
    counters[2] += words
    if not lanes[value:value + words].any():
        counters[8] += 1
        return 0
    for i in range(h[_HEAD]):
        counters[2] += words
        sums = np.zeros(4, np.int64)
        for j in range(words):
            for lane in range(lanes.shape[1]):
                both = lanes[key + i * words + j, lane] & lanes[value + j, lane]
                for t in range(4):
                    sums[t] += both >> t & 1
        for t in range(4):
            timesteps = 0
            for other in range(4):
                timesteps |= (sums[other] == sums[t]) << other
            if sums[t] == 0 or timesteps & ((1 << t) - 1):
                continue                                    # nothing, or a lower one has it, too
            counters[1] += 1
            problem = _add(lanes, taps[0], head + i, sums[t], timesteps, h, planes, units, group,
                           tf, nw, positions, acc, counters, unit_updates)
            if problem:
                return problem
    return 0


@njit
def _fire(h, current, v, bias, threshold):
    """Four timesteps of one neuron: (spike mask, membrane after them)."""
    mask = 0
    for t in range(4):
        v = ((h[_LEAK] * v) >> 8) + current[t] + bias
        if v >= threshold:
            mask |= 1 << t
            v = v - threshold if h[_SOFT] else h[_VRESET]
    return mask, v


@njit
def _emit(packer, word, mask, addresses, written, counters, window, address):
    """Put one mask into the word being packed; packer = [fill, index, positions]."""
    word[packer[0]] = mask
    packer[0] += 1
    packer[2] += 1
    if packer[0] == window:
        _flush(packer, word, addresses, written, counters, address)


@njit
def _flush(packer, word, addresses, written, counters, address):
    n = counters[7]
    if n < addresses.shape[0]:
        addresses[n] = address + packer[1]
        written[n] = word
    counters[7] += 1
    word[:] = 0
    packer[0] = 0
    packer[1] += 1


@njit
def _position(h, strip, tokens, py, px, oy, ox, ky, kx):
    """Accumulator position of a step of the drain walk, -1 for one outside the map."""
    if h[_LISTED]:
        return tokens[ox]
    q = (py * h[_IPY] + px * h[_IPX] + oy * h[_IOY] + ox * h[_IOX] + ky * h[_IKY] + kx * h[_IKX])
    if h[_OVERLAP]:
        if (kx == 0 and ox == 0) or (ky == 0 and oy == 0 and strip == 0):
            return -1
        q = (q - 1) % 1024
    return q


@njit
def _drain(h, strip, group, acc, membranes, bias, threshold, channel, packer, word, addresses,
           written, counters, window, scores, tokens):
    """Walk one pass's accumulators; returns a problem number."""
    if h[_OUTPITCH] == 0:
        return 12
    last_strip, last_group = strip == h[_STRIPS] - 1, group == h[_GROUPS] - 1
    positions = h[_POSL] if last_strip else h[_POS]
    count_oy = h[_COYL] if last_strip else h[_COY]
    count_ox = h[_COX]
    if h[_LISTED]:
        count_ox = count_ox or 256
        if count_ox > tokens.size:
            return 7
    width = 2 if h[_PAIR] else 1
    outputs = 2 if h[_PAIR] and not h[_MERGE] else 1
    slot = 0
    current = np.zeros(4, np.int64)
    for py in range(h[_CPY]):
        for px in range(h[_CPX]):
            address = h[_OBASE] + channel * h[_OCH]
            if h[_FLUSH]:
                address += ((py * h[_CPX] + px) * h[_OPH] + group * h[_OGR] + strip * h[_OSTRIP])
                packer[:] = 0
                word[:] = 0
            for oy in range(count_oy):
                for ox in range(count_ox):
                    masks = np.zeros(2, np.uint8)
                    found = np.zeros(2, np.bool_)
                    best = np.zeros((2, 4), np.int64)
                    for ky in range(h[_CKY]):
                        for kx in range(h[_CKX]):
                            counters[6] += 1
                            at = _position(h, strip, tokens, py, px, oy, ox, ky, kx)
                            for lane in range(width):
                                q = at + lane
                                valid = (at >= 0 and (q & h[_PITCHMASK]) < h[_ROWVALID]
                                         and q < positions)
                                out = lane if outputs == 2 else 0
                                if valid:
                                    if q >= acc.shape[0]:
                                        return 5
                                    if slot + 1 >= membranes.size:
                                        return 9
                                    if h[_MAX]:
                                        for t in range(4):
                                            if not found[out] or acc[q, t] > best[out, t]:
                                                best[out, t] = acc[q, t]
                                        found[out] = True
                                    else:
                                        current[:] = acc[q]
                                        if h[_PLANES]:
                                            current[:] = (acc[q, 0] + 2 * acc[q, 1]
                                                          + 4 * acc[q, 2] + 8 * acc[q, 3])
                                        v = membranes[slot]
                                        fired, v = _fire(h, current, v, bias, threshold)
                                        membranes[slot] = v
                                        masks[out] |= fired
                                if not h[_MAX]:
                                    slot += 1
                    if h[_MAX]:
                        for out in range(outputs):
                            if found[out]:
                                fired, v = _fire(h, best[out], membranes[slot], bias, threshold)
                                membranes[slot] = v
                                masks[out] = fired
                            slot += 1
                    for out in range(outputs):
                        mask = masks[out] & h[_LASTMASK] if last_group else masks[out]
                        _emit(packer, word, mask, addresses, written, counters, window, address)
                        if h[_SCORE]:
                            token = (strip * h[_COY] + oy) * h[_OUTPITCH] + ox * outputs + out
                            if token >= scores.size:
                                return 6
                            for t in range(4):
                                scores[token] += mask >> t & 1
                while packer[2] % h[_OUTPITCH]:
                    _emit(packer, word, 0, addresses, written, counters, window, address)
            if packer[0] and (h[_FLUSH] or last_strip):
                _flush(packer, word, addresses, written, counters, address)
    return 0


@njit
def _sum_valid(h, strip, acc):
    """Sum over valid positions and timesteps of a readout pass: (sum, visits, problem)."""
    last_strip = strip == h[_STRIPS] - 1
    positions = h[_POSL] if last_strip else h[_POS]
    count_oy = h[_COYL] if last_strip else h[_COY]
    total, visits = 0, 0
    for oy in range(count_oy):
        for ox in range(h[_COX]):
            visits += 1
            for lane in range(2 if h[_PAIR] else 1):
                q = oy * h[_IOY] + ox * h[_IOX] + lane
                if (q & h[_PITCHMASK]) < h[_ROWVALID] and q < positions:
                    if q >= acc.shape[0]:
                        return total, visits, 5
                    for t in range(4):
                        total += acc[q, t]
    return total, visits, 0


@njit
def run_engine(lanes, stream, start, rows, h, taps, planes, units, window, tile_words, addresses,
               written, counters, unit_updates, scores, tokens):
    """An engine's rows of one layer; returns (0 or a problem, the bit behind the last row).

    lanes: uint8 [map_words, window], not changed. stream, start, rows: weight memory, first word
    and number of rows. h, taps, planes: by HEADER, TAP and (offset, shift). Written words go to
    addresses [n] and written [n, window], events to counters and unit_updates [units]. scores,
    tokens: of the gate.
    """
    at = np.int64(start) * 32
    acc = np.zeros((tile_words * window, 4), np.int64)
    membranes = np.zeros(2 * tile_words * window, np.int64)
    word = np.zeros(window, np.uint8)
    packer = np.zeros(3, np.int64)
    channel, width = -1, h[_NEURONBITS]
    for _ in range(rows):
        channel = channel + 1 + _bits(stream, at, h[_CHANNELBITS])
        at += h[_CHANNELBITS]
        bias = _unfold(_bits(stream, at, width))
        threshold = _unfold(_bits(stream, at + width, width))
        codes = at + 2 * width
        total = threshold
        packer[:] = 0
        word[:] = 0
        for strip in range(h[_STRIPS]):
            last_strip = strip == h[_STRIPS] - 1
            nw = h[_SWL] if last_strip else h[_SW]
            positions = h[_POSL] if last_strip else h[_POS]
            membranes[:] = h[_VRESET]
            for group in range(h[_GROUPS]):
                acc[:] = 0
                tf = h[_STEP] * strip
                if h[_ATTENTION]:
                    at = codes
                    problem = _attend(lanes, channel, h, taps, planes, units, group, tf, nw,
                                      positions, acc, counters, unit_updates)
                else:
                    at, problem = _pass(lanes, stream, codes, h, taps, planes, units, group, tf,
                                        nw, positions, acc, counters, unit_updates)
                if at > 32 * stream.size:
                    problem = 11
                if problem:
                    return problem, at
                if h[_READOUT]:
                    part, visits, problem = _sum_valid(h, strip, acc)
                    total += part
                    counters[6] += visits
                else:
                    problem = _drain(h, strip, group, acc, membranes, bias, threshold, channel,
                                     packer, word, addresses, written, counters, window, scores,
                                     tokens)
                if problem:
                    return problem, at
        if h[_READOUT]:
            for n in range(min(8, window)):
                word[n] = (total >> 4 * n) & 15
            _flush(packer, word, addresses, written, counters,
                   h[_OBASE] + channel * h[_OCH])
        if counters[7] > addresses.shape[0]:
            return 4, at
    return 0, at

"""Header of a step in the program: `hw.program.HEADER`, as docs/core.md explains it."""

from __future__ import annotations

from hw import program
from hw.config import CoreConfig

from ..integer.network import LEAK_ONE
from .image import MapLayout
from .layout import Plan
from .steps import Step, ceil_div
from .sums import grows

ZERO = {program.plain(name): 0 for fields in program.HEADER for name, _ in fields}


def header_fields(plan: Plan, step: Step, config: CoreConfig) -> dict[str, int]:
    """Fields of a step; 0 for those of its taps, planes and stream, and for `last_layer`."""
    if step.kind == "gate":
        return ZERO | _gate(plan, step)
    fields = ZERO | _layer(plan, step, config) | _walk(plan, step, config)
    if step.kind == "select":
        fields |= {"listed": 1, "count_ox": step.width % 256}
    if step.kind == "attention":
        fields |= _attention(plan, step)
    if step.onto:
        fields |= _sum(plan, step)
    return fields


def _layer(plan: Plan, step: Step, config: CoreConfig) -> dict[str, int]:
    """Neuron, timesteps and place of the output."""
    neuron, layout = step.layer.neuron, _output(plan, step)
    planes = plan.bits_a_mask(step) > 1
    fields = {
        "readout": int(neuron is None), "leak": neuron.leak if neuron else LEAK_ONE,
        "soft_reset": int(neuron is not None and neuron.reset == "soft"),
        "v_reset": neuron.v_reset if neuron else 0,
        "n_groups": plan.groups, "last_mask": (1 << (plan.network.timesteps - 1) % 4 + 1) - 1,
        "score": int(step.score), "score_clear": int(step.score_clear), "bit_planes": int(planes),
        "out_base": layout.base if layout else plan.results,
        "out_channel_stride": layout.channel_words if layout else 1,
        "out_pitch": layout.pitch if layout else 1,
    }
    if layout is not None and flushes(plan, step, config):
        fields |= {"flush_strip": 1, "out_group_stride": layout.copy_words,
                   "out_phase_stride": layout.phase_words}
    return fields


def strip_rows(step: Step, config: CoreConfig) -> int:
    """Output rows of every phase in a strip that is not the last one, 0 if there is none."""
    if step.strips == 1:
        return 0
    return step.strip_step * config.window // (step.pitch * step.row_unit)


def flushes(plan: Plan, step: Step, config: CoreConfig) -> bool:
    """Whether every strip begins a map word: then a drain may serve another engine in between."""
    layout = _output(plan, step)
    whole = strip_rows(step, config) * layout.pitch % config.window == 0
    return plan.groups > 1 or layout.factor > 1 or (step.strips > 1 and whole)


def _walk(plan: Plan, step: Step, config: CoreConfig) -> dict[str, int]:
    """Strips and the drain's walk."""
    window, pitch, walk, k = config.window, step.pitch, step.walk, step.pool_size
    layout = _output(plan, step)
    factor, out_pitch = (layout.factor, layout.pitch) if layout else (1, 1)
    out_rows, (rows, columns) = ceil_div(step.height, factor), step.accumulated
    # accumulator rows that the strips before have
    rows_of_strip = strip_rows(step, config)
    rows_before = (step.strips - 1) * rows_of_strip * step.row_unit
    positions_last = (rows - rows_before - 1) * pitch + columns
    largest = step.pool is not None and step.pool.mode == "max"
    paired = (config.lanes == 2 and walk == 1 and pitch >= 2 and not largest
              and step.layer.neuron is not None and step.kind != "select")
    merge = paired and k % 2 == 0
    half = paired and k == 1 and factor == 1 and out_pitch >= 2     # two outputs at a time
    stride = step.pool.stride[0] if step.pool else 1
    counts = {
        "count_kx": k // 2 if merge else k, "count_ky": k, "count_px": factor, "count_py": factor,
        "count_ox": ceil_div(step.width, 2 if half else factor),
        "count_oy": rows_of_strip if step.strips > 1 else out_rows,
    }
    increments = {
        "inc_kx": 2 if merge else walk, "inc_ky": walk * pitch,
        "inc_px": stride * walk, "inc_py": stride * walk * pitch,
        "inc_ox": 2 if half else step.row_unit, "inc_oy": step.row_unit * pitch,
    }
    for name in increments:                                 # an increment that is never taken
        if counts[name.replace("inc", "count")] == 1 or step.kind == "select":
            increments[name] = 0
    positions = step.strip_step * window + step.overlaps * columns
    return {
        "pool_max": int(largest), "pool_overlap": int(step.overlaps),
        "pair": int(merge or half), "pair_merge": int(merge),
        "row_words_mask": max(1, pitch // window) - 1, "n_strips": step.strips,
        "strip_words": step.strip_words, "strip_words_last": step.last_words(window),
        "strip_step": step.strip_step,
        "positions": positions if step.strips > 1 else positions_last,
        "positions_last": positions_last, "pitch_mask": pitch - 1, "row_valid": columns,
        "count_oy_last": out_rows - (step.strips - 1) * rows_of_strip, **counts,
        **program.walk_steps(counts, increments),
        "strip_out_words": ceil_div(counts["count_oy"] * out_pitch, window)
        if layout is not None and flushes(plan, step, config) else 0,
    }


def _attention(plan: Plan, step: Step) -> dict[str, int]:
    key, value = (plan.layouts[version] for version in step.keys)
    return {"attention": 1, "key": key.base, "value": value.base, "key_words": key.channel_words,
            "key_group_stride": key.copy_words,
            "head_width": int((step.uses[0].weight[0] != 0).sum())}


def _sum(plan: Plan, step: Step) -> dict[str, int]:
    """Fields of attention, which a summand does without: planes of the sum that it makes, words
    from one to the next, and whether the last one has not been written before."""
    layout = plan.layouts[step.output]
    return {"head_width": layout.planes, "key": layout.plane_words,
            "key_words": int(grows(len(step.onto) + 1))}


def _gate(plan: Plan, step: Step) -> dict[str, int]:
    """A layer without rows: it waits for the gate, which fills its list."""
    gate, (rows, columns), network = step.gate, step.conv, plan.network
    bits = 1
    if gate.mode == "count":
        bits = gate.score_bound(network.input, network.shapes(), network.timesteps).bit_length()
    ones = {f"count_{axis}": 1 for axis in ("kx", "ky", "ox", "oy", "px", "py")}
    return ones | {
        "count_oy_last": 1, "gate": 1, "gate_host": int(gate.mode != "count"),
        "n_groups": 1, "n_strips": 1, "leak": LEAK_ONE, "last_mask": 1,
        "strip_words": bits, "strip_words_last": 1, "strip_step": 1,
        "positions": (rows - 1) * step.pitch + columns, "positions_last": 1,
        "pitch_mask": step.pitch - 1, "row_valid": columns, "out_pitch": gate.keep,
    }


def _output(plan: Plan, step: Step) -> MapLayout | None:
    return plan.layouts[step.output] if step.output else None

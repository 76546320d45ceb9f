"""All mutations of `sim.mutate`: those of the units, which lie beside them (`sim.units`), and here
those of the compiler, the references and the host."""

from __future__ import annotations

from .units import collected
from .wrong_lines import Mutation, bad

_FORMAT = ("tests/test_packing.py",)

RICE = bad(
    "sw/compile/rice.py",
    ("stored = (values < 0)", "stored = (values > 0)", "signs of 1-bit weights swapped"),
    ("mark = np.cumsum(lengths) - lengths + skips",
     "mark = np.cumsum(lengths) - lengths", "skip bits after their weight"),
    ("np.diff(rows, prepend=-1) - 1", "np.diff(rows, prepend=0)", "rows a channel too high"),
    ("else -2 * value - 1", "else -2 * value + 1", "negative biases one too low"),
    ("bits[mark + 1 + width + n] = gaps >> n & 1", "bits[mark + 1 + width + n] = gaps & 1",
     "bits of the gap"))

TAPS = bad(
    "sw/compile/taps.py",
    ("lanes[m * units + (u + shift) % units]", "lanes[m * units + u]",
     "mask bits in lane order"),
    ("sy, ry = divmod((dy - use.padding)", "sy, ry = divmod((dy - use.padding + 1)",
     "kernel one row too low"),
    ("sy -= first_row", "sy -= 0", "overlapping pools one row too high"))

ASSEMBLE = bad(
    "sw/compile/assemble.py",
    ("bit * layout.bits_a_mask + shift)", "bit + shift)", "the upper bit-planes count an eighth"),
    ("tap.phase * layouts[0].phase_words", "tap.phase", "phases a word apart"),
    ("+ layout.copy_of_group[group] * layout.copy_words", "", "groups read the first copy"))

LARGE = (
    *bad("sw/compile/counts.py",
         ("np.full(channels, 1 << bit)", "np.full(channels, 2 << bit)", "bits count twice"),
         ("for n in range(bit + 1, len(names))]", "for n in range(bit + 2, len(names))]",
          "the bit above is counted again"),
         tests=("tests/test_large_networks.py::test_an_average_is_counted_first",)),
    *bad("sw/compile/digits.py",
         ("parts.append((replace(syn, weight=digit), shift))",
          "parts.append((replace(syn, weight=digit), 0))", "digits that all count once"),
         ("astype(np.int8) * sign", "astype(np.int8)", "digits without their sign"),
         tests=("tests/test_large_networks.py::test_digits",)))

BOUNDS = bad(
    "sw/compile/bounds.py",
    ('layer.pool.mode != "max"', 'layer.pool.mode != "or"',
     "bit-planes where a maximum comes first"))

STEPS = bad(
    "sw/compile/steps.py",
    ("for version in use.versions), *self.keys]", "for version in use.versions)]",
     "k and v are overwritten before attention reads them"))

TOKENS = bad(
    "sw/compile/tokens.py",
    ("score_clear=n == scored[0]", "score_clear=n == scored[-1]",
     "scores are cleared between two maps"))

IMAGE_GATE = bad(
    "sw/compile/image_gate.py",
    ("return row * self.pitch + column", "return row * self.grid[1] + column",
     "masks by token, not by flat position"),
    ("return array, self.words(mask)", "return array, self.words(~mask)",
     "the host keeps what is to be dropped"))

HEADER = bad(
    "sw/compile/header.py",
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
     "the gate leaves out the end of its last row"))

LAYOUT = bad(
    "sw/compile/layout.py",
    ("if items[n][1] <= dies and born <= items[n][2]",
     "if items[n][1] < dies and born < items[n][2]",
     "a layer's output may overwrite its input"))

REFERENCE = bad(
    "sw/integer/reference.py",
    ("s = v >= theta", "s = v > theta", "fires only above the threshold"),
    ("v >>= 8 ", "v += 128; v >>= 8 ", "leak rounds to nearest"),
    ("if neuron.reset == \"hard\" else", "if neuron.reset == \"soft\" else",
     "soft and hard reset swapped"),
    ("v = np.full(current.shape[1:], neuron.v_reset, np.int64)",
     "v = np.zeros(current.shape[1:], np.int64)", "membranes start from 0"),
    ("axis=(0, 3, 4)) * repeats", "axis=(0, 3, 4))", "readout of one timestep"))

MACHINE_KERNEL = bad(
    "sw/core/machine_kernel.py",
    ("if v >= threshold:", "if v > threshold:", "fires only above the threshold"),
    ("((h[_LEAK] * v) >> 8)", "((h[_LEAK] * v + 128) >> 8)", "leak rounds to nearest"),
    ("masks[out] |= fired", "masks[out] = fired", "the pool's last visit instead of the OR"))

PACKING = bad(
    "sw/board/packing.py",
    ("before + room - 3", "before + room + 4", "a frame longer than was asked for"),
    tests=_FORMAT)

BYTE_KERNELS = bad(
    "sw/board/byte_kernels.py",
    ("data[at] = last - group - 1", "data[at] = last - group", "a silent group too many"),
    ("last - group < _RUN", "last - group <= _RUN", "a run that no count can tell"),
    ("return found if found else 15", "return found", "silence has no common mask"),
    ("data[half] |= value << 4", "data[half] = value << 4", "half of the masks are lost"),
    tests=_FORMAT)

MUTATIONS: tuple[Mutation, ...] = (
    *collected("MUTATIONS"), *RICE, *TAPS, *ASSEMBLE, *LARGE, *BOUNDS, *STEPS, *TOKENS, *IMAGE_GATE,
    *HEADER, *LAYOUT, *REFERENCE, *MACHINE_KERNEL, *PACKING, *BYTE_KERNELS)

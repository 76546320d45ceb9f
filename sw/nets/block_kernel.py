"""The loops of `sw.nets.fused_block`, in numba: batch norm, neurons over all T and pool, in pieces
that a core's cache holds. Membranes are not kept: backward computes them again.

Maps are [T, N] with N = images * height * width * channels, channels last; bfloat16 is passed as
the uint16 that holds its bits, and computed in float32.
"""

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import overload

from ..core.jit import njit
from . import neuron_kernel

PIECE = 8192
"""Numbers of one timestep that are worked on at a time, about."""

TOGETHER = 512
"""Numbers that sums are kept of at a time, about, so that rows of few channels are added up in
vector instructions, too."""

NO_POOL, OR, MEAN = range(3)
"""Pools behind the neurons, of 2x2 spikes that do not overlap; an odd last row or column is left
out."""


def _load(source, into):
    """Copy numbers or the bits of bfloat16 into floats."""


@overload(_load)
def _load_of(source, into):
    if not isinstance(source.dtype, types.Integer):
        def floats(source, into):
            for i in range(len(into)):
                into[i] = source[i]
        return floats

    def bits(source, into):
        wide = into.view(np.uint32)
        for i in range(len(into)):
            wide[i] = np.uint32(source[i]) << np.uint32(16)
    return bits


def _store(source, into):
    """Copy floats to numbers, or to the bits of the nearest bfloat16 (ties: the even one)."""


@overload(_store)
def _store_of(source, into):
    if not isinstance(into.dtype, types.Integer):
        def floats(source, into):
            for i in range(len(source)):
                into[i] = source[i]
        return floats

    def bits(source, into):
        wide = source.view(np.uint32)
        for i in range(len(source)):
            even = np.uint32(0x7FFF) + ((wide[i] >> np.uint32(16)) & np.uint32(1))
            into[i] = np.uint16((wide[i] + even) >> np.uint32(16))
    return bits


@njit
def statistics(x, mean, squares, like):
    """Of x [rows * C] into mean [C] and the sum of squared deviations [C], float64. like: any array
    of the type that is computed in. Pieces are merged by Chan's formula."""
    channels = len(mean)
    most = max(1, PIECE // channels) * channels
    space, wide = np.empty(most, like.dtype), np.empty(most, like.dtype)
    middle = np.empty(channels, like.dtype)
    total, square = np.zeros(channels), np.zeros(channels)
    for start in range(0, len(x), most):
        part = space[:min(most, len(x) - start)]
        count, before = len(part) // channels, start // channels
        _load(x[start:start + len(part)], part)
        total[:] = 0
        _add_up(part, total)
        total /= count
        middle[:] = total
        _repeat(middle, wide)
        _square(part, wide)
        square[:] = 0
        _add_up(part, square)
        for c in range(channels):
            rounded, ahead = total[c] - middle[c], total[c] - mean[c]
            mean[c] += ahead * count / (before + count)
            squares[c] += (square[c] - rounded * rounded * count
                           + ahead * ahead * (before * count / (before + count)))


@njit
def forward(x, scale, shift, spikes, grid, pool, rule):
    """From x [T or 1, N] to the pooled spikes [T, N'] of neurons that begin at rest.

    scale, shift: of the batch norm, [C]. grid: images, height, width. rule: leaky, tau,
    decay_input, theta, soft, reset (`neuron_kernel.forward`).
    """
    images, height, width = grid
    channels, steps = len(scale), len(spikes)
    line = width * channels
    most = _lines(line, height)
    scale, shift = _repeated(scale, most * line), _repeated(shift, most * line)
    spaces, rest = np.empty((3, steps * most * line), scale.dtype), np.empty_like(scale)
    pooled = np.empty((most // 2) * (width // 2) * channels, scale.dtype)
    for image in range(images):
        for top in range(0, height, most):
            lines = min(most, height - top)
            count, at = lines * line, (image * height + top) * line
            current, h, s = (_part(spaces[0], steps, count), _part(spaces[1], steps, count),
                             _part(spaces[2], steps, count))
            _charge(x, at, scale, shift, current, rest[:count], h, s, rule)
            for t in range(steps):
                if pool == NO_POOL:
                    _store(s[t], spikes[t, at:at + count])
                else:
                    made = pooled[:(lines // 2) * (width // 2) * channels]
                    _pool(s[t], made, width, channels, pool == MEAN)
                    to = (image * (height // 2) + top // 2) * (width // 2) * channels
                    _store(made, spikes[t, to:to + len(made)])


@njit
def backward(x, scale, shift, mean, grad, given, sums, grid, pool, rule, rule_back):
    """From the gradients of the pooled spikes, `grad` [T, N'], to those of the currents, into
    `given` [T or 1, N], and their sums over rows into sums [2, C], float64: plain, and times
    x - mean.

    rule_back: keep, gain, detach, kind, alpha (`neuron_kernel.backward`).
    """
    images, height, width = grid
    channels, steps = len(scale), len(grad)
    line = width * channels
    most = _lines(line, height)
    scale, shift = _repeated(scale, most * line), _repeated(shift, most * line)
    mean = _repeated(mean, most * line)
    spaces, rest = np.empty((4, steps * most * line), scale.dtype), np.empty_like(scale)
    pooled = np.empty((most // 2) * (width // 2) * channels, scale.dtype)
    keep, gain, detach, kind, alpha = rule_back
    theta, soft, reset = rule[3], rule[4], rule[5]
    for image in range(images):
        for top in range(0, height, most):
            lines = min(most, height - top)
            count, at = lines * line, (image * height + top) * line
            current, h = _part(spaces[0], steps, count), _part(spaces[1], steps, count)
            s, g = _part(spaces[2], steps, count), _part(spaces[3], steps, count)
            last = rest[:count]
            _charge(x, at, scale, shift, current, last, h, s, rule)
            for t in range(steps):
                if pool == NO_POOL:
                    _load(grad[t, at:at + count], g[t])
                else:
                    made = pooled[:(lines // 2) * (width // 2) * channels]
                    to = (image * (height // 2) + top // 2) * (width // 2) * channels
                    _load(grad[t, to:to + len(made)], made)
                    _unpool(s[t], made, g[t], width, channels, pool == MEAN)
            last[:] = 0
            neuron_kernel.backward(g, h, s, h, last, current, keep, gain, theta, soft, reset,
                                   detach, kind, alpha)
            for t in range(steps - 1, len(x) - 1, -1):      # the same current at every timestep
                _add(current[t], current[0])
            for t in range(len(x)):
                _store(current[t], given[t, at:at + count])
                _add_up(current[t], sums[0])
                _load(x[t, at:at + count], h[t])
                _centre(h[t], mean, current[t])
                _add_up(h[t], sums[1])


@njit
def combine(x, given, of_x, of_given, plus):
    """given <- of_given * given + of_x * x + plus, the factors by channel, all [rows * C]."""
    channels = len(plus)
    most = max(1, PIECE // channels) * channels
    of_x, of_given, plus = _repeated(of_x, most), _repeated(of_given, most), _repeated(plus, most)
    a, b = np.empty_like(plus), np.empty_like(plus)
    for start in range(0, len(x), most):
        count = min(most, len(x) - start)
        _load(x[start:start + count], a[:count])
        _load(given[start:start + count], b[:count])
        for i in range(count):
            b[i] = of_given[i] * b[i] + of_x[i] * a[i] + plus[i]
        _store(b[:count], given[start:start + count])


@njit
def _charge(x, at, scale, shift, current, v, h, s, rule):
    """Of a piece that begins at `at`: currents scale * x + shift, membranes h and spikes s; v is
    anything, and then the last membranes."""
    count = len(v)
    for t in range(len(x)):
        _load(x[t, at:at + count], current[t])
        _affine(current[t], scale, shift)
    for t in range(len(x), len(h)):
        current[t, :] = current[0]
    leaky, tau, decay_input, theta, soft, reset = rule
    v[:] = reset
    neuron_kernel.forward(current, v, h, s, leaky, tau, decay_input, theta, soft, reset)


@njit
def _affine(x, scale, shift):
    for i in range(len(x)):
        x[i] = x[i] * scale[i] + shift[i]


@njit
def _centre(x, mean, factor):
    for i in range(len(x)):
        x[i] = (x[i] - mean[i]) * factor[i]


@njit
def _square(x, mean):
    for i in range(len(x)):
        x[i] = (x[i] - mean[i]) * (x[i] - mean[i])


@njit
def _add(x, into):
    for i in range(len(into)):
        into[i] += x[i]


@njit
def _add_up(x, sums):
    """Add the rows of x [rows * C] to sums [C], float64."""
    channels = len(sums)
    width = max(1, TOGETHER // channels) * channels
    part = np.zeros(width, x.dtype)
    for start in range(0, len(x), width):
        _add(x[start:start + width], part[:min(width, len(x) - start)])
    for start in range(0, width, channels):
        _add(part[start:start + channels], sums)


@njit
def _repeated(values, count):
    """[C] again and again, `count` numbers long."""
    made = np.empty(count, values.dtype)
    _repeat(values, made)
    return made


@njit
def _repeat(values, into):
    for start in range(0, len(into), len(values)):
        _copy(values, into[start:start + len(values)])


@njit
def _copy(x, into):
    for i in range(len(into)):
        into[i] = x[i]


@njit
def _part(space, steps, count):
    """[T, count] at the beginning of a space."""
    return space[:steps * count].reshape(steps, count)


@njit
def _lines(line, height):
    """Rows of a map that are worked on at a time: an even number, or all."""
    return min(height, max(2, PIECE // line // 2 * 2))


@njit
def _pool(s, made, width, channels, mean):
    """Spikes s of some rows of a map into those of half as many."""
    columns = width // 2
    for to in range(len(made) // channels):
        at = (to // columns * 2 * width + to % columns * 2) * channels
        _pool_one(s[at:at + channels], s[at + channels:at + 2 * channels],
                  s[at + width * channels:at + (width + 1) * channels],
                  s[at + (width + 1) * channels:at + (width + 2) * channels],
                  made[to * channels:(to + 1) * channels], mean)


@njit
def _pool_one(a, b, c, d, made, mean):
    quarter, one = made.dtype.type(0.25), made.dtype.type(1)
    if mean:
        for i in range(len(made)):
            made[i] = (a[i] + b[i] + c[i] + d[i]) * quarter
    else:
        for i in range(len(made)):
            made[i] = min(a[i] + b[i] + c[i] + d[i], one)


@njit
def _unpool(s, made, g, width, channels, mean):
    """The gradient of pooled spikes to the spikes: a mean's to all four, a maximum's to the first
    that is largest, as torch has it."""
    columns = width // 2
    if len(made) * 4 != len(g):
        g[:] = 0
    for to in range(len(made) // channels):
        at = (to // columns * 2 * width + to % columns * 2) * channels
        below, d = at + width * channels, made[to * channels:(to + 1) * channels]
        if mean:
            for start in (at, at + channels, below, below + channels):
                _scale(d, g[start:start + channels])
            continue
        _unpool_one(s[at:at + channels], s[at + channels:at + 2 * channels],
                    s[below:below + channels], s[below + channels:below + 2 * channels], d,
                    g[at:at + channels], g[at + channels:at + 2 * channels],
                    g[below:below + channels], g[below + channels:below + 2 * channels])


@njit
def _scale(d, g):
    for i in range(len(g)):
        g[i] = d[i] * d.dtype.type(0.25)


@njit
def _unpool_one(a, b, c, d, made, of_a, of_b, of_c, of_d):
    """To b where a does not spike, to c where neither does, and so on; to a where none does."""
    one = made.dtype.type(1)
    for i in range(len(made)):
        g = made[i]
        rest = g - a[i] * g
        of_b[i] = rest * b[i]
        rest -= of_b[i]
        of_c[i] = rest * c[i]
        rest -= of_c[i]
        of_d[i] = rest * d[i]
        of_a[i] = a[i] * g + rest * (one - d[i])

"""The loops of `sw.nets.neurons`, in numba: neurons in blocks that a core's cache holds, each block
through all timesteps. Arrays are [T, N], in any one order of the N neurons of a layer. Each loop
runs over plain rows of numbers, or it would not become vector instructions.
"""

from __future__ import annotations

import numpy as np

from ..core.jit import njit

BLOCK = 4096
TRIANGLE, ATAN, GIVEN = range(3)
"""Derivatives of surrogates at u = h - theta: alpha - alpha^2 |u|, not below 0;
alpha / 2 / (1 + (pi alpha u / 2)^2); one that is given as an array."""


@njit
def forward(x, v, h, s, leaky, tau, decay_input, theta, soft, reset):
    """From currents x and membranes v [N], which become those at the end, to the charged membranes
    h and the spikes s. The order of the operations is SpikingJelly's."""
    steps, count = h.shape
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        for t in range(steps):
            _charge(x[t, start:stop], v[start:stop], h[t, start:stop], leaky, tau, decay_input,
                    reset)
            _fire(h[t, start:stop], s[t, start:stop], v[start:stop], theta, soft, reset)


@njit
def _charge(x, v, h, leaky, tau, decay_input, reset):
    if not leaky:
        for i in range(len(h)):
            h[i] = v[i] + x[i]
    elif decay_input:
        for i in range(len(h)):
            h[i] = v[i] + (x[i] - (v[i] - reset)) / tau
    else:
        for i in range(len(h)):
            h[i] = v[i] - (v[i] - reset) / tau + x[i]


@njit
def _fire(h, s, v, theta, soft, reset):
    one, zero = h.dtype.type(1), h.dtype.type(0)
    if soft:
        for i in range(len(h)):
            s[i] = one if h[i] >= theta else zero
            v[i] = h[i] - theta if h[i] >= theta else h[i]
    else:
        for i in range(len(h)):
            s[i] = one if h[i] >= theta else zero
            v[i] = reset if h[i] >= theta else h[i]


@njit
def backward(grad, h, s, d, after, current, keep, gain, theta, soft, reset, detach, kind, alpha):
    """From the gradients of the spikes, `grad`, and of the last membranes, `after` [N], to those of
    the currents and, in `after`, of the first membranes. d: the surrogate's derivative where it is
    `GIVEN`. gain: of the currents."""
    steps, count = h.shape
    g = np.empty(min(BLOCK, count), h.dtype)
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        part = g[:stop - start]
        for t in range(steps - 1, -1, -1):
            part[:] = grad[t, start:stop]
            if not detach:
                _of_reset(part, h[t, start:stop], after[start:stop], theta, soft, reset)
            _slope(part, h[t, start:stop], d[t, start:stop], theta, kind, alpha)
            _discharge(part, s[t, start:stop], after[start:stop], current[t, start:stop], keep,
                       gain, soft)


@njit
def _of_reset(g, h, after, theta, soft, reset):
    if soft:
        for i in range(len(g)):
            g[i] -= after[i] * theta
    else:
        for i in range(len(g)):
            g[i] += after[i] * (reset - h[i])


@njit
def _slope(g, h, d, theta, kind, alpha):
    one, zero = h.dtype.type(1), h.dtype.type(0)
    if kind == TRIANGLE:
        for i in range(len(g)):
            height = alpha - alpha * alpha * abs(h[i] - theta)
            g[i] *= height if height > zero else zero
    elif kind == ATAN:
        slope, half = h.dtype.type(np.pi / 2) * alpha, h.dtype.type(0.5) * alpha
        for i in range(len(g)):
            u = slope * (h[i] - theta)
            g[i] *= half / (one + u * u)
    else:
        for i in range(len(g)):
            g[i] *= d[i]


@njit
def _discharge(g, s, after, current, keep, gain, soft):
    one = s.dtype.type(1)
    for i in range(len(g)):
        dh = g[i] + (after[i] if soft else after[i] * (one - s[i]))
        current[i] = dh * gain
        after[i] = dh * keep

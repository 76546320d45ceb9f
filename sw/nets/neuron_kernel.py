"""The loops of `sw.nets.neurons`, in numba: neurons in blocks that a core's cache holds, each block
through all timesteps. Arrays are [T, N], in any one order of the N neurons of a layer."""

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
            if not leaky:
                for i in range(start, stop):
                    h[t, i] = v[i] + x[t, i]
            elif decay_input:
                for i in range(start, stop):
                    h[t, i] = v[i] + (x[t, i] - (v[i] - reset)) / tau
            else:
                for i in range(start, stop):
                    h[t, i] = v[i] - (v[i] - reset) / tau + x[t, i]
            if soft:
                for i in range(start, stop):
                    fired = h[t, i] >= theta
                    s[t, i] = fired
                    v[i] = h[t, i] - theta if fired else h[t, i]
            else:
                for i in range(start, stop):
                    fired = h[t, i] >= theta
                    s[t, i] = fired
                    v[i] = reset if fired else h[t, i]


@njit
def backward(grad, h, s, d, after, current, keep, gain, theta, soft, reset, detach, kind, alpha):
    """From the gradients of the spikes, `grad`, and of the last membranes, `after` [N], to those of
    the currents and, in `after`, of the first membranes. d: the surrogate's derivative where it is
    `GIVEN`. gain: of the currents."""
    steps, count = h.shape
    g = np.empty(BLOCK, h.dtype)
    one, half = h.dtype.type(1), h.dtype.type(0.5)
    slope = h.dtype.type(np.pi / 2) * alpha
    for start in range(0, count, BLOCK):
        stop = min(start + BLOCK, count)
        for t in range(steps - 1, -1, -1):
            for i in range(start, stop):
                g[i - start] = grad[t, i]
            if not detach:
                for i in range(start, stop):
                    g[i - start] += after[i] * (-theta if soft else reset - h[t, i])
            if kind == TRIANGLE:
                for i in range(start, stop):
                    height = alpha - alpha * alpha * abs(h[t, i] - theta)
                    g[i - start] *= height if height > 0 else one - one
            elif kind == ATAN:
                for i in range(start, stop):
                    u = slope * (h[t, i] - theta)
                    g[i - start] *= half * alpha / (one + u * u)
            else:
                for i in range(start, stop):
                    g[i - start] *= d[t, i]
            for i in range(start, stop):
                dh = g[i - start] + (after[i] if soft else after[i] * (one - s[t, i]))
                current[t, i] = dh * gain
                after[i] = dh * keep

"""Pictures inside the page: PNG data URLs of inputs, patches and spikes; SVG paths of rasters."""

from __future__ import annotations

import base64
import io

import numpy as np

from ..plots.run import picture

SPIKE = (42, 120, 214)
"""Colour of a spike in a PNG: legible on a light and on a dark page."""

DROPPED = (18, 104, 92, 225)
"""What covers a patch that the gate left out: a colour that neither grey images nor ON and OFF
events have."""

RASTER_ROWS = 48
"""Neurons of a map in its raster, evenly spaced over all of them."""

RASTER_STEPS = 160
"""Timesteps in a raster, of as many whole images as they hold."""


def png(pixels: np.ndarray) -> str:
    """Data URL of uint8 [H, W] (grey), [H, W, 3] or [H, W, 4]."""
    from PIL import Image
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def of_input(array: np.ndarray, bits: int) -> str:
    """An input of a network, as `sw.plots.run.picture` shows it."""
    found = picture(array, bits)
    if found.dtype != np.uint8:
        found = np.rint(255 * found / max(1.0, float(found.max()))).astype(np.uint8)
    return png(found)


def of_patches(grid: tuple[int, int], kept: np.ndarray) -> str:
    """A cover for an input: transparent where a token is kept. kept: indices, int [keep]."""
    cover = np.empty((grid[0] * grid[1], 4), np.uint8)
    cover[:] = DROPPED
    cover[kept] = 0
    return png(cover.reshape(*grid, 4))


def of_spikes(spikes: np.ndarray) -> str:
    """One timestep of a map, uint8 [C, H, W]: channels side by side, or where a channel is one row,
    one below the other."""
    channels, height, width = spikes.shape
    gap = int(height > 1)
    columns = 1 if height == 1 < width else int(np.ceil(np.sqrt(
        channels * (height + gap) / (width + gap))))
    rows = -(-channels // columns)
    shown = np.zeros((rows * columns, height + gap, width + gap, 4), np.uint8)
    if gap:
        shown[:channels, -1, :, :] = shown[:channels, :, -1, :] = (128, 128, 128, 48)
    shown[:channels, :height, :width][spikes != 0] = (*SPIKE, 255)
    tiles = shown.reshape(rows, columns, height + gap, width + gap, 4).swapaxes(1, 2)
    whole = tiles.reshape(rows * (height + gap), columns * (width + gap), 4)
    return png(whole[:len(whole) - gap, :whole.shape[1] - gap])


def raster(traces: list[np.ndarray]) -> dict:
    """Spikes of RASTER_ROWS neurons over the timesteps of some images, each uint8 [T, C, H, W].

    Returns width (timesteps), height (neurons), path (SVG, one rectangle a spike), marks (where an
    image begins) and neurons (how many the map has).
    """
    timesteps = len(traces[0])
    traces = traces[:max(1, RASTER_STEPS // timesteps)]
    flat = np.concatenate([t.reshape(timesteps, -1) for t in traces])
    count = flat.shape[1]
    chosen = np.linspace(0, count - 1, min(RASTER_ROWS, count)).round().astype(int)
    rows, steps = np.nonzero(flat[:, chosen].T)
    path = "".join(f"M{x} {y}h.86v.8h-.86z" for x, y in zip(steps, rows, strict=True))
    return {"width": len(flat), "height": len(chosen), "path": path, "neurons": count,
            "marks": list(range(timesteps, len(flat), timesteps))}

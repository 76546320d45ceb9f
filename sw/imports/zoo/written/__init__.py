"""Networks written the ways people write them, a family a file; see each file's text."""

from __future__ import annotations

from ..entry import Entry
from . import (
    ann_conversion,
    csnn,
    dense,
    events,
    graphs,
    long_wide,
    mobile,
    ms_resnet,
    normalised,
    plif_net,
    qkformer,
    sew_gesture,
    spike_driven,
    spikformer,
    spikingformer,
    ten_lines,
    tet_vgg,
    wrapped,
)

FAMILIES = (spikformer, spikingformer, qkformer, spike_driven, sew_gesture, ms_resnet, tet_vgg,
            plif_net, csnn, events, ten_lines, ann_conversion, mobile, dense, normalised,
            long_wide, wrapped, graphs)


def entries() -> list[Entry]:
    """Every written network, family by family."""
    return [entry for family in FAMILIES for entry in family.ENTRIES]

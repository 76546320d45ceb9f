"""What the compiler's passes took and made, in numbers (`spiketicket plan --passes`)."""

from __future__ import annotations

from hw.config import CoreConfig

from ..errors import SpikeTicketError
from ..integer.network import Network
from .assemble import Activity
from .compiler import Variant, run_passes
from .steps import COUNT, EXPAND, PHASES, WALK

WAYS = {PHASES: "phases", WALK: "walk", EXPAND: "expand", COUNT: "count"}

SHOWN = 12
"""Variants that are printed."""


def describe(network: Network, config: CoreConfig, activity: Activity | None = None) -> dict:
    """Every pass with what goes in and what comes out, and the variants tried, best first;
    JSON-serialisable. Raises as `compile_network` does."""
    passes = run_passes(network, config, activity)
    plan, assembly = passes.chosen.plan, passes.assembly
    steps, layouts = plan.steps, list(plan.layouts.values())
    taps = sum(len(use) for uses in plan.taps for use in uses)
    kept = {total.maps for total in passes.chosen.sums}
    sums = [{"maps": list(total.maps), "planes": total.planes, "kept": total.maps in kept,
             "refused": total.refused} for total in passes.sums] if config.sums else []
    lowered = {"steps": len(steps), "copies": sum(step.kind == "copy" for step in steps),
               "maps": len({layout.name for layout in layouts}), "arrangements": len(layouts),
               "sums": sums}
    arranged = {"strips": sum(step.strips for step in steps), "taps": taps,
                "pitches": sorted({layout.pitch for layout in layouts})}
    weights = [len(words) for words in assembly.weights]
    return {
        "network": network.name, "fits": True,
        "passes": [
            {"name": "lower", "in": {"layers": len(network.layers)}, "out": lowered},
            {"name": "arrange", "in": lowered, "out": arranged},
            {"name": "place", "in": {"arrangements": len(layouts), "words": sum(
                layout.words for layout in layouts if not layout.onto)},
             "out": {"words": plan.map_words, "available": config.map_words}},
            {"name": "encode", "in": {"weights": network.weights_surviving, "taps": taps},
             "out": {"program_words": len(assembly.program), "weight_words": weights,
                     "rice_k": sorted({layer.rice_k for layer in assembly.layers
                                       if layer.kind == "synapses"}),
                     "encoded": passes.encoded}}],
        "variants": [_variant(variant, variant is passes.chosen) for variant in sorted(
            passes.variants, key=lambda v: (v.plan is None, not v.fits_maps(config), v.cycles))]}


def _sum(total: dict) -> str:
    """A residual sum and how it is kept."""
    maps = f"  sum of {total['maps'][0]} and {len(total['maps']) - 1} more"
    if total["kept"]:
        return f"{maps}: {total['planes']} bit-planes"
    return f"{maps}: a list of maps, {total['refused'] or 'which is cheaper here'}"


def _variant(variant: Variant, chosen: bool) -> dict:
    found = {"ways": {name: WAYS[way] for name, way in variant.ways.items()}, "chosen": chosen,
             "sums": [list(total.maps) for total in variant.sums]}
    if variant.plan is None:
        return found | {"refused": str(variant.refused)}
    return found | {"estimated_cycles": round(variant.cycles),
                    "map_words": variant.plan.map_words}


def refused(network: Network, error: SpikeTicketError) -> dict:
    """The same of a network that does not fit, or that the core cannot do."""
    return {"network": network.name, "fits": False, "reason": str(error)}


def report(found: dict) -> str:
    """As text, on one screen."""
    if not found["fits"]:
        return found["reason"]
    lower, arrange, place, encode = found["passes"]
    out, low, high = arrange["out"], arrange["out"]["pitches"][0], arrange["out"]["pitches"][-1]
    made, k = encode["out"], encode["out"]["rice_k"]
    tries = "" if made["encoded"] == 1 else f", at try {made['encoded']}"
    codes = f", Rice k {k[0]} to {k[-1]}" if k else ""
    steps, words = lower["out"], place["out"]
    lowered = (f"{steps['steps']} steps ({steps['copies']} copies), {steps['maps']} maps in "
               f"{steps['arrangements']} arrangements")
    encoded = (f"{made['program_words']:,} program words, {sum(made['weight_words']):,} weight "
               f"words in {len(made['weight_words'])} memories{codes}{tries}")
    rows = [
        ("lower", f"{lower['in']['layers']} layers", lowered),
        ("arrange", f"{steps['steps']} steps",
         f"{out['strips']} strips, {out['taps']} taps, pitches {low} to {high}"),
        ("place", f"{place['in']['words']:,} words of maps",
         f"{words['words']:,} of {words['available']:,} words of the map memory"),
        ("encode", f"{encode['in']['weights']:,} weights", encoded)]
    lines = [f"{found['network']}: the compiler's passes",
             *(f"  {name:<8} {taken:>22}  ->  {given}" for name, taken, given in rows)]
    lines += [_sum(total) for total in steps["sums"]]
    variants = found["variants"]
    lines.append(f"  ways to read the maps, by estimated cycles ({len(variants)} tried):")
    for variant in variants[:SHOWN]:
        ways = ", ".join([*(f"{name} {way}" for name, way in variant["ways"].items()),
                          *(f"sum of {maps[0]} as bit-planes" for maps in variant["sums"])])
        said = variant.get("refused") or (f"{variant['estimated_cycles']:,} cycles, "
                                          f"{variant['map_words']:,} map words")
        lines.append(f"  {'*' if variant['chosen'] else ' '} {ways or 'all phases'}: {said}")
    if len(variants) > SHOWN:
        lines.append(f"    and {len(variants) - SHOWN} more (--json)")
    return "\n".join(lines)

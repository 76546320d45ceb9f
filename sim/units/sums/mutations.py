"""Wrong lines of the unit: the tests must notice `MUTATIONS` and the proofs `BUGS`."""

from sim.wrong_lines import bad, bug

_UNIT, _NETWORKS = ("tests/test_sums.py::test_adder",), ("tests/test_sums.py::test_software",)

MUTATIONS = (
    *bad("hw/sums.py",
         ("last[2] & layer.key_words[0]", "last[1] & layer.key_words[0]",
          "the plane before the new one counts as zero"),
         ("layer.head_width.any() & ~layer.attention", "layer.head_width.any()",
          "attention's words are added up"),
         ("self.word.data, held & carry", "self.word.data, held | carry", "carries of no pair"),
         ("left.eq(layer.head_width - 1)", "left.eq(layer.head_width)", "a plane too many"),
         ("writes | self.first & ~self.adds", "writes | self.first",
          "the summand is written over the sum first"),
         tests=_UNIT),
    *bad("sw/core/machine.py",
         ("held ^ carry, held & carry", "held | carry, held & carry", "planes are ORed"),
         ('"key_words"] and plane == planes - 1', '"key_words"] and plane == planes',
          "a new plane begins with what lay there"),
         tests=_NETWORKS),
    *bad("sw/compile/sums.py",
         ("return planes_of(summands) > planes_of(summands - 1)", "return summands == 2",
          "only the second plane is ever new"),
         ("if made[name] < index][-1]", "if made[name] < index][0]",
          "readers see the first summand's plane only"),
         tests=_NETWORKS),
    *bad("sw/compile/sums.py",
         ("if any(version.name in maps for version in step.reads) and not _of_first(step, maps):",
          "if False:", "a layer adds to the sum that it still reads"),
         tests=("tests/test_sums.py::test_refusals",)))

BUGS = (
    bug("sums.SumWriter/planes", "all_planes", "sums", "left.eq(layer.head_width - 1)",
        "left.eq(layer.head_width - 2)", "a plane too few", 20, quick=True),
    bug("sums.SumWriter/planes", "in_place", "sums", "address.eq(behind)",
        "address.eq(self.read_address)", "written a plane too high", 20),
    bug("sums.SumWriter/sum", "exact", "sums", "self.word.data, held & carry",
        "self.word.data, held | carry", "carries of no pair", 16),
)

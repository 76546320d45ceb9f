"""Wrong lines of the unit: the tests must notice `MUTATIONS`."""

from sim.wrong_lines import bad

_CONTROLLER = ("tests/test_sdram.py", "-k", "test_controller and 100")

MUTATIONS = bad(
    "hw/sdram.py",
    ("until_next.eq(cycles_of_it - 1)", "until_next.eq(0)", "commands come too early"),
    ("until_close.eq(t.ras - 1)", "until_close.eq(0)", "a row is closed too early"),
    ("until_close.eq(t.recovery - 1)", "until_close.eq(0)", "a row is closed while it is written"),
    ("m.d.sync += since.eq(0)", "pass", "refreshes without end"),
    ("Mux(waking, until_awake == 0, since == t.interval)", "since == t.interval",
     "a rest ends when the next refresh is due"),
    (" & ~coming.any()", "", "a word is written while another one comes from the chip"),
    ("((held.row != opened.row) | (held.bank != opened.bank))", "(held.row != opened.row)",
     "a row of another bank is taken for the open one"),
    ("Cat(lower, pins.data_in)", "Cat(pins.data_in, lower)", "halves of a word change places"),
    ("Mux(writes, ~port.wdata_we, ", "Mux(writes, 0, ", "bytes are written that should stay"),
    tests=_CONTROLLER) + bad(
    "hw/sdram_pads.py",
    ("(~pins.drive).replicate(HALF)", "Const(0, HALF)", "the data lines are always driven"),
    tests=_CONTROLLER) + bad(
    "sw/core/steps/sdram.py",
    ("reg[WAKING], reg[UNTIL_AWAKE] = 1, t.wake", "pass", "in the model a rest ends at once"),
    tests=_CONTROLLER)

"""Wrong lines of the unit: the tests must notice `MUTATIONS`."""

from sim.wrong_lines import bad

_BUFFER = ("tests/test_ddr3.py", "-k", "test_buffer and not litedram or late")
_BOARD = ("tests/test_ddr3_board.py", "-k", "not litedram")

MUTATIONS = bad(
    "hw/ddr3.py",
    ("(held | due) & soon", "held & soon", "of lines that give one word each, one is given twice"),
    ("(address.line != last)", "0", "another line's word is taken from the last one"),
    ("same.eq(~port.cmd_we)", "same.eq(1)", "a line is not read anew when it was written"),
    ("runs.eq(~due | arrived.r_rdy)", "runs.eq(1)", "a word that is late is lost"),
    ("& ~writing & (asked", "& (asked", "a command overtakes a word to write"),
    ("Mux(port.wdata_valid, port.wdata_we, 0)", "port.wdata_we",
     "a word that was given up is written"),
    tests=_BUFFER) + bad(
    "sw/board/ddr3.py",
    ("self.first + self.count // 2", "self.first + self.count", "a delay behind the window"),
    ("key=lambda one: one.count", "key=lambda one: one.slip", "the last window, not the longest"),
    ("same.all(axis=1).T", "same.any(axis=1).T", "one byte that is right is enough"),
    ("_pause(WAKE_S)", "_pause(0)", "CKE too early"),
    ("_pause(RESET_S)", "_pause(0)", "a reset that is too short"),
    ("[*delays, False]", "[*delays]", "a window that ends with the last delay is not seen"),
    tests=_BOARD)

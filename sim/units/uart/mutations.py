"""Wrong lines of the unit: the proofs must notice `BUGS`."""

from sim.wrong_lines import bug

BUGS = (
    bug("uart.UartSender/line", "not_taken_early", "uart", "(1 << 8)), left.eq(10)",
        "(1 << 8)), left.eq(9)",
        "no stop bit", 60),
    bug("uart.UartReceiver/resync", "waits", "uart",
        "time.eq(time - FRACTION + self.divisor), left.eq(left - 1)]",
        "time.eq(time - FRACTION + self.divisor), left.eq(left - (left != 1))]",
        "a byte never ends", 60),
)

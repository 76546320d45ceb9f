"""The serial line."""

from __future__ import annotations

from amaranth import Cat, Const, Signal

from hw.uart import FRACTION, UartReceiver, UartSender
from sim.formal.checkers import Order, assume_held, implies
from sim.formal.harness import Bench, proof


@proof("uart.UartSender/line", depth=3, reach=54, induction=True, scope="4 3/8 cycles a bit")
def uart_line(f: Bench):
    """A byte that is taken leaves as a start bit, its 8 bits, lowest first, and a stop bit, each
    of them for its bit time to within a cycle; no byte is taken before; an idle line is 1."""
    sender, divisor = UartSender(), 70
    inner = f.open("sender", sender)
    f.m.d.comb += sender.divisor.eq(divisor)
    assume_held(f, sender.i)
    taken = sender.i.valid & sender.i.ready
    # Sixteenths of a cycle since the byte was taken, until its stop bit has ended.
    age, busy, byte = Signal(12), Signal(), Signal(8)
    with f.m.If(taken):
        f.m.d.sync += [age.eq(16), busy.eq(1), byte.eq(sender.i.payload)]
    with f.m.Elif(busy):
        f.m.d.sync += [age.eq(age + 16), busy.eq(age + 16 < 10 * divisor + 16)]
    bits = Cat(Const(0, 1), byte, Const(1, 1))
    f.claim("idle_is_high", implies(~busy, sender.tx))
    for n in range(10):
        # `age` at the end of the cycle; a cycle at either edge belongs to no bit.
        inside = (age >= n * divisor + 32) & (age < (n + 1) * divisor)
        f.claim(f"bit{n}", implies(busy & inside, sender.tx == bits[n]))
    f.claim("not_taken_early", implies(taken & busy, age + 16 >= 10 * divisor))
    # Lemmas: where the sender is in the byte.
    left, whole = inner["left"], Cat(bits, Const(-1, 10))
    phase = Signal(24)       # time since the bit began
    f.m.d.comb += phase.eq(divisor - FRACTION - 1 - inner["time"])
    number, since = Signal(4), Signal(24)
    f.m.d.comb += [number.eq(10 - left), since.eq(phase + number * divisor)]
    f.lemma("sending", implies(left != 0, busy & (left <= 10) & (phase < divisor)
                               & (since < age) & (since + 16 >= age)))
    f.lemma("rest", implies(left != 0, (sender.tx == whole.bit_select(number, 1)) & (
        inner["shift"] == (whole >> (number + 1))[:9])))
    f.lemma("sent", implies(left == 0, sender.tx))
    f.lemma("stop_bit", implies(busy, (age <= 10 * divisor + 16) & (
        (left != 0) | (age + 16 > 10 * divisor))))
    f.cover("next_byte", taken & busy)


@proof("uart.UartReceiver/loop", depth=56,
       scope="4 cycles a bit, one byte and the start of another")
def uart_loop(f: Bench):
    """Bytes that the sender takes come out of the receiver once, unchanged, in order and without a
    framing error."""
    sender, receiver = UartSender(), UartReceiver(break_cycles=16)
    f.place("sender", sender)
    f.place("receiver", receiver)
    f.m.d.comb += [receiver.rx.eq(sender.tx), sender.divisor.eq(64), receiver.divisor.eq(64)]
    assume_held(f, sender.i)
    Order(f, "byte", push=sender.i.valid & sender.i.ready, item=sender.i.payload, capacity=2,
          pop=receiver.o.valid, out=receiver.o.payload)
    f.claim("no_error", ~receiver.error)

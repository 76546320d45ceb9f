"""Datagrams: whose bytes reach the link, and where replies go."""

from __future__ import annotations

from unittest import mock

from amaranth import Cat, Signal

from hw import datagrams
from hw.config import PRESETS
from hw.datagrams import Datagrams
from sim.formal.checkers import Order, assume_held, claim_held, implies
from sim.formal.harness import Bench, proof


def _within(f: Bench, stream) -> Signal:
    """Whether the first byte of a datagram has been seen, and its last has not been taken."""
    within = Signal()
    with f.m.If(stream.valid & stream.ready):
        f.m.d.sync += within.eq(~stream.payload.last)
    with f.m.Elif(stream.valid):
        f.m.d.sync += within.eq(1)
    return within


def _bench(f: Bench) -> tuple[Datagrams, dict, Signal]:
    """In surroundings that keep a datagram's bytes and its sender steady; the link is always ready.
    """
    unit = Datagrams(PRESETS["tiny"])
    inner = f.open("unit", unit)
    udp = unit.udp
    assume_held(f, udp.rx)
    assume_held(f, unit.link_tx)
    within, sender = _within(f, udp.rx), Cat(udp.rx_ip, udp.rx_port)
    f.assume(implies(within, sender == f.past(sender)))
    f.assume(unit.link_rx.ready)
    return unit, inner, within


@proof("datagrams.Datagrams/holder", depth=4, induction=True, reach=12, quick=True,
       scope="as built")
def holder(f: Bench):
    """A byte reaches the link from the serial line only while that holds the board, else from a
    datagram whose sender holds it; the serial line is silent while a host does; the holder changes
    by a datagram's second byte, that of a `sync`, or by a break."""
    unit, inner, within = _bench(f)
    udp, fsm, by_host = unit.udp, unit._receiving, inner["by_host"]
    holder, sender = Cat(inner["ip"], inner["port"]), Cat(udp.rx_ip, udp.rx_port)
    passing = fsm.ongoing("ZERO") | fsm.ongoing("PASS FIRST") | fsm.ongoing("PASS")
    f.lemma("first_byte_is_first", implies(fsm.ongoing("FIRST"), ~within))
    f.lemma("others_are_not", implies(~fsm.ongoing("FIRST"), within))
    f.claim("from_the_holder", implies(unit.link_rx.valid & by_host,
                                       passing & (holder == sender)))
    f.claim("from_the_line", implies(unit.link_rx.valid & ~by_host, unit.serial_rx.valid & (
        unit.link_rx.payload == unit.serial_rx.payload)))
    f.lemma("passes_the_holder_s", implies(passing & by_host, holder == sender))
    f.claim("line_is_silent", implies(unit.serial_tx.valid, ~by_host))
    was, before = f.past(by_host), f.past(holder)
    changed = f.started & (by_host & (~was | (holder != before)))
    f.claim("taken_by_sync", implies(changed, f.past(
        udp.rx.valid & (udp.rx.payload.data[:6] == datagrams.SYNC)) & (holder == f.past(sender))))
    f.claim("given_back_by_break", implies(f.started & was & ~by_host, f.past(inner["broken"])))
    f.cover("a_host_speaks", unit.link_rx.valid & by_host & (unit.link_rx.payload == 7))
    f.cover("changes_hands", changed & was)
    f.cover("line_again", f.past(was & ~by_host) & unit.link_rx.valid)


@proof("datagrams.Datagrams/replies", depth=13, reach=16,
       scope="replies of up to 4 bytes in a datagram in place of 1,408; one host")
def replies(f: Bench):
    """What the link sends while a host holds the board comes out once, unchanged and in order, in
    datagrams of the length they say, for one receiver each; bytes are held; announcements come
    between them."""
    with mock.patch.object(datagrams, "REPLY_BYTES", 4):
        unit, inner, _ = _bench(f)
    udp, tx = unit.udp, unit.udp.tx
    f.assume(~unit.serial_broken)
    claim_held(f, "tx", tx)
    within = _within(f, tx)
    told = Cat(udp.tx_ip, udp.tx_port, udp.tx_length)
    f.claim("receiver_is_steady", implies(within, told == f.past(told)))
    count = Signal(8)
    with f.m.If(tx.valid & tx.ready):
        f.m.d.sync += count.eq(count + 1)
        with f.m.If(tx.payload.last):
            f.m.d.sync += count.eq(0)
    f.claim("length_is_right", implies(tx.valid, tx.payload.last == (count + 1 == udp.tx_length)))
    announcing = udp.tx_length == datagrams.registers.ANNOUNCEMENT_BYTES
    pushed = unit.link_tx.valid & unit.link_tx.ready & inner["by_host"]
    Order(f, "byte", push=pushed, item=unit.link_tx.payload,
          pop=tx.valid & tx.ready & ~announcing, out=tx.payload.data, capacity=4)
    f.cover("second_datagram", tx.valid & f.past(tx.valid & tx.payload.last, 4))
    f.cover("announces", tx.valid & announcing)

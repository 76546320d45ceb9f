// The far end of a serial line, bit by bit, around the Verilated UART; run by sim/uart_soak.py.
//
//   soak DIVISOR BIT_CYCLES SKEW JITTER SAMPLE_JITTER CYCLES SEED LINES
//
// The far end sends random bytes to the receiver and takes random bytes from the sender at the same
// time. Its bits last BIT_CYCLES * (1 + SKEW) clock cycles. Every edge it makes is off by up to
// JITTER bits, every edge and level it reads by up to SAMPLE_JITTER bits, uniformly. LINES: 1 the
// line to the board, 2 from it, 3 both. Times are integers, 2^-20 cycles, so that nothing drifts.
//
// Prints "progress CYCLES" now and then, at the end one line of JSON. Stops at the first error.

#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <string>

#include "Vtop.h"
#include "Vtop___024root.h"
#include "verilated.h"

// What Vtop::eval calls. The rest of that function, a queue of messages behind a mutex, takes two
// thirds of the time of a design this small.
void Vtop___024root___eval(Vtop___024root* root);

namespace {

using Time = int64_t;
constexpr Time ONE = 1 << 20;

struct Random {
    uint64_t state;
    uint64_t next() {  // splitmix64
        uint64_t z = state += 0x9e3779b97f4a7c15u;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
    }
    Time within(Time limit) {  // -limit..limit
        return limit ? static_cast<Time>(next() % (2 * limit + 1)) - limit : 0;
    }
};

struct Bytes {  // random bytes in bursts without gaps, and what of them is still to arrive
    Random random;
    std::deque<uint8_t> open;
    uint64_t count = 0;
    unsigned burst = 0;

    uint8_t next() {
        // long runs of equal bits too: they have the fewest edges
        const uint64_t r = random.next();
        const uint8_t byte = (r >> 8) % 8 ? r >> 16 : (r >> 16) & 1 ? 0xff : 0x00;
        open.push_back(byte);
        count++;
        return byte;
    }
    bool gap() {  // after this byte
        if (burst == 0) burst = 1 + random.next() % 2000;
        return --burst == 0;
    }
    void check(uint8_t byte, std::string& error) {
        if (open.empty()) {
            error = "a byte that was not sent";
            return;
        }
        const uint8_t want = open.front();
        open.pop_front();
        if (byte == want) return;
        char text[64];
        std::snprintf(text, sizeof text, "0x%02x in place of 0x%02x", byte, want);
        error = text;
    }
};

struct FarSender {
    Time bit, jitter;
    Bytes bytes;
    Time start = 0, edge = 0;  // of the byte; when the next bit begins
    unsigned index = 9;        // bit on the line
    unsigned frame = 0x3ff;

    // Level of the line at `now`. The byte's first edge is part of `start`.
    unsigned level(Time now) {
        while (now >= edge) {
            if (++index == 10) {
                index = 0;
                frame = bytes.next() << 1 | 0x200;
            }
            Time next = start + bit * (index + 1);
            if (index == 9) {
                if (bytes.gap()) next += bytes.random.next() % (12 * bit);
                start = next;
            }
            edge = next + bytes.random.within(jitter);
        }
        return frame >> index & 1;
    }
};

struct FarReceiver {
    Time bit, jitter;
    Bytes bytes;
    Time start = 0, sample = 0;
    unsigned index = 0, frame = 0, before = 1;
    bool busy = false;

    // The line was `level` during the cycle from `now` on.
    void step(Time now, unsigned level, std::string& error) {
        const unsigned falls = before & ~level & 1;
        before = level;
        if (!busy) {
            if (!falls) return;
            busy = true;
            index = frame = 0;
            start = now + bytes.random.within(jitter);
            sample = start + bit / 2 + bytes.random.within(jitter);
        }
        if (sample >= now + ONE) return;
        frame |= level << index;
        if (++index < 10) {
            sample = start + bit / 2 + bit * index + bytes.random.within(jitter);
            return;
        }
        busy = false;
        if ((frame & 0x201) != 0x200) error = "a byte without start or stop bit";
        else bytes.check(frame >> 1, error);
    }
};

}  // namespace

int main(int argc, char** argv) {
    if (argc != 9) return 2;
    const double bit_cycles = std::atof(argv[2]) * (1 + std::atof(argv[3]));
    const Time bit = bit_cycles * ONE;
    const Time jitter = std::atof(argv[4]) * bit, sample_jitter = std::atof(argv[5]) * bit;
    const uint64_t cycles = std::strtoull(argv[6], nullptr, 10);
    const uint64_t seed = std::strtoull(argv[7], nullptr, 10);
    const int lines = std::atoi(argv[8]);
    const bool in = lines & 1, out = lines & 2;

    VerilatedContext context;
    Vtop top{&context, "top"};
    top.clk = 0;
    top.divisor = std::atoi(argv[1]);
    top.rx = 1;
    top.i_valid = 0;
    top.eval();

    FarSender sender{bit, jitter, {{seed * 2}, {}}};
    FarReceiver receiver{bit, sample_jitter, {{seed * 2 + 1}, {}}};
    sender.start = sender.edge = 20 * bit;
    std::string in_error, out_error;
    uint64_t cycle = 0, wait = 100, checked_in = 0;
    uint64_t report = 1 << 24;

    for (; cycle < cycles && in_error.empty() && out_error.empty(); cycle++) {
        const Time now = static_cast<Time>(cycle) * ONE;
        if (in) top.rx = sender.level(now);
        top.i_valid = out && top.i_ready && cycle >= wait;
        if (top.i_valid) {
            top.i_payload = receiver.bytes.next();
            if (receiver.bytes.gap()) wait = cycle + receiver.bytes.random.next() % (24 * bit / ONE);
        }
        top.clk = 1;
        Vtop___024root___eval(top.rootp);
        top.clk = 0;
        Vtop___024root___eval(top.rootp);
        if (top.o_valid) {
            sender.bytes.check(top.o_payload, in_error);
            checked_in++;
        }
        if (top.error) in_error = "framing error";
        if (sender.bytes.open.size() > 2) in_error = "a byte was lost";
        if (out) receiver.step(now, top.tx, out_error);
        // one on the way, one in the sender, one waiting
        if (receiver.bytes.open.size() > 3) out_error = "a byte was lost";
        if (cycle == report) {
            std::printf("progress %" PRIu64 "\n", cycle);
            std::fflush(stdout);
            report += 1 << 24;
        }
    }
    std::printf("{\"cycles\": %" PRIu64 ", \"bytes_to_board\": %" PRIu64
                ", \"bytes_from_board\": %" PRIu64 ", \"error_to_board\": \"%s\", "
                "\"error_from_board\": \"%s\"}\n",
                cycle, checked_in, receiver.bytes.count - receiver.bytes.open.size(),
                in_error.c_str(), out_error.c_str());
    return 0;
}

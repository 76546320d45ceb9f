// The simulated board: the Verilated top level behind a byte stream and a network, called from
// sim/board.py.
//
// Bytes and datagrams queue on both sides; time passes in `board_run` and `board_step` alone.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <vector>

#include "Vtop.h"
#include "verilated.h"

namespace {

struct Datagram {
    std::vector<uint8_t> bytes;
    uint32_t ip = 0;        // of the other end
    uint16_t port = 0;
    uint64_t there = 0;     // cycle at which all of it has arrived
};

// Boards without a DRAM chip have none of its ports.
template <class T> uint32_t violation_of(const T& top) {
    if constexpr (requires { top.chip_violation; }) return top.chip_violation;
    return 0;
}

template <class T> void stick_lines(T& top, uint16_t low, uint16_t high) {
    if constexpr (requires { top.chip_stuck; }) top.chip_stuck = uint32_t(high) << 16 | low;
}

template <class T> void set_windows(T& top, uint32_t windows) {
    if constexpr (requires { top.chip_windows; }) top.chip_windows = windows;
}

struct Board {
    VerilatedContext context;
    std::unique_ptr<Vtop> top;
    std::deque<uint8_t> to_board;
    std::vector<uint8_t> from_board;
    uint64_t cycles = 0;
    uint32_t gap = 1;       // cycles from one byte to the next, each way
    uint32_t rx_wait = 0;
    uint32_t tx_wait = 0;
    bool line_break = false;

    std::deque<Datagram> udp_to_board, udp_from_board;
    Datagram udp_reply;             // what of one has come
    size_t udp_place = 0;           // in the first datagram to the board
    uint32_t udp_gap = 0;           // cycles a byte takes in the cable, each way
    uint32_t udp_overhead = 0;      // and what goes with a datagram beside its payload
    uint64_t udp_busy_until = 0;    // of the cable to the board
    uint32_t udp_wait = 0;

    Board() {
        context.threads(1);
        top = std::make_unique<Vtop>(&context, "top");
        top->clk = 0;
        top->eval();
    }

    // The ports are registered (sim/board.py), so a cycle's inputs act, and its outputs show, at
    // the clock's edge, and there is nothing to evaluate in between.
    void step() {
        const bool give = !to_board.empty() && rx_wait == 0;
        if (give) {
            top->rx_data = to_board.front();
            to_board.pop_front();
        }
        top->rx_valid = give;
        top->tx_enable = tx_wait == 0;
        rx_wait = give ? gap - 1 : rx_wait ? rx_wait - 1 : 0;
        tx_wait = tx_wait ? tx_wait - 1 : gap - 1;
        top->line_break = line_break;
        line_break = false;
        step_udp_inputs();
        top->clk = 1;
        top->eval();
        top->clk = 0;
        top->eval();
        if (top->tx_taken) from_board.push_back(top->tx_data);
        cycles++;
        if (top->udp_taken) step_udp_output();
    }

    // The board sees a datagram when it has arrived whole, as its check sequence is at its end.
    void step_udp_inputs() {
        const bool give = top->udp_free && !udp_to_board.empty() &&
                          udp_to_board.front().there <= cycles;
        if (give) {
            const Datagram& one = udp_to_board.front();
            top->udp_data = one.bytes[udp_place++];
            top->udp_last = udp_place == one.bytes.size();
            top->udp_ip = one.ip;
            top->udp_port = one.port;
            if (top->udp_last) {
                udp_to_board.pop_front();
                udp_place = 0;
            }
        }
        top->udp_give = give;
        top->udp_enable = udp_wait == 0;
        udp_wait = udp_wait ? udp_wait - 1 : udp_gap ? udp_gap - 1 : 0;
    }

    void step_udp_output() {
        udp_reply.bytes.push_back(top->udp_tx_data);
        if (!top->udp_tx_last) return;
        udp_reply.ip = top->udp_tx_ip;
        udp_reply.port = top->udp_tx_port;
        udp_reply.there = cycles + udp_overhead;
        udp_wait += udp_overhead;
        udp_from_board.push_back(std::move(udp_reply));
        udp_reply = Datagram();
    }

    bool udp_come() const {
        return !udp_from_board.empty() && udp_from_board.front().there <= cycles;
    }

    bool at_work() const {
        return !to_board.empty() || !udp_to_board.empty() || !udp_from_board.empty() || top->busy;
    }
};

}  // namespace

extern "C" {

void* board_new() { return new Board; }

void board_free(void* handle) { delete static_cast<Board*>(handle); }

void board_gap(void* handle, uint32_t gap) { static_cast<Board*>(handle)->gap = gap ? gap : 1; }

uint64_t board_cycles(void* handle) { return static_cast<Board*>(handle)->cycles; }

void board_send(void* handle, const uint8_t* data, uint64_t count) {
    auto& queue = static_cast<Board*>(handle)->to_board;
    queue.insert(queue.end(), data, data + count);
}

// The line to the board is 0 for longer than a byte.
void board_break(void* handle) { static_cast<Board*>(handle)->line_break = true; }

// A cable that takes so many cycles for a byte, each way, and for what goes with each datagram.
void board_cable(void* handle, uint32_t gap, uint32_t overhead) {
    static_cast<Board*>(handle)->udp_gap = gap;
    static_cast<Board*>(handle)->udp_overhead = overhead;
}

void board_udp_send(void* handle, const uint8_t* data, uint64_t count, uint32_t ip, uint16_t port) {
    Board& board = *static_cast<Board*>(handle);
    if (!count) return;
    const uint64_t begin = std::max(board.cycles, board.udp_busy_until);
    board.udp_busy_until = begin + board.udp_overhead + count * board.udp_gap;
    board.udp_to_board.push_back({{data, data + count}, ip, port, board.udp_busy_until});
}

// The first datagram that has come, cut to `room`; returns its length, 0 if there is none.
uint64_t board_udp_receive(void* handle, uint8_t* data, uint64_t room, uint32_t* ip, uint16_t* port) {
    Board& board = *static_cast<Board*>(handle);
    if (!board.udp_come()) return 0;
    const Datagram& one = board.udp_from_board.front();
    const size_t count = one.bytes.size() < room ? one.bytes.size() : room;
    std::memcpy(data, one.bytes.data(), count);
    *ip = one.ip;
    *port = one.port;
    board.udp_from_board.pop_front();
    return count;
}

// Run until the board has sent `end` (a zero byte: a frame is complete) or a datagram, or it has
// nothing left to do, or for `limit` cycles. Returns the number of bytes that wait for
// board_receive.
uint64_t board_run(void* handle, uint64_t limit) {
    Board& board = *static_cast<Board*>(handle);
    unsigned idle = 0;
    for (uint64_t i = 0; i < limit && idle < 64; i++) {
        if (board.udp_come()) break;
        const size_t before = board.from_board.size();
        board.step();
        if (board.from_board.size() != before && board.from_board.back() == 0) break;
        idle = board.at_work() ? 0 : idle + 1;
    }
    return board.from_board.size();
}

// Whether it has anything to do, or a datagram is on its way.
uint32_t board_working(void* handle) { return static_cast<Board*>(handle)->at_work(); }

void board_step(void* handle, uint64_t cycles) {
    for (uint64_t i = 0; i < cycles; i++) static_cast<Board*>(handle)->step();
}

uint64_t board_receive(void* handle, uint8_t* data, uint64_t room) {
    auto& queue = static_cast<Board*>(handle)->from_board;
    const size_t count = queue.size() < room ? queue.size() : room;
    std::memcpy(data, queue.data(), count);
    queue.erase(queue.begin(), queue.begin() + count);
    return count;
}

// Which of its DRAM chip's rules were broken, 0 for none (sim/sdram.py, sim/ddr3.py).
uint32_t board_chip_violation(void* handle) { return violation_of(*static_cast<Board*>(handle)->top); }

// Data lines of the chip that read as 0, and as 1, from now on.
void board_chip_stuck(void* handle, uint16_t low, uint16_t high) {
    stick_lines(*static_cast<Board*>(handle)->top, low, high);
}

// Where the lanes of a DDR3 chip read right (sim/ddr3_control.v).
void board_chip_windows(void* handle, uint32_t windows) {
    set_windows(*static_cast<Board*>(handle)->top, windows);
}

}  // extern "C"

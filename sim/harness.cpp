// The simulated board: the Verilated top level behind a byte stream, called from sim/board.py.
//
// Bytes queue on both sides; `board_run` is the only function in which time passes.

#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <vector>

#include "Vtop.h"
#include "verilated.h"

namespace {

struct Board {
    VerilatedContext context;
    std::unique_ptr<Vtop> top;
    std::deque<uint8_t> to_board;
    std::vector<uint8_t> from_board;
    uint64_t cycles = 0;
    uint32_t gap = 1;       // cycles from one byte to the next, each way
    uint32_t rx_wait = 0;
    uint32_t tx_wait = 0;

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
        top->clk = 1;
        top->eval();
        top->clk = 0;
        top->eval();
        if (top->tx_taken) from_board.push_back(top->tx_data);
        cycles++;
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

// Run until the board has sent `end` (a zero byte: a frame is complete), or it has nothing left to
// do, or for `limit` cycles. Returns the number of bytes that wait for board_receive.
uint64_t board_run(void* handle, uint64_t limit) {
    Board& board = *static_cast<Board*>(handle);
    unsigned idle = 0;
    for (uint64_t i = 0; i < limit && idle < 64; i++) {
        const size_t before = board.from_board.size();
        board.step();
        if (board.from_board.size() != before && board.from_board.back() == 0) break;
        idle = board.to_board.empty() && !board.top->busy ? idle + 1 : 0;
    }
    return board.from_board.size();
}

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

}  // extern "C"

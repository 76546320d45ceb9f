// The simulated board behind its serial pins, with what can happen to them; see sim/fault_board.py.
//
// The functions of sim/harness.cpp, and: noise on the line, a line held at 0, the reset button,
// flipped bits of the weight memory. A bit lasts BIT cycles.

#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <vector>

#include "Vtop.h"
#include "Vtop___024root.h"
#include "verilated.h"

namespace {

constexpr unsigned BIT = 4;
constexpr unsigned IDLE = 16 * BIT;  // cycles without anything going on that count as idle

struct Board {
    VerilatedContext context;
    std::unique_ptr<Vtop> top;
    std::deque<uint8_t> to_board;
    std::vector<uint8_t> from_board;
    uint64_t cycles = 0;
    uint64_t random = 1;
    uint64_t noise = 0;      // a bit is wrong if a random number is below
    uint64_t wrong = 0;      // bits so far
    bool low = false;        // the line to the board is held at 0
    unsigned to_phase = 0, to_left = 0, to_frame = 0;
    unsigned to_flip = 0;
    unsigned from_wait = 0, from_left = 0, from_frame = 0, before = 1;
    unsigned quiet = 0;

    Board() {
        context.threads(1);
        top = std::make_unique<Vtop>(&context, "top");
        top->clk = 0;
        top->rx = 1;
        top->reset = 0;
        top->eval();
    }

    unsigned flip() {
        if (!noise) return 0;
        uint64_t z = random += 0x9e3779b97f4a7c15u;  // splitmix64
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        const unsigned hit = (z ^ (z >> 31)) < noise;
        wrong += hit;
        return hit;
    }

    void step() {
        if (to_phase == 0) {
            if (to_left == 0 && !to_board.empty()) {
                to_frame = to_board.front() << 1 | 0x200;
                to_board.pop_front();
                to_left = 10;
            }
            to_flip = flip();
        }
        const unsigned level = to_left ? to_frame >> (10 - to_left) & 1 : 1;
        top->rx = low ? 0 : level ^ to_flip;
        if (++to_phase == BIT) {
            to_phase = 0;
            if (to_left) to_left--;
        }
        top->clk = 1;
        top->eval();
        top->clk = 0;
        top->eval();
        cycles++;
        const unsigned tx = top->tx;
        if (from_left == 0) {
            if (before && !tx) {
                from_left = 10;
                from_wait = BIT / 2;
            }
        } else if (--from_wait == 0) {
            from_wait = BIT;
            from_frame = from_frame >> 1 | (tx ^ flip()) << 9;
            if (--from_left == 0 && from_frame >> 9) from_board.push_back(from_frame >> 1 & 0xff);
        }
        before = tx;
        const bool active = !to_board.empty() || to_left || from_left || top->busy || !tx;
        quiet = active ? 0 : quiet + 1;
    }
};

Board& board(void* handle) { return *static_cast<Board*>(handle); }

}  // namespace

extern "C" {

void* board_new() { return new Board; }

void board_free(void* handle) { delete static_cast<Board*>(handle); }

void board_gap(void*, uint32_t) {}

uint64_t board_cycles(void* handle) { return board(handle).cycles; }

void board_send(void* handle, const uint8_t* data, uint64_t count) {
    auto& queue = board(handle).to_board;
    queue.insert(queue.end(), data, data + count);
    board(handle).quiet = 0;
}

// As in sim/harness.cpp.
uint64_t board_run(void* handle, uint64_t limit) {
    Board& b = board(handle);
    for (uint64_t i = 0; i < limit && b.quiet < IDLE; i++) {
        const size_t before = b.from_board.size();
        b.step();
        if (b.from_board.size() != before && b.from_board.back() == 0) break;
    }
    return b.from_board.size();
}

void board_step(void* handle, uint64_t cycles) {
    for (uint64_t i = 0; i < cycles; i++) board(handle).step();
}

uint64_t board_receive(void* handle, uint8_t* data, uint64_t room) {
    auto& queue = board(handle).from_board;
    const size_t count = queue.size() < room ? queue.size() : room;
    std::memcpy(data, queue.data(), count);
    queue.erase(queue.begin(), queue.begin() + count);
    return count;
}

// Every bit, either way, is wrong with probability `chance` / 2^64 from now on.
void board_noise(void* handle, uint64_t chance, uint64_t seed) {
    board(handle).noise = chance;
    board(handle).random = seed;
}

uint64_t board_wrong_bits(void* handle) { return board(handle).wrong; }

// The line to the board is 0 for so long; what the host sends meanwhile is lost in it.
void board_hold(void* handle, uint64_t cycles) {
    board(handle).low = true;
    board_step(handle, cycles);
    board(handle).low = false;
    board(handle).quiet = 0;
}

// Reset of everything but the memories for so long.
void board_reset(void* handle, uint64_t cycles) {
    board(handle).top->reset = 1;
    board_step(handle, cycles);
    board(handle).top->reset = 0;
    board(handle).quiet = 0;
}

// Flip bits of a word of the weight memory (of the first pair of engines).
void board_flip_weight(void* handle, uint32_t word, uint32_t mask) {
    board(handle).top->rootp->top__DOT__top__DOT__top__DOT__core__DOT__weights0__DOT__ram[word] ^= mask;
}

}  // extern "C"

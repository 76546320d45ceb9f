
// Behind sim/harness.cpp, in one file with it: which lines of the gateware ran (sim/parser_fuzz.py).

#include "Vtop___024root.h"
#include "Vtop__Syms.h"
#include "verilated_cov.h"

extern "C" {

// The counters; returns how many there are.
uint32_t board_coverage(void* handle, const uint32_t** counters) {
    auto& all = static_cast<Board*>(handle)->top->rootp->vlSymsp->__Vcoverage;
    *counters = reinterpret_cast<const uint32_t*>(&all[0]);
    return sizeof all / sizeof(uint32_t);
}

// Their names and values, in Verilator's format.
void board_coverage_write(void* handle, const char* path) {
    static_cast<Board*>(handle)->context.coveragep()->write(path);
}

}  // extern "C"

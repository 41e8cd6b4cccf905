// The harness as a C library, for runner.py: one design, runs of any number of jobs on it.
#include <stdexcept>

#include "bench.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

using sparseloom::Bench;
using sparseloom::Gates;
using sparseloom::Memory;
using sparseloom::Run;

namespace {

constexpr int64_t kResetCycles = 2;

void reset(Gates& gates) {
    for (auto& source : gates.sources) *source.valid = 0;
    for (auto& buffer : gates.buffers) *buffer.request.ready = 0;
    for (auto& sink : gates.sinks) *sink.ready = 0;
    *gates.reset = 1;
    for (int64_t half = 0; half < 2 * kResetCycles; ++half) {
        *gates.clock = half % 2;
        gates.eval();
    }
    *gates.reset = 0;
}

}  // namespace

// Verilator's runtime ends the process on a fault, such as logic that does not settle, unless it finds this in its place.
void vl_fatal(const char*, int, const char*, const char* message) { throw std::runtime_error(message); }

// The gates after a reset, or null if their logic does not settle.
EXPORT Gates* harness_open() {
    std::unique_ptr<Gates> gates(sparseloom::make_gates());
    try {
        reset(*gates);
    } catch (const std::exception&) {
        return nullptr;
    }
    return gates.release();
}

EXPORT void harness_close(Gates* gates) { delete gates; }

EXPORT void harness_run(Gates* gates, Run* run) {
    run->violations = 0;
    try {
        if (run->trace) gates->trace_open(run->trace);
        Bench bench(*gates, *run);
        bench.go();
        run->total_cycles = bench.cycles();
        // What is left inside after a fault must not spoil the next call.
        if (run->violations || run->reset_after >= 0) reset(*gates);
    } catch (const std::exception& error) {
        run->violations = 1;
        std::snprintf(run->message, run->message_size, "the simulation failed: %s", error.what());
    }
    if (run->trace) gates->trace_close();
}

// The memory twin alone: the cycle of the last beat of each of `count` segments, requested in `cycles` (ascending), nothing refused.
EXPORT void harness_memory(int64_t latency, int64_t count, const int64_t* cycles, const int64_t* beats, int64_t* last) {
    Memory memory(latency);
    int64_t taken = 0, asked = 0, segment = 0, end = beats[0];
    for (int64_t cycle = 0; segment < count; ++cycle) {
        while (asked < count && cycles[asked] == cycle) memory.request(cycle, beats[asked++]);
        if (!memory.offers(cycle)) continue;
        memory.take();
        if (++taken < end) continue;
        last[segment++] = cycle;
        end += segment < count ? beats[segment] : 0;
    }
}

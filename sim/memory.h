// Twin of models/spec/memory.py, cycle by cycle: one channel, segments in order, a beat a cycle after the latency.
#pragma once
#include <cstdint>
#include <deque>

namespace sparseloom {

class Memory {
public:
    explicit Memory(int64_t latency) : latency_(latency) {}

    // A segment asked for in `cycle`; its first beat is offered `latency` cycles later, or after the segments before it.
    void request(int64_t cycle, int64_t beats) {
        if (beats > 0) segments_.push_back({cycle + latency_, beats});
    }
    // Whether a beat is offered in `cycle`. A beat that was refused stays offered.
    bool offers(int64_t cycle) const { return !segments_.empty() && cycle >= segments_.front().from; }
    // The offered beat was taken.
    void take() {
        if (--segments_.front().beats == 0) segments_.pop_front();
    }

private:
    struct Segment {
        int64_t from, beats;
    };
    const int64_t latency_;
    std::deque<Segment> segments_;
};

}  // namespace sparseloom

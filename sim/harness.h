// What the harness sees of a Verilated design: its pins as bytes, grouped into channels. The generated glue fills this in.
#pragma once
#include <cstdint>
#include <cstring>
#include <vector>

namespace sparseloom {

// A port of any width. Verilator keeps every port in whole little-endian words, so its bytes can be read and written in place.
struct Pins {
    uint8_t* at = nullptr;
    int bits = 0;
    int bytes() const { return (bits + 7) / 8; }
    // Bits above the port's width must stay 0 in the model.
    void write(const uint8_t* data) const {
        const int whole = bits / 8;
        std::memcpy(at, data, whole);
        if (bits % 8) at[whole] = data[whole] & ((1 << bits % 8) - 1);
    }
    void fill(uint8_t value) const {
        const int whole = bits / 8;
        std::memset(at, value, whole);
        if (bits % 8) at[whole] = value & ((1 << bits % 8) - 1);
    }
    uint64_t number() const {
        uint64_t value = 0;
        std::memcpy(&value, at, bytes() < 8 ? bytes() : 8);
        return value;
    }
};

// A valid/ready stream.
struct Channel {
    const char* name;
    Pins payload;
    uint8_t *valid, *ready;
};

// An on-chip buffer: `address` and `valid` leave the design, `ready` and `data` enter it, `latency` cycles after acceptance.
struct BufferPort {
    Channel request;
    Pins data;
    int latency;
};

// The design itself.
class Gates {
public:
    virtual ~Gates() = default;
    virtual void eval() = 0;
    virtual void trace_open(const char* file) = 0;
    virtual void trace_dump(uint64_t time) = 0;
    virtual void trace_close() = 0;
    uint8_t *clock = nullptr, *reset = nullptr;
    std::vector<Channel> sources;  // job first, then the operands in the order of the spec
    std::vector<BufferPort> buffers;
    std::vector<Channel> sinks;  // done first, then the results in the order of the spec
};

Gates* make_gates();  // in the generated glue

}  // namespace sparseloom

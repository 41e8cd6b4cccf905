// Drives one engine's ports for a number of jobs: offers jobs and operands, serves buffers, takes results, watches the protocol.
//
// A cycle has two halves. Clock low: sources, sinks and buffers set the design's inputs from what happened before; then the
// handshakes of the cycle are read. Clock high: the design takes its step. No input depends on an output of the same cycle.
#pragma once
#include <cstdio>
#include <memory>
#include <string>

#include "harness.h"
#include "memory.h"

namespace sparseloom {

constexpr int64_t kGap = 4;         // idle cycles after each job, in which nothing may come any more
constexpr int64_t kPulse = 1 << 14;  // cycles between signs of life to the caller
constexpr uint64_t kHalf = 5000;     // half a clock period in the waveform, in picoseconds

// xorshift64*, one for each port, so that a port's pattern does not depend on what the others do.
class Random {
public:
    Random(uint64_t seed, uint64_t port) : state_(seed * 0x9E3779B97F4A7C15ull + (port + 1) * 0xD1B54A32D192ED03ull) {
        state_ = state_ ? state_ : 1;
        for (int i = 0; i < 8; ++i) next();
    }
    uint32_t next() {
        state_ ^= state_ >> 12;
        state_ ^= state_ << 25;
        state_ ^= state_ >> 27;
        return static_cast<uint32_t>((state_ * 0x2545F4914F6CDD1Dull) >> 32);
    }
    bool chance(double probability) { return next() < probability * 4294967296.0; }

private:
    uint64_t state_;
};

// The work of one call, as runner.py lays it out. Arrays over jobs and ports are job-major; counts are beats or words.
struct Run {
    int64_t jobs, operands, buffers, results;
    const uint8_t* const* source_beats;  // [jobs][1 + operands]: the job's record, then its operands
    const int64_t* source_counts;
    const uint8_t* const* words;  // [jobs][buffers]
    const int64_t* word_counts;
    uint8_t* const* sink_beats;  // [jobs][1 + results]: the completion record, then the results; written
    const int64_t* sink_counts;
    int64_t* cycles;             // [jobs], written
    const int64_t* latencies;    // [operands]: cycles of a memory before the operand's first beat, -1 for none
    double stall, idle;
    uint64_t seed;
    int64_t back_to_back;
    int64_t quiet_limit;   // cycles without any transfer after which the engine counts as stuck
    int64_t reset_after;   // cycles after the first job's acceptance to reset in, -1 for never
    const char* trace;     // waveform file or null
    int (*alive)(int64_t done, int64_t cycles);  // called every kPulse cycles; not 0: give up
    int64_t total_cycles;  // written: cycles simulated
    int64_t violations;    // written
    int64_t message_size;
    char* message;  // written: the first violation, or why the run ended early
};

class Bench {
public:
    Bench(Gates& gates, Run& run) : gates_(gates), run_(run), poison_(run.seed, 0), started_(run.jobs) {
        uint64_t port = 0;
        for (size_t s = 0; s < gates.sources.size(); ++s) {
            sources_.push_back(Source{gates.sources[s], Random(run.seed, ++port)});
            if (s > 0 && run.latencies[s - 1] >= 0) sources_.back().memory.reset(new Memory(run.latencies[s - 1]));
        }
        for (auto& buffer : gates.buffers) {
            buffers_.push_back(Reads{buffer, Watch(buffer.request), Random(run.seed, ++port)});
            buffers_.back().due.resize(buffer.latency + 1);
        }
        for (auto& sink : gates.sinks) sinks_.push_back(Sink{Watch(sink), Random(run.seed, ++port)});
        released_ = run.back_to_back ? run.jobs : 0;
    }

    void go() {
        int64_t wait = 0;
        while (done_ < run_.jobs || wait > 0) {
            if (wait > 0) --wait;
            else if (released_ == done_) ++released_;
            const int64_t before = done_;
            step();
            if (done_ > before && (released_ == done_)) wait = kGap;
            if (run_.reset_after >= 0 && accepted_ > 0 && cycle_ - started_[0] > run_.reset_after) return;
            if (cycle_ % kPulse == 0 && run_.alive(done_, cycle_)) return stop("interrupted");
            if (cycle_ - progress_ > run_.quiet_limit)
                return stop("nothing moved for " + std::to_string(run_.quiet_limit) + " cycles");
        }
        if (run_.reset_after >= 0) stop("the job was done before the reset");
    }

    int64_t cycles() const { return cycle_; }

private:
    struct Source {
        Channel pins;
        Random random;
        int64_t job = 0, beat = 0, taken = 0;
        int64_t wanted = 0;  // beats of all jobs whose completion has been offered
        bool offering = false;
        std::unique_ptr<Memory> memory = nullptr;
    };
    // A port whose valid and payload must hold while it is refused.
    struct Watch {
        explicit Watch(Channel channel) : pins(channel), held(channel.payload.bytes()) {}
        Channel pins;
        std::vector<uint8_t> held;
        bool refused = false;
    };
    struct Read {
        int64_t job = -1;
        uint64_t address = 0;
    };
    struct Reads {
        BufferPort pins;
        Watch watch;
        Random random;
        std::vector<Read> due = {};
    };
    struct Sink {
        Watch watch;
        Random random;
        int64_t job = 0, beat = 0, taken = 0;
        int64_t wanted = 0;  // beats of all jobs whose completion has been offered
    };

    void step() {
        for (size_t s = 0; s < sources_.size(); ++s) drive(sources_[s], s);
        for (auto& reads : buffers_) drive(reads);
        for (auto& sink : sinks_) *sink.watch.pins.ready = !sink.random.chance(run_.stall);
        *gates_.clock = 0;
        gates_.eval();
        if (run_.stall > 0) probe();
        gates_.trace_dump(kHalf * 2 * cycle_);

        const int64_t accepted = accepted_;
        for (size_t s = 0; s < sources_.size(); ++s) sample(sources_[s], s);
        // Completions before results: a completion may not be offered in the cycle of its job's last result.
        sample_done(accepted);
        for (size_t s = 1; s < sinks_.size(); ++s) sample_result(sinks_[s], s, accepted);
        for (auto& reads : buffers_) sample(reads);

        *gates_.clock = 1;
        gates_.eval();
        gates_.trace_dump(kHalf * (2 * cycle_ + 1));
        ++cycle_;
    }

    // Flips one port's ready: what it offers in this cycle must not depend on that. The ports take turns.
    void probe() {
        const size_t turn = cycle_ % (sinks_.size() + buffers_.size());
        const Watch& watch = turn < sinks_.size() ? sinks_[turn].watch : buffers_[turn - sinks_.size()].watch;
        const Channel& pins = watch.pins;
        const bool valid = *pins.valid;
        probed_.assign(pins.payload.at, pins.payload.at + pins.payload.bytes());
        *pins.ready ^= 1;
        gates_.eval();
        if (*pins.valid != valid || (valid && std::memcmp(probed_.data(), pins.payload.at, probed_.size())))
            violate(pins.name, "valid or payload waits for ready");
        *pins.ready ^= 1;
        gates_.eval();
    }

    void drive(Source& source, size_t s) {
        if (source.offering) return;
        const int64_t streams = static_cast<int64_t>(sources_.size());
        while (source.job < released_ && source.beat == run_.source_counts[source.job * streams + s]) {
            ++source.job;
            source.beat = 0;
        }
        const bool idle = source.random.chance(run_.idle);
        source.offering = source.job < released_ && !idle && (!source.memory || source.memory->offers(cycle_));
        *source.pins.valid = source.offering;
        if (source.offering)
            source.pins.payload.write(run_.source_beats[source.job * streams + s] + source.beat * source.pins.payload.bytes());
        else
            source.pins.payload.fill(poison_.next());
    }

    void drive(Reads& reads) {
        *reads.pins.request.ready = !reads.random.chance(run_.stall);
        Read& read = reads.due[cycle_ % reads.due.size()];
        const int64_t ports = static_cast<int64_t>(buffers_.size()), b = &reads - buffers_.data();
        // Words that were not loaded, and cycles in which none is due, show noise: an engine that uses it goes wrong.
        if (read.job >= 0 && read.job < run_.jobs && read.address < static_cast<uint64_t>(run_.word_counts[read.job * ports + b]))
            reads.pins.data.write(run_.words[read.job * ports + b] + read.address * reads.pins.data.bytes());
        else
            reads.pins.data.fill(poison_.next());
        read.job = -1;
    }

    void sample(Source& source, size_t s) {
        if (!source.offering || !*source.pins.ready) return;
        source.offering = false;
        ++source.beat;
        ++source.taken;
        if (source.memory) source.memory->take();
        progress_ = cycle_;
        if (s > 0) return;
        const size_t streams = sources_.size();
        for (size_t i = 1; i < streams; ++i)
            if (sources_[i].memory) sources_[i].memory->request(cycle_, run_.source_counts[accepted_ * streams + i]);
        started_[accepted_++] = cycle_;
    }

    // Whether a transfer takes place on a watched port in this cycle; violations of the protocol are noted.
    bool transfer(Watch& watch) {
        const bool valid = *watch.pins.valid, ready = *watch.pins.ready;
        const Pins& payload = watch.pins.payload;
        if (watch.refused && !valid) violate(watch.pins.name, "valid fell while it was refused");
        if (watch.refused && valid && std::memcmp(watch.held.data(), payload.at, payload.bytes()))
            violate(watch.pins.name, "the payload changed while it was refused");
        watch.refused = valid && !ready;
        if (watch.refused) std::memcpy(watch.held.data(), payload.at, payload.bytes());
        if (valid && ready) progress_ = cycle_;
        return valid && ready;
    }

    void sample_result(Sink& sink, size_t s, int64_t accepted) {
        if (!transfer(sink.watch)) return;
        const size_t streams = sinks_.size();
        while (sink.job < accepted && sink.beat == run_.sink_counts[sink.job * streams + s]) {
            ++sink.job;
            sink.beat = 0;
        }
        ++sink.taken;
        if (sink.job >= accepted) return violate(sink.watch.pins.name, "a beat beyond those of the jobs accepted so far");
        const Pins& payload = sink.watch.pins.payload;
        std::memcpy(run_.sink_beats[sink.job * streams + s] + sink.beat++ * payload.bytes(), payload.at, payload.bytes());
    }

    void sample_done(int64_t accepted) {
        Sink& sink = sinks_[0];
        const bool offered = *sink.watch.pins.valid, again = sink.watch.refused;
        const bool taken = transfer(sink.watch);
        if (!offered) return;
        if (done_ >= accepted) {
            if (!again) violate("done", "a completion without a job");
            return;
        }
        if (!again) check_complete();
        if (!taken) return;
        const Pins& payload = sink.watch.pins.payload;
        std::memcpy(run_.sink_beats[done_ * sinks_.size()], payload.at, payload.bytes());
        // A job's time begins with its acceptance; back to back, with the completion before it.
        run_.cycles[done_] = cycle_ - (run_.back_to_back && done_ > 0 ? last_done_ : started_[done_]);
        last_done_ = cycle_;
        ++done_;
    }

    // The completion of job done_ is offered for the first time: its results must have left, its operands must have been taken.
    void check_complete() {
        for (size_t s = 1; s < sinks_.size(); ++s) {
            sinks_[s].wanted += run_.sink_counts[done_ * sinks_.size() + s];
            if (sinks_[s].taken < sinks_[s].wanted)
                violate(sinks_[s].watch.pins.name, "done was offered before the last result was taken");
        }
        for (size_t s = 1; s < sources_.size(); ++s) {
            sources_[s].wanted += run_.source_counts[done_ * sources_.size() + s];
            if (sources_[s].taken < sources_[s].wanted)
                violate(sources_[s].pins.name, "done was offered with operand beats left over");
        }
        buffer_job_ = done_ + 1;
    }

    void sample(Reads& reads) {
        if (!transfer(reads.watch)) return;
        reads.due[(cycle_ + reads.pins.latency) % reads.due.size()] = {buffer_job_, reads.watch.pins.payload.number()};
    }

    void violate(const char* port, const char* rule) {
        if (run_.violations++ == 0)
            report(std::string(port) + ": " + rule + " (cycle " + std::to_string(cycle_) + ", job " + std::to_string(done_) + ")");
    }

    void stop(const std::string& why) {
        std::string text = why + ", job " + std::to_string(done_) + " of " + std::to_string(run_.jobs) + ", cycle " + std::to_string(cycle_);
        auto state = [&](const Channel& pins, const char* verb, int64_t count) {
            text += std::string("; ") + pins.name + " valid=" + char('0' + *pins.valid) + " ready=" + char('0' + *pins.ready);
            if (count >= 0) text += " " + std::to_string(count) + " " + verb;
        };
        for (auto& source : sources_) state(source.pins, "taken", source.taken);
        for (auto& reads : buffers_) state(reads.pins.request, "", -1);
        for (auto& sink : sinks_) state(sink.watch.pins, "given", sink.taken);
        if (run_.violations++ == 0) report(text);
    }

    void report(const std::string& text) { std::snprintf(run_.message, run_.message_size, "%s", text.c_str()); }

    Gates& gates_;
    Run& run_;
    Random poison_;
    std::vector<Source> sources_;
    std::vector<Reads> buffers_;
    std::vector<Sink> sinks_;
    int64_t cycle_ = 0, progress_ = 0;
    int64_t released_ = 0;    // jobs that the sources may offer
    int64_t accepted_ = 0;    // jobs accepted
    int64_t done_ = 0;        // completions taken
    int64_t buffer_job_ = 0;  // the job whose buffers are loaded: the first without an offered completion
    std::vector<int64_t> started_;
    std::vector<uint8_t> probed_;
    int64_t last_done_ = 0;
};

}  // namespace sparseloom

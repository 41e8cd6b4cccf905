"""The few lines of C++ that tie one design's pins to the harness, written from the port manifest."""

from ..models.spec.errors import check_choice

__all__ = ["glue"]

TRACE_CLASSES = {"vcd": ("verilated_vcd_c.h", "VerilatedVcdC"), "fst": ("verilated_fst_c.h", "VerilatedFstC")}
_DEPTH = 99  # levels of hierarchy in a waveform: all of them


def glue(design, build, trace=None):
    """C++ source of ``make_gates()`` for the Verilated ``design`` (class ``Vtop``) of the engine ``build``.

    Raises ValueError if the design lacks a port of the engine contract or has one beyond it.
    """
    ports = {port.name: port for port in design.ports}

    def take(name):
        if name not in ports:
            raise ValueError(f"{design.name} has no port {name}, which {build.name} must have")
        return ports.pop(name)

    def pins(name):
        return f"{{(uint8_t*)&top->{name}, {take(name).width}}}"

    def bit(name):
        return f"(uint8_t*)&top->{take(name).name}"

    def channel(group, payload="payload"):
        return f'{{"{group}", {pins(f"{group}_{payload}")}, {bit(f"{group}_valid")}, {bit(f"{group}_ready")}}}'

    lines = [f"clock = {bit('clk')};", f"reset = {bit('rst')};"]
    lines += [f"sources.push_back({channel(group)});" for group in ("job", *(f"i_{stream.name}" for stream in build.inputs))]
    for buffer in build.buffers:
        group = f"x_{buffer.name}"
        lines.append(f"buffers.push_back({{{channel(group, 'addr')}, {pins(f'{group}_data')}, {buffer.read_latency}}});")
    lines += [f"sinks.push_back({channel(group)});" for group in ("done", *(f"o_{stream.name}" for stream in build.outputs))]
    if ports:
        raise ValueError(f"{design.name} has a port {next(iter(ports))}, which {build.name} must not have")

    header, opened, dump, closed = "", "(void)file;", "(void)time;", ""
    if trace is not None:
        check_choice("trace", trace, TRACE_CLASSES)
        header = f'#include "{TRACE_CLASSES[trace][0]}"'
        opened = f"wave.reset(new {TRACE_CLASSES[trace][1]}); top->trace(wave.get(), {_DEPTH}); wave->open(file);"
        dump, closed = "if (wave) wave->dump(time);", "if (wave) wave->close(); wave.reset();"
    body = "\n        ".join(lines)
    member = f"    std::unique_ptr<{TRACE_CLASSES[trace][1]}> wave;\n" if trace else ""
    return f"""#include <memory>
#include "Vtop.h"
{header}
#include "harness.h"

namespace {{
struct Top final : sparseloom::Gates {{
    VerilatedContext context;
    std::unique_ptr<Vtop> top;
{member}    Top() {{
        context.traceEverOn({"true" if trace else "false"});
        top.reset(new Vtop{{&context}});
        {body}
    }}
    ~Top() override {{ {closed} top->final(); }}
    void eval() override {{ top->eval(); }}
    void trace_open(const char* file) override {{ {opened} }}
    void trace_dump(uint64_t time) override {{ {dump} }}
    void trace_close() override {{ {closed} }}
}};
}}  // namespace

sparseloom::Gates* sparseloom::make_gates() {{ return new Top; }}
"""

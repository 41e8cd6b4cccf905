"""Any exported design under Verilator, a row of numbers on its inputs each cycle: for blocks that are no engine."""

import ctypes

import numpy as np

from .build import CXX_FLAGS, OPTIMISATIONS, VERILATE_FLAGS, compile_model, runtime_of, verilate
from .cache import cached, digest
from .runner import SimulationError
from .tools import compiler, run_tool
from .twins import twins

__all__ = ["clocked"]

_FLAGS = (*CXX_FLAGS, *OPTIMISATIONS["quick"])
_DOMAIN = ("clock", "reset")


def clocked(design, inputs):
    """What the outputs of a :class:`~sparseloom.hdl.export.Design` with one clock show in each cycle, from initial values on.

    ``inputs`` has for each input a uint8 array [cycles, bytes], little-endian, but for the clock and the reset, which stays off;
    the result has the like for each output, seen in the same cycle, before the clock's edge. Raises SimulationError if a twin
    stops the simulation, ValueError for arrays that do not fit the ports, ToolFailed if Verilator refuses.
    """
    sides = {side: [port for port in design.ports if port.direction == side and port.role not in _DOMAIN]
             for side in ("input", "output")}
    cycles = {len(values) for values in inputs.values()}
    if set(inputs) != {port.name for port in sides["input"]} or len(cycles) != 1:
        raise ValueError(f"inputs must be {', '.join(port.name for port in sides['input'])} for the same number of cycles")
    (cycles,) = cycles
    fed, shown = (np.zeros((cycles, sum(map(_storage, ports))), np.uint8) for ports in sides.values())
    for port, part in _parts(sides["input"], fed):
        values = np.asarray(inputs[port.name], np.uint8)
        if values.shape[1:] != (-(-port.width // 8),):
            raise ValueError(f"{port.name} must have {-(-port.width // 8)} bytes a cycle, got shape {values.shape}")
        part[:, : values.shape[1]] = values
    run = ctypes.CDLL(str(_library(design, sides))).run
    run.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    if run(fed.ctypes.data, shown.ctypes.data, cycles):
        raise SimulationError(f"{design.name} stopped its simulation", 1)
    return {port.name: part[:, : -(-port.width // 8)] for port, part in _parts(sides["output"], shown)}


def _storage(port):
    """Bytes in which Verilator keeps a port: the next power of two, from 64 bits on whole words of 32."""
    return next((size for size in (1, 2, 4, 8) if port.width <= 8 * size), -(-port.width // 32) * 4)


def _parts(ports, rows):
    """(port, its columns of ``rows``)."""
    at = 0
    for port in ports:
        yield port, rows[:, at : at + _storage(port)]
        at += _storage(port)


def _library(design, sides):
    """Path of the shared library whose function ``run`` clocks the design through rows of bytes."""
    copies = {"input": "std::memcpy(&top.{0}, fed, {1}); fed += {1};",
              "output": "std::memcpy(shown, &top.{0}, {1}); shown += {1};"}
    feed, show = ("\n            ".join(copies[side].format(port.name, _storage(port)) for port in ports)
                  for side, ports in sides.items())
    tie = f"""#include <cstring>
#include <stdexcept>
#include "Vtop.h"

void vl_fatal(const char*, int, const char*, const char* message) {{ throw std::runtime_error(message); }}

extern "C" __attribute__((visibility("default"))) int run(const uint8_t* fed, uint8_t* shown, int64_t cycles) {{
    try {{
        VerilatedContext context;
        Vtop top(&context);
        for (int64_t cycle = 0; cycle < cycles; ++cycle) {{
            {feed}
            top.clk = 0;
            top.eval();
            {show}
            top.clk = 1;
            top.eval();
        }}
    }} catch (const std::runtime_error&) {{
        return 1;
    }}
    return 0;
}}
"""
    runtime = runtime_of(_FLAGS, None)

    def make(folder):
        model = folder / "model"
        verilate(design, model)
        (model / "tie.cpp").write_text(tie)
        objects = [*compile_model(model, _FLAGS), *(part for place in runtime for part in sorted(place.glob("verilated*.o")))]
        run_tool([*compiler(), "-shared", "-o", folder / "clocked.so", *objects, "-lpthread"], purpose="link the simulation")

    key = digest(design.digest, *twins(design).values(), tie, *(place.name for place in runtime), *VERILATE_FLAGS, *_FLAGS)
    return cached("clocked", key, make) / "clocked.so"

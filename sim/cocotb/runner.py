"""Jobs through cocotb on the same exported Verilog: the compiled harness's second opinion."""

import pickle
import re
import tempfile
from pathlib import Path

import cocotb_tools.config
import numpy as np
from cocotb_tools.runner import get_results, get_runner

from ..build import compile_model, design_of, objects_of, verilate
from ..cache import cached, digest
from ..runner import Receipt, SimulationError
from ..tools import compiler, run_tool, verilator_root, verilator_version
from ..twins import twins
from .bench import ORDER_FILE, RESULT_FILE

__all__ = ["program", "run_bench", "run_jobs"]

_BENCH = __package__ + ".bench"
_FLAGS = ("-std=c++17", "-O1", "-w", "-DVM_TRACE=0")
_LIMIT = 200_000


def program(design):
    """Folder with the simulator of a design that cocotb drives: an executable of the design's name, its ports public."""
    share, libs = (Path(folder) for folder in (cocotb_tools.config.share_dir, cocotb_tools.config.libs_dir))
    main = share / "lib" / "verilator" / "verilator.cpp"
    include = verilator_root() / "include"
    runtime = objects_of([include / f"verilated{part}.cpp" for part in ("", "_threads", "_vpi")], _FLAGS)
    # Only the ports can be reached by name; everything inside may be optimised as usual.
    public = "".join(f'public_flat_rw -module "{design.name}" -var "{port.name}"\n' for port in design.ports)

    def make(folder):
        model = folder / "model"
        model.mkdir()
        (model / "public.vlt").write_text("`verilator_config\n" + public)
        verilate(design, model, ("--vpi", "public.vlt"))
        (model / "main.cpp").write_bytes(main.read_bytes())
        objects = [*compile_model(model, _FLAGS), *sorted(runtime.glob("*.o"))]
        links = [f"-L{libs}", f"-Wl,-rpath,{libs}", "-lcocotbvpi_verilator", "-lpthread"]
        run_tool([*compiler(), "-o", folder / design.name, *objects, *links], purpose="link the cocotb bench")

    key = digest(design.digest, *twins(design).values(), runtime.name, verilator_version(), main.read_bytes(), libs)
    return cached("cocotb", key, make)


def run_bench(design, module, folder, *, environment=None, seed=0):
    """Run the cocotb tests of ``module`` on a design, in ``folder``; SimulationError with a failure's text if any fails."""
    log, report = folder / "cocotb.log", folder / "results.xml"
    runner, place = get_runner("verilator"), {"build_dir": program(design), "test_dir": folder}
    try:
        runner.test(test_module=module, hdl_toplevel=design.name, hdl_toplevel_lang="verilog", seed=seed, log_file=log,
                    results_xml=str(report), extra_env=environment or {}, **place)
    except SystemExit:  # the runner's way to say under pytest that a test failed; the report says which
        pass
    tests, failed = get_results(report) if report.exists() else (0, 0)
    if failed or not tests:
        errors = re.findall(r"\w*(?:Error|Exception)\S*: .*", log.read_text())
        raise SimulationError(errors[-1] if errors else f"{tests} tests, {failed} failed", max(failed, 1))


def run_jobs(build, works, *, design=None, stall=0.0, idle=0.0, seed=0, limit=_LIMIT):
    """``Simulator.run`` through cocotb: a Receipt for each :class:`~sparseloom.sim.runner.Work`, one job at a time.

    Also returns the cycles simulated. ``limit``: cycles after which a job counts as stuck. Raises SimulationError.
    """
    design = design_of(build) if design is None else design
    order = {
        "build": build,
        "options": {"stall": stall, "idle": idle, "seed": seed, "limit": limit},
        "works": [{
            "record": build.job_record.encode(build.job_values(work.job) | (work.values or {})),
            "streams": {stream.name: _numbers(work.image.streams[stream.name]) for stream in build.inputs},
            "buffers": {buffer.name: _numbers(work.image.buffers[buffer.name]) for buffer in build.buffers},
        } for work in works],
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with open(folder / ORDER_FILE, "wb") as file:
            pickle.dump(order, file)
        run_bench(design, _BENCH, folder, environment={"SPARSELOOM_BENCH": str(folder)}, seed=seed)
        with open(folder / RESULT_FILE, "rb") as file:
            found = pickle.load(file)
    records = {stream.name: stream.record for stream in build.outputs}
    receipts = [Receipt({name: _beats(items, records[name].bytes) for name, items in result["outputs"].items()},
                        build.done_record.decode(result["done"]), result["cycles"]) for result in found["results"]]
    return receipts, found["cycles"]


def _numbers(beats):
    return [int.from_bytes(beat.tobytes(), "little") for beat in np.asarray(beats, np.uint8)]


def _beats(numbers, size):
    data = b"".join(number.to_bytes(size, "little") for number in numbers)
    return np.frombuffer(data, np.uint8).reshape(-1, size)

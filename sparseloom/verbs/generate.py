"""``sparseloom generate``: a stand-alone kernel as a folder of Verilog and everything a toolchain needs beside it."""

from pathlib import Path
from typing import Annotated

import typer

from .common import JsonOption, SeedOption, SetOption, emit, parse_pairs
from .workload import EngineArgument, build_of

__all__ = ["generate"]

BusOption = Annotated[list[str], typer.Option("--bus", metavar="STREAM=BYTES", help="Width of an AXI4-Stream; repeatable.")]


def generate(
    engine: EngineArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="The folder to make, empty or absent.")],
    settings: SetOption = [],  # noqa: B006 -- typer copies it
    bus: BusOption = [],  # noqa: B006
    queue: Annotated[int, typer.Option("--queue", help="Jobs that wait in the kernel, a power of two.")] = 4,
    name: Annotated[str | None, typer.Option("--name", help="Name of the Verilog module; by default the engine's.")] = None,
    vectors: Annotated[int, typer.Option("--vectors", min=1, max=100, help="Golden vectors that the bench runs.")] = 6,
    seed: SeedOption = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace what is in DIR.")] = False,
    json: JsonOption = False,
):
    """Write an engine as a stand-alone kernel: AXI4-Lite registers, AXI4-Stream data.

    DIR holds the Verilog, port and register tables, a C header, golden vectors, a cocotb bench that runs on its own, and scripts
    for Vivado, Quartus, Yosys, LiteX and FuseSoC; of a kernel with a vendor's cells, that vendor's scripts alone, and models of
    the cells for the bench. Streams are as wide as their records unless --bus says otherwise.

    \b
    Example:
      sparseloom generate ternary_engine --set rows=4 --set lanes=20 -o kernel
      sparseloom generate sparse_chain --set chains=4 --set target=dsp48e2 -o kernel
    """
    from sparseloom.fpga.package import check_folder, deliverable, write_tree
    from sparseloom.hdl.bus.kernel_spec import KernelSpec
    from sparseloom.sim.twins import twins

    check_folder(output, force=force)
    build, name = build_of(engine, settings), engine if name is None else name
    try:
        widths = {stream: int(text) if text.isdecimal() else text for stream, text in parse_pairs(bus, "--bus").items()}
        spec = KernelSpec(build=build, queue=queue, bus_bytes=widths)
        files = deliverable(spec, name, count=vectors, seed=seed, twins=twins)
    except (TypeError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    write_tree(files, output, force=force)
    emit({
        "name": name, "output": str(output), "digest": f"{spec.digest:016x}", "bench": f"python {output / 'sim' / 'run.py'}",
        "kernel": spec.config(), "files": list(files),
    }, json)

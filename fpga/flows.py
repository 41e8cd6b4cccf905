"""The scripts that take a kernel into other tools, and its documents: templates with the kernel's own values."""

import re
from functools import cache
from inspect import getdoc, ismodule
from pathlib import Path

from ..models.formats import (
    attention_stream,
    moe_gate_stream,
    moe_linear_stream,
    nm_load_stream,
    nm_prune_stream,
    nm_train_stream,
    nm_update_stream,
    sparse_stream,
    ternary_stream,
    vector_stream,
)
from ..models.formats.mantissas import Mantissas, align

__all__ = ["flow_files", "read_template", "render"]

CLOCK_MHZ = 300
"""Asked of the vendor's tools; an assumption."""

VIVADO_PART = "xck26-sfvc784-2LV-c"
"""The part of a Kria KV260."""

QUARTUS_FAMILY, QUARTUS_DEVICE = "Cyclone V", "5CSEBA6U23I7"
"""The part of a DE10-Nano."""

TEMPLATES = {
    "yosys/synth.ys": "yosys/synth.ys",
    "litex/{name}.py": "litex/kernel.py.in",
    "{name}.core": "kernel.core",
    "README.md": "README.md",
}
VENDOR_TEMPLATES = {
    "vivado": {
        "vivado/ooc.tcl": "vivado/ooc.tcl",
        "vivado/clocks.xdc": "vivado/clocks.xdc",
        "vivado/package_ip.tcl": "vivado/package_ip.tcl",
    },
    "quartus": {
        "quartus/project.tcl": "quartus/project.tcl",
        "quartus/{name}.sdc": "quartus/kernel.sdc",
    },
    "ecp5": {},
}
CELLS = {"DSP48E2": "vivado", "MULT18X18D": "ecp5"}
"""The one vendor whose tools know a cell: a design that instantiates it gets no other's scripts."""

_PORTABLE = ("vivado", "quartus")
_YOSYS = {"vivado": ("UltraScale+", "synth_xilinx -family xcup -flatten -noiopad -noclkbuf"), "ecp5": ("ECP5", "synth_ecp5")}
_CONSTRAINTS = {"vivado": ("vivado/clocks.xdc", "xdc"), "quartus": ("quartus/{name}.sdc", "SDC")}

# What says how operands become bytes, by engine: each one's documentation goes into the kernel's.
_FORMATS = {
    "ternary_engine": (ternary_stream, ternary_stream.pack_weights, ternary_stream.pack_activations),
    "sparse_chain": (sparse_stream, sparse_stream.pack_weights, sparse_stream.pack_activations, Mantissas, align),
    "attention": (attention_stream, attention_stream.pack),
    "moe_linear": (moe_linear_stream, moe_linear_stream.pack_weights, moe_linear_stream.pack_activations,
                   moe_linear_stream.pack_queue),
    "moe_gate": (moe_gate_stream, moe_gate_stream.pack),
    "nm_load": (nm_load_stream, nm_load_stream.pack_map, nm_load_stream.pack),
    "nm_prune": (nm_prune_stream, nm_prune_stream.pack_weights, nm_prune_stream.image),
    "nm_train": (nm_train_stream, nm_train_stream.pack_a, nm_train_stream.pack_b),
    "nm_update": (nm_update_stream, nm_update_stream.pack_values, nm_update_stream.pack_keep),
    "vector": (vector_stream, vector_stream.pack_rows, vector_stream.pack_weights),
}

_FOLDER = Path(__file__).parent / "templates"
_PLACE = re.compile(r"\{\{(\w+)\}\}")


@cache
def read_template(name):
    return (_FOLDER / name).read_text(encoding="utf-8")


def render(text, values):
    """``text`` with each ``{{key}}`` replaced; KeyError for a key without a value."""
    return _PLACE.sub(lambda found: str(values[found[1]]), text)


def flow_files(spec, design, regmap, version, count):
    """``{path: text}`` of all templates for the kernel ``spec`` exported as ``design``; ``count`` vectors lie beside it."""
    values = _values(spec, design, regmap, version, count) | _vendor_values(design)
    templates = TEMPLATES | {path: text for vendor in _vendors(design) for path, text in VENDOR_TEMPLATES[vendor].items()}
    return {path.format(name=design.name): render(read_template(template), values) for path, template in templates.items()}


def _values(spec, design, regmap, version, count):
    build, channels = spec.build, spec.channels
    return {
        "name": design.name, "version": version, "engine": build.name, "count": count, "queue": spec.queue,
        "about": " ".join(build.job_class.__doc__.split()),
        "build": ", ".join(f"{name} {value}" for name, value in spec.config()["build"].items()),
        "clock_mhz": CLOCK_MHZ, "clock_ns": f"{1000 / CLOCK_MHZ:.3f}", "vivado_part": VIVADO_PART,
        "quartus_family": QUARTUS_FAMILY, "quartus_device": QUARTUS_DEVICE,
        "interfaces": " ".join(["s_axi", *(channel.prefix for channel in channels)]),
        "virtual_ports": " ".join(port.name for port in design.ports if port.name != "aclk"),
        "class_name": "".join(part.capitalize() for part in design.name.split("_")),
        "bytes": f"{1 << regmap.addr_width:x}", "addr_width": regmap.addr_width,
        "stream_names": ", ".join(f"``{channel.name}``" for channel in channels),
        "stream_rows": "\n".join(f"| `{c.prefix}` | {c.doc} | {c.record.bytes} | {c.stride} | {c.beats} |" for c in channels),
        "records": "\n".join(f"- `{c.prefix}`: " + ", ".join(map(_field, c.record.fields)) for c in channels),
        "formats": "\n\n".join(map(_format, _FORMATS.get(build.name, ()))),
        "endpoints": "\n".join(_endpoint(channel) for channel in channels),
        "connections": "\n".join(f"            {_direction(port)}_{port.name}={_signal(port, channels)},"
                                 for port in design.ports if port.name not in ("aclk", "aresetn", "irq")),
        "start_latency": spec.start_latency,
        "rate": ", the engine's closed form if nothing stalls" if spec.full_rate else
                "; a stream narrower than its record may slow it down",
        "last_latency": ", ".join(f"{spec.last_latency(c.name)} on `{c.prefix}`" for c in spec.results),
    }


def _vendors(design):
    """Whose tools can build the design."""
    return tuple(sorted({CELLS[cell] for cell in design.primitives})) or _PORTABLE


def _vendor_values(design):
    """What depends on the vendors' cells that the design instantiates, if any."""
    vendors, cells = _vendors(design), ", ".join(design.primitives)
    constraints = {vendor: _CONSTRAINTS[vendor] for vendor in vendors if vendor in _CONSTRAINTS}
    filesets = [f"  {vendor}:\n    files: [{path.format(name=design.name)}]\n    file_type: {kind}"
                for vendor, (path, kind) in constraints.items()]
    files = ", ".join(f"sim/primitives/{cell}.v" for cell in design.primitives)
    filesets += [f"  cells:\n    files: [{files}]\n    file_type: verilogSource"] if cells else []
    scripts = ", ".join(f"`{vendor}/`" for vendor in constraints)
    family, command = _YOSYS[vendors[0]]
    return {
        "yosys_family": family, "yosys_command": command, "core_filesets": "\n".join(filesets),
        "core_vendors": "".join(f', "tool_{vendor}? ({vendor})"' for vendor in constraints),
        "core_cells": "\n    filesets_append: [cells]" if cells else "",
        "cells": f" It instantiates cells of a vendor's library: {cells}." if cells else "",
        "cells_row": f"\n| `sim/primitives/` | {cells} as the bench has them; synthesis must not see them | "
                     "written from the vendor's documentation |" if cells else "",
        "vendor_row": f"\n| {scripts} | out-of-context implementation | **not run**: no vendor tool was at hand |"
                      if scripts else "",
    }


def _format(thing):
    """The documentation of a module, or of something in one under its name, as Markdown."""
    text = re.sub(r":\w+:(`[^`]+`)", r"\1", getdoc(thing))
    return text if ismodule(thing) else f"`{thing.__module__}.{thing.__qualname__}`: {text}"


def _field(field):
    kind = f"{'signed' if field.signed else 'unsigned'} {field.width} bits"
    return f"{field.name} ({kind}{f', {field.lanes} lanes' if field.lanes > 1 else ''}{f': {field.doc}' if field.doc else ''})"


def _endpoint(channel):
    """Lines of the LiteX wrapper that make the endpoint of a channel."""
    line = f"        self.{channel.name} = {channel.name} = AXIStreamInterface(data_width={8 * channel.bus_bytes})"
    if channel.kind == "result":
        line += f"\n        self.comb += {channel.name}.keep.eq(2**{channel.bus_bytes} - 1)"
    return line


def _direction(port):
    return "i" if port.direction == "input" else "o"


def _signal(port, channels):
    """The LiteX signal behind a port of the Verilog module."""
    prefix, _, signal = port.name.rpartition("_")
    if prefix == "s_axi":
        channel = next(name for name in ("aw", "ar", "w", "b", "r") if signal.startswith(name))
        return f"bus.{channel}.{signal[len(channel):]}"
    name = next(channel.name for channel in channels if channel.prefix == prefix)
    return f"{name}.{signal[1:]}"

"""The scripts that take a kernel into other tools, and its documents: templates with the kernel's own values."""

import re
from functools import cache
from inspect import getdoc
from pathlib import Path

from ..models.formats import ternary_stream

__all__ = ["flow_files", "read_template", "render"]

CLOCK_MHZ = 300
"""Asked of the vendor's tools; an assumption."""

VIVADO_PART = "xck26-sfvc784-2LV-c"
"""The part of a Kria KV260."""

QUARTUS_FAMILY, QUARTUS_DEVICE = "Cyclone V", "5CSEBA6U23I7"
"""The part of a DE10-Nano."""

TEMPLATES = {
    "vivado/ooc.tcl": "vivado/ooc.tcl",
    "vivado/clocks.xdc": "vivado/clocks.xdc",
    "vivado/package_ip.tcl": "vivado/package_ip.tcl",
    "quartus/project.tcl": "quartus/project.tcl",
    "quartus/{name}.sdc": "quartus/kernel.sdc",
    "yosys/synth.ys": "yosys/synth.ys",
    "litex/{name}.py": "litex/kernel.py.in",
    "{name}.core": "kernel.core",
    "README.md": "README.md",
}

# What says how operands become bytes, by engine: each one's documentation goes into the kernel's.
_FORMATS = {"ternary_engine": (ternary_stream, ternary_stream.pack_weights, ternary_stream.pack_activations)}

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
    values = _values(spec, design, regmap, version, count)
    return {path.format(name=design.name): render(read_template(template), values) for path, template in TEMPLATES.items()}


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
        "formats": "\n\n".join(getdoc(thing) for thing in _FORMATS.get(build.name, ())),
        "endpoints": "\n".join(_endpoint(channel) for channel in channels),
        "connections": "\n".join(f"            {_direction(port)}_{port.name}={_signal(port, channels)},"
                                 for port in design.ports if port.name not in ("aclk", "aresetn", "irq")),
        "start_latency": spec.start_latency,
        "rate": ", the engine's closed form if nothing stalls" if spec.full_rate else
                "; a stream narrower than its record may slow it down",
        "last_latency": ", ".join(f"{spec.last_latency(c.name)} on `{c.prefix}`" for c in spec.results),
    }


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

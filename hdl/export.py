"""From a component to Verilog with the port names a toolchain likes, and a manifest that says what each port is."""

import gc
import hashlib
import json
import re
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property

from amaranth.back import verilog
from amaranth.hdl import Fragment, Instance, Value
from amaranth.hdl._ir import PortDirection
from amaranth.lib.wiring import In

from .shared_modules import share_modules

__all__ = ["Design", "Port", "export"]


@dataclass(frozen=True)
class Port:
    """A port of the top module. ``group`` names the interface it belongs to ("" for clock and reset), ``role`` its part there:
    the member's own name (``payload``, ``valid``, ``ready``, ``addr``, ``data``...), or ``clock`` or ``reset``."""

    name: str
    direction: str
    """``input`` or ``output``, seen from the module."""
    width: int
    role: str
    group: str = ""


@dataclass(frozen=True)
class Design:
    """Synthesisable Verilog of the top module ``name`` and all below it; clock ``clk``, synchronous active-high reset ``rst``."""

    name: str
    verilog: str
    ports: tuple[Port, ...]
    primitives: tuple[str, ...] = ()
    """Modules that it instantiates and does not define: cells of a vendor's library."""

    @cached_property
    def digest(self):
        """SHA-256 of the Verilog and the manifest, in hexadecimal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def to_json(self):
        """The design as JSON text; :meth:`from_json` reads it back."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text):
        values = json.loads(text)
        return cls(values["name"], values["verilog"], tuple(Port(**port) for port in values["ports"]),
                   tuple(values["primitives"]))


def export(component, name):
    """The :class:`Design` of an Amaranth ``component``, its top module and the prefix of all others called ``name``.

    A port's name is its path in the signature joined by single underscores; a struct is one vector, its first field in the least
    significant bits. The text depends on the component and the tools' versions alone: same bytes in every process, no file names.
    Raises ValueError if ``name`` is no plain identifier (Verilator mistakes double underscores) or two paths join to one.
    """
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or "__" in name:
        raise ValueError(f"name must be a Verilog identifier without a double underscore, got {name!r}")
    arguments, ports = {}, []
    for path, member, value in component.signature.flatten(component):
        flat, value = "_".join(map(str, path)), Value.cast(value)
        if flat in arguments or flat in ("clk", "rst"):
            raise ValueError(f"two ports would be called {flat}")
        inward = member.flow == In
        arguments[flat] = (value, PortDirection.Input if inward else PortDirection.Output)
        ports.append(Port(flat, "input" if inward else "output", len(value), str(path[-1]), "_".join(map(str, path[:-1]))))
    with _no_garbage_collection():
        fragment = Fragment.get(component, None)
        primitives = tuple(sorted(_primitives(fragment)))
        text, _ = verilog.convert_fragment(fragment, arguments, name, emit_src=False, strip_internal_attrs=True)
    # A signal without bits: Verilog would read [-1:0] as two. Nothing can refer to it.
    text = re.sub(r"^ *(wire|reg) \[-1:0\] .*;\n", "", _plain_modules(text, name), flags=re.MULTILINE)
    text = share_modules(text, name)
    # A design without registers has no clock, one without reset values no reset; one that makes its own domain has neither.
    top = re.search(rf"^module {name} *\(.*?^endmodule", text, re.MULTILINE | re.DOTALL)
    if top is None:
        raise ValueError(f"name must not be a word of Verilog's own, got {name!r}")
    domain = [Port(port, "input", 1, role) for port, role in (("clk", "clock"), ("rst", "reset"))
              if re.search(rf"^\s*input {port};", top[0], re.MULTILINE)]
    return Design(name, text, (*domain, *ports), primitives)


def _primitives(fragment):
    """Types of all instances in a fragment and below it."""
    own = {fragment.type} if isinstance(fragment, Instance) else set()
    return own.union(*(_primitives(below) for below, *_ in fragment.subfragments))


@contextmanager
def _no_garbage_collection():
    """Conversion makes millions of small objects, none of them garbage: looking for cycles among them doubles its time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _plain_modules(text, top):
    r"""``text`` with each module called ``\top.a.b`` renamed to ``top_a_b``: escaped names trip other tools' scripts."""
    names, taken = {}, {top}
    for escaped in re.findall(r"^module \\(\S+) *\(", text, re.MULTILINE):
        plain = base = re.sub(r"\W", "_", escaped)
        count = 1
        while plain in taken:
            count += 1
            plain = f"{base}_{count}"
        taken.add(plain)
        names[escaped] = plain
    # A module name stands after "module" or at the start of an instance's line; signals with the same text stay as they are.
    return re.sub(r"^(\s*(?:module )?)\\(\S+) ",
                  lambda found: f"{found[1]}{names[found[2]]} " if found[2] in names else found[0], text, flags=re.MULTILINE)

"""Verilog with each module once, however often Amaranth wrote it: a PE of an array is one module, not a copy for each place."""

import re

__all__ = ["share_modules"]

_MODULE = re.compile(r"^module (\w+) *\(.*?^endmodule\n", re.MULTILINE | re.DOTALL)
_INSTANCE = re.compile(r"^( +)(\w+) (?=[^=;\n]*\(\n)", re.MULTILINE)
_MADE_UP = re.compile(r"\\\$auto\$[\w.$:]+ ")
"""Names that Yosys numbers through the whole design."""


def share_modules(text, top):
    """``text`` without modules that say the same as an earlier one but for their name; the top module stays."""
    modules = {found[1]: _numbered(found[0]) for found in _MODULE.finditer(text)}
    while True:
        first, same = {}, {}
        for name, body in modules.items():
            says = body.replace(f"module {name}", "module", 1)
            if name == top or says not in first:
                first.setdefault(says, name)
            else:
                same[name] = first[says]
        if not same:
            return _MODULE.sub("", text).rstrip() + "\n\n" + "\n".join(modules.values())
        # What instantiates them may now say the same, too.
        modules = {name: _renamed(body, same) for name, body in modules.items() if name not in same}


def _renamed(body, names):
    """Instances of modules that have another name now."""
    return _INSTANCE.sub(lambda found: f"{found[1]}{names.get(found[2], found[2])} ", body)


def _numbered(body):
    """Made-up names numbered within the module."""
    names = {}
    return _MADE_UP.sub(lambda found: names.setdefault(found[0], f"\\$auto${len(names) + 1} "), body)

"""A register map as software wants it: Markdown for people, JSON for tools, a header for C and C++."""

import json

from ..hdl.bus.regmap import ACCESSES, WORD_BITS

__all__ = ["register_header", "register_json", "register_markdown"]

_DIGITS = WORD_BITS // 4


def register_json(regmap):
    """The whole map; ``job`` and ``done`` say which bits of the records each register holds."""
    return json.dumps(regmap.to_dict(), indent=1) + "\n"


def register_markdown(regmap, name):
    """Tables of all registers and their fields."""
    lines = [
        f"# Registers of {name}", "",
        f"{len(regmap.registers)} words of {WORD_BITS} bits, little-endian, at byte offsets from a base aligned to",
        f"{1 << regmap.addr_width} bytes. A write to a word that cannot be written is answered with SLVERR, an address without",
        "a register with DECERR; both set ERROR.bad_access. Everything else is answered with OKAY, a refused GO or POP too: it",
        "sets its bit of ERROR instead, because many processors cannot recover from a failed write. Byte strobes are honoured,",
        "the two low bits of an address are not looked at.", "",
        "Accesses: " + "; ".join(f"*{name}*: {text}" for name, text in ACCESSES.items()) + ".", "",
        "| offset | name | access | bits | field | meaning |", "|---|---|---|---|---|---|",
    ]
    for register in regmap.registers:
        for index, field in enumerate(register.fields):
            top = field.low + field.width - 1
            head = f"`0x{register.offset:03x}` | {register.name} | {register.access}" if index == 0 else " | | "
            doc = field.doc + (", two's complement" if register.signed else "")
            if register.value is not None and len(register.fields) == 1:
                doc += f": `0x{register.value:08x}`"
            lines.append(f"| {head} | {f'{top}:{field.low}' if field.width > 1 else field.low} | {field.name} | {doc} |")
    return "\n".join(lines) + "\n"


def register_header(regmap, name):
    """A C99 header: offsets, masks and shifts; a struct of the JOB and one of the DONE registers; push and pop."""
    upper, guard = name.upper(), f"{name.upper()}_REGS_H"
    lines = [f"/* Registers of {name}: byte offsets, masks, a minimal driver. Written from the same table as the hardware. */",
             f"#ifndef {guard}", f"#define {guard}", "", "#include <stdbool.h>", "#include <stdint.h>", "",
             f"#define {upper}_BYTES 0x{1 << regmap.addr_width:x}u"]
    for register in regmap.registers:
        lines.append(f"#define {upper}_{register.name} 0x{register.offset:03x}u /* {ACCESSES[register.access]} */")
        if register.value is not None:
            lines.append(f"#define {upper}_{register.name}_VALUE 0x{register.value:0{_DIGITS}x}u")
        if len(register.fields) > 1 or register.fields[0].name != "value":
            for field in register.fields:
                field_name = f"{upper}_{register.name}_{field.name.upper()}"
                lines += [f"#define {field_name}_MASK 0x{field.mask:0{_DIGITS}x}u", f"#define {field_name}_SHIFT {field.low}"]
    structs = [*_struct(regmap, name, "job", regmap.job), "", *_struct(regmap, name, "done", regmap.done)]
    return "\n".join([*lines, "", *structs, "", *_driver(regmap, name), "", f"#endif /* {guard} */", ""])


def _members(regmap, pieces):
    """``(member, C type, register)`` for each register of a record."""
    for piece in pieces:
        register = regmap[piece.register]
        yield register.name.partition("_")[2].lower(), "int32_t" if register.signed else "uint32_t", register


def _struct(regmap, name, kind, pieces):
    lines = [f"struct {name}_{kind} {{"]
    for member, ctype, register in _members(regmap, pieces):
        lines.append(f"    {ctype} {member}; /* {register.fields[0].width} bits: {register.doc} */")
    return [*lines, "};"]


def _driver(regmap, name):
    upper = name.upper()
    write = [f"    base[{upper}_{register.name} / 4] = (uint32_t)job->{member};"
             for member, _, register in _members(regmap, regmap.job)]
    read = [f"    done->{member} = ({ctype})base[{upper}_{register.name} / 4];"
            for member, ctype, register in _members(regmap, regmap.done)]
    return [
        "/* Push a job; `loads` is the OR of GO's load masks. False if the queue is full. */",
        f"static inline bool {name}_push(volatile uint32_t *base, const struct {name}_job *job, uint32_t loads)", "{",
        f"    uint32_t level = (base[{upper}_STATUS / 4] & {upper}_STATUS_QUEUE_LEVEL_MASK) >> {upper}_STATUS_QUEUE_LEVEL_SHIFT;",
        f"    if (level == {upper}_CAP_QUEUE_VALUE)", "        return false;",
        *write, f"    base[{upper}_GO / 4] = {upper}_GO_PUSH_MASK | loads;", "    return true;", "}", "",
        "/* Read and drop the oldest completion. False if there is none. */",
        f"static inline bool {name}_pop(volatile uint32_t *base, struct {name}_done *done)", "{",
        f"    if (!(base[{upper}_STATUS / 4] & {upper}_STATUS_DONE_LEVEL_MASK))", "        return false;",
        *read, f"    base[{upper}_POP / 4] = {upper}_POP_POP_MASK;", "    return true;", "}",
    ]

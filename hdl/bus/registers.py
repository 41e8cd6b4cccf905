"""The gates of a register map."""

from amaranth.hdl import Const, Module, Signal
from amaranth.lib.wiring import Component, In, Out

from .axi_lite import AccessPort, Resp
from .regmap import WORD_BITS

__all__ = ["Registers"]


class Registers(Component):
    """Bank of the registers of a :class:`~sparseloom.hdl.bus.regmap.RegisterMap`.

    *Members*, by the register's name in lower case: ``read``: ``<name>`` in, its value. ``read_write``: ``<name>`` out.
    ``clear``: ``<name>`` out, ``<name>_set`` in, bits to set (setting wins over clearing). ``write``: ``<name>`` out, what is
    written in the cycle in which ``<name>_strobe`` is high. ``access`` from the bus. ``out_of_range`` high while a ``JOB``
    register is written a value that it cannot hold.
    *Behaviour*: bits outside a register's fields read as 0 (copies of the sign if it is signed) and are not kept. Answers OKAY,
    DECERR where no register is, SLVERR to a write where nothing can be written. *Latency*: reads combinational; writes visible
    one cycle later.
    """

    def __init__(self, regmap):
        self.regmap = regmap
        members = {"access": In(AccessPort(regmap.addr_width)), "out_of_range": Out(1)}
        for register in regmap.registers:
            name, width = register.name.lower(), register.mask.bit_length()
            members |= {
                "constant": {},
                "read": {name: In(width)},
                "read_write": {name: Out(width)},
                "clear": {name: Out(width), f"{name}_set": In(width)},
                "write": {name: Out(width), f"{name}_strobe": Out(1)},
            }[register.access]
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        access = self.access
        m.d.comb += [access.write_resp.eq(Resp.DECERR), access.read_resp.eq(Resp.DECERR)]
        with m.Switch(access.read_addr):
            for register in self.regmap.registers:
                with m.Case(register.offset * 8 // WORD_BITS):
                    m.d.comb += [access.read_resp.eq(Resp.OKAY), access.read_data.eq(self._reads_as(register))]
        for register in self.regmap.registers:
            if register.access == "clear":
                value = getattr(self, register.name.lower())
                m.d.sync += value.eq(value | getattr(self, f"{register.name.lower()}_set"))
        with m.Switch(access.write_addr):
            for register in self.regmap.registers:
                with m.Case(register.offset * 8 // WORD_BITS):
                    self._write(m, register)
        return m

    def _reads_as(self, register):
        if register.access == "constant":
            return register.value
        if register.access == "write":
            return 0
        value = getattr(self, register.name.lower())
        return value.as_signed() if register.signed else value & register.mask

    def _write(self, m, register):
        access, name = self.access, register.name.lower()
        if register.access in ("constant", "read"):
            m.d.comb += access.write_resp.eq(Resp.SLVERR)
            return
        m.d.comb += access.write_resp.eq(Resp.OKAY)
        value, mask = getattr(self, name), access.write_mask & register.mask
        if register.access == "write":
            m.d.comb += [value.eq(access.write_data & mask), getattr(self, f"{name}_strobe").eq(access.write)]
            return
        kept = Signal(len(value), name=f"{name}_next")
        m.d.comb += kept.eq((value & ~mask) | (access.write_data & mask))
        with m.If(access.write):
            if register.access == "clear":
                m.d.sync += value.eq((value & ~(access.write_data & mask)) | getattr(self, f"{name}_set"))
            else:
                m.d.sync += value.eq(kept)
            if register.checked:
                # Bytes that are not written say nothing about the range.
                above, written = access.write_data[len(value):], access.write_mask[len(value):]
                sign = kept[-1] if register.signed else Const(0, 1)
                m.d.comb += self.out_of_range.eq(((above ^ sign.replicate(len(above))) & written).any())

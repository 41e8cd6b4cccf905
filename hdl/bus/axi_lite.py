"""AXI4-Lite subordinate: one write and one read at a time, handed on as plain accesses to a bank of registers."""

from enum import IntEnum

from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import Component, In, Out, Signature

from .regmap import WORD_BITS

__all__ = ["AccessPort", "AxiLite", "Resp", "axi_lite_members"]

_BYTES = WORD_BITS // 8
_ALIGN_BITS = (_BYTES - 1).bit_length()


class Resp(IntEnum):
    """BRESP and RRESP."""

    OKAY = 0
    SLVERR = 2
    DECERR = 3


class AccessPort(Signature):
    """Accesses to registers, seen from the bus: ``write`` or ``read`` high for one cycle, in which ``*_resp`` and ``read_data``
    answer.

    Addresses count words; ``write_mask`` has a bit set for each bit of the word that is written.
    """

    def __init__(self, addr_width):
        words = max(1, addr_width - _ALIGN_BITS)
        super().__init__({
            "write": Out(1), "write_addr": Out(words), "write_data": Out(WORD_BITS), "write_mask": Out(WORD_BITS),
            "write_resp": In(2),
            "read": Out(1), "read_addr": Out(words), "read_data": In(WORD_BITS), "read_resp": In(2),
        })


def axi_lite_members(prefix, addr_width):
    """Ports of a subordinate by their AMBA names, as members of a signature."""
    address = {"addr": In(addr_width), "prot": In(3), "valid": In(1), "ready": Out(1)}
    channels = {
        "aw": address,
        "w": {"data": In(WORD_BITS), "strb": In(_BYTES), "valid": In(1), "ready": Out(1)},
        "b": {"resp": Out(2), "valid": Out(1), "ready": In(1)},
        "ar": address,
        "r": {"data": Out(WORD_BITS), "resp": Out(2), "valid": Out(1), "ready": In(1)},
    }
    return {f"{prefix}_{channel}{name}": member for channel, members in channels.items() for name, member in members.items()}


class AxiLite(Component):
    """*Behaviour*: a write is done when its address and its data have both arrived, in either order or together; reads are
    independent of writes.

    The two low bits of an address are not looked at: WSTRB says which bytes of the word are written, and a read answers with
    the whole word, so that a processor's accesses to single bytes work. AxPROT is ignored.
    *Members*: the five channels as ``s_axi_*``; ``access``, an :class:`AccessPort`; ``refused``, high with a response other
    than OKAY.
    *Latency*: response valid 2 cycles after the last of AW and W, or after AR, was accepted. *Handshake*: every output leaves
    from a register; an access every 2 cycles.
    """

    PREFIX = "s_axi"

    def __init__(self, addr_width):
        self.addr_width = addr_width
        super().__init__({**axi_lite_members(self.PREFIX, addr_width), "access": Out(AccessPort(addr_width)), "refused": Out(1)})

    def elaborate(self, platform):
        m = Module()
        access = self.access
        aw_held, w_held, ar_held = Signal(), Signal(), Signal()
        aw, ar = (Signal(self.addr_width, reset_less=True, name=name) for name in ("aw", "ar"))
        data, strobe = Signal(WORD_BITS, reset_less=True), Signal(_BYTES, reset_less=True)
        m.d.comb += [self.s_axi_awready.eq(~aw_held), self.s_axi_wready.eq(~w_held), self.s_axi_arready.eq(~ar_held)]
        with m.If(self.s_axi_awvalid & ~aw_held):
            m.d.sync += [aw.eq(self.s_axi_awaddr), aw_held.eq(1)]
        with m.If(self.s_axi_wvalid & ~w_held):
            m.d.sync += [data.eq(self.s_axi_wdata), strobe.eq(self.s_axi_wstrb), w_held.eq(1)]
        with m.If(self.s_axi_arvalid & ~ar_held):
            m.d.sync += [ar.eq(self.s_axi_araddr), ar_held.eq(1)]

        write, read = Signal(), Signal()
        m.d.comb += [
            write.eq(aw_held & w_held & (~self.s_axi_bvalid | self.s_axi_bready)),
            read.eq(ar_held & (~self.s_axi_rvalid | self.s_axi_rready)),
            access.write.eq(write), access.write_addr.eq(aw[_ALIGN_BITS:]), access.write_data.eq(data),
            *(access.write_mask[8 * byte:8 * byte + 8].eq(strobe[byte].replicate(8)) for byte in range(_BYTES)),
            access.read.eq(read), access.read_addr.eq(ar[_ALIGN_BITS:]),
            self.refused.eq((write & (access.write_resp != Resp.OKAY)) | (read & (access.read_resp != Resp.OKAY))),
        ]

        with m.If(self.s_axi_bready):
            m.d.sync += self.s_axi_bvalid.eq(0)
        with m.If(write):
            m.d.sync += [self.s_axi_bvalid.eq(1), self.s_axi_bresp.eq(access.write_resp), aw_held.eq(0), w_held.eq(0)]
        with m.If(self.s_axi_rready):
            m.d.sync += self.s_axi_rvalid.eq(0)
        with m.If(read):
            m.d.sync += [
                self.s_axi_rvalid.eq(1), self.s_axi_rresp.eq(access.read_resp), self.s_axi_rdata.eq(access.read_data),
                ar_held.eq(0),
            ]
        return m

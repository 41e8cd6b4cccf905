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

    An address that is no multiple of 4 gets SLVERR and touches nothing; every other response is the register bank's. AxPROT is
    ignored.
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
        write_aligned, read_aligned = (~address[:_ALIGN_BITS].any() for address in (aw, ar))
        write_resp, read_resp = Signal(2), Signal(2)
        m.d.comb += [
            write.eq(aw_held & w_held & (~self.s_axi_bvalid | self.s_axi_bready)),
            read.eq(ar_held & (~self.s_axi_rvalid | self.s_axi_rready)),
            access.write.eq(write & write_aligned), access.write_addr.eq(aw[_ALIGN_BITS:]), access.write_data.eq(data),
            *(access.write_mask[8 * byte:8 * byte + 8].eq(strobe[byte].replicate(8)) for byte in range(_BYTES)),
            access.read.eq(read & read_aligned), access.read_addr.eq(ar[_ALIGN_BITS:]),
            write_resp.eq(Resp.SLVERR), read_resp.eq(Resp.SLVERR),
        ]
        with m.If(write_aligned):
            m.d.comb += write_resp.eq(access.write_resp)
        with m.If(read_aligned):
            m.d.comb += read_resp.eq(access.read_resp)
        m.d.comb += self.refused.eq((write & (write_resp != Resp.OKAY)) | (read & (read_resp != Resp.OKAY)))

        with m.If(self.s_axi_bready):
            m.d.sync += self.s_axi_bvalid.eq(0)
        with m.If(write):
            m.d.sync += [self.s_axi_bvalid.eq(1), self.s_axi_bresp.eq(write_resp), aw_held.eq(0), w_held.eq(0)]
        with m.If(self.s_axi_rready):
            m.d.sync += self.s_axi_rvalid.eq(0)
        with m.If(read):
            m.d.sync += [self.s_axi_rvalid.eq(1), self.s_axi_rresp.eq(read_resp), ar_held.eq(0), self.s_axi_rdata.eq(0)]
            with m.If(read_aligned):
                m.d.sync += self.s_axi_rdata.eq(access.read_data)
        return m

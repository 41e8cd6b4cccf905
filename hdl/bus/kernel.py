"""Any engine as a stand-alone block: AXI4-Lite registers, AXI4-Stream operands and results."""

from amaranth.hdl import ClockDomain, ClockSignal, Module, ResetSignal
from amaranth.lib.wiring import Component, In, Out

from .core import KernelCore, kernel_members

__all__ = ["Kernel"]


class Kernel(Component):
    """*Behaviour*: software writes the ``JOB`` registers, then GO; it sends each buffer's words on ``s_axis_<buffer>`` as one
    packet and the operands on ``s_axis_<operand>``, before or after. Results leave on ``m_axis_<result>``, a packet for each
    job that has any. The completion shows in the ``DONE`` registers when the last beat has left, until POP. Jobs end in the
    order in which they were pushed.

    *Parameters*: ``spec``, a :class:`~sparseloom.hdl.bus.kernel_spec.KernelSpec`; ``engine``, by default the family's own.
    *Members*: ``aclk``; ``aresetn``, active low, synchronous; ``s_axi_*``; ``s_axis_<operand>_*``, ``s_axis_<buffer>_*`` (with
    TKEEP, which is checked); ``m_axis_<result>_*`` (no TKEEP: every byte is kept, so that a DMA takes any width); ``irq``, high
    while an enabled cause stands.
    *Latency*: the closed forms of the spec. With streams as wide as their records the engine keeps its own rate and its
    ``cycles``.
    *Handshake*: every output leaves from a register, ``irq`` from two and a gate.
    *Limits*: the engine offers no result of a job before the previous job's ``done`` was accepted, and reads for a job only
    between the first offers of the previous job's ``done`` and of its own. Words that a packet is too short for are what that
    half of the buffer held before.
    """

    def __init__(self, spec, engine=None):
        self.spec, self.engine = spec, engine
        super().__init__({"aclk": In(1), "aresetn": In(1), **kernel_members(spec)})

    def elaborate(self, platform):
        m = Module()
        m.domains.sync = ClockDomain("sync")
        m.submodules.core = core = KernelCore(self.spec, self.engine)
        m.d.comb += [ClockSignal().eq(self.aclk), ResetSignal().eq(~self.aresetn)]
        for name, member in kernel_members(self.spec).items():
            outer, inner = getattr(self, name), getattr(core, name)
            m.d.comb += outer.eq(inner) if member.flow == Out else inner.eq(outer)
        return m

"""The ports of an engine as Amaranth signatures, derived from its spec."""

from amaranth.hdl import signed, unsigned
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out, Signature

__all__ = ["BufferPort", "EngineSignature", "layout"]


def layout(record):
    """The Amaranth struct of a :class:`~sparseloom.models.spec.record.Record`: same fields, same bits."""
    def shape(field):
        lane = signed(field.width) if field.signed else unsigned(field.width)
        return data.ArrayLayout(lane, field.lanes) if field.lanes > 1 else lane
    return data.StructLayout({field.name: shape(field) for field in record.fields})


class BufferPort(Signature):
    """Reads of an on-chip buffer, seen from the engine: request ``addr`` with ``valid``/``ready``, ``data`` exactly
    ``read_latency`` cycles after acceptance."""

    def __init__(self, buffer):
        super().__init__({"addr": Out(buffer.addr_width), "valid": Out(1), "ready": In(1), "data": In(buffer.width)})


class EngineSignature(Signature):
    """``job`` in, ``i_<operand>`` in, ``x_<buffer>`` reads, ``o_<result>`` out, ``done`` out, as ``spec.engine`` defines them."""

    def __init__(self, build):
        members = {"job": In(stream.Signature(layout(build.job_record)))}
        members |= {f"i_{s.name}": In(stream.Signature(layout(s.record))) for s in build.inputs}
        members |= {f"x_{b.name}": Out(BufferPort(b)) for b in build.buffers}
        members |= {f"o_{s.name}": Out(stream.Signature(layout(s.record))) for s in build.outputs}
        members["done"] = Out(stream.Signature(layout(build.done_record)))
        super().__init__(members)

"""The ports of what stands between intake and results."""

from amaranth.hdl import signed
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from ..common.ports import BufferPort, layout

__all__ = ["stage_ports"]


def stage_ports(build):
    """Members of every kind of function.

    In: ``x``, ``put``, ``first``, ``last``, ``inside`` of the intake; ``took``, ``took_last``: a beat was taken and comes in the
    next cycle; ``job`` with ``start``; ``credit``: results have room for a beat. Out: ``room`` for another beat, a register;
    ``issued``: a beat of results will come; ``y``, ``y_put``, ``y_last``: it; ``early``: so many arguments were clamped.
    ``x_weight`` reads, and ``stall``: they were refused, where the build has weights.
    """
    ports = {
        "x": In(data.ArrayLayout(signed(32), build.lanes)), "put": In(1), "first": In(1), "last": In(1),
        "inside": In(build.lanes),
        "took": In(1), "took_last": In(1), "job": In(layout(build.job_record)), "start": In(1), "credit": In(1),
        "room": Out(1), "issued": Out(1), "y": Out(data.ArrayLayout(signed(build.value_width), build.lanes)), "y_put": Out(1),
        "y_last": Out(1), "early": Out(range(build.lanes + 1)), "stall": Out(1),
    }
    return ports | {f"x_{buffer.name}": Out(BufferPort(buffer)) for buffer in build.buffers}

"""A kernel without its clock and reset pins: an engine, its buffers, its registers, its streams."""

from amaranth.hdl import Cat, Module, ResetInserter, Signal
from amaranth.lib.wiring import Component, Out

from ..engines import component
from .axi_lite import AxiLite, axi_lite_members
from .axi_stream import StreamReceiver, StreamSender, axi_stream_members
from .job_control import JobControl
from .last_marker import LastMarker
from .loaded_buffer import LoadedBuffer
from .registers import Registers
from .regmap import ERROR_BITS, FIRST_FRAMING_BIT, FIRST_LOAD_BIT, FIRST_OVERLONG_BIT, register_map

__all__ = ["KernelCore", "kernel_members"]


def kernel_members(spec):
    """The AMBA ports of a kernel and its interrupt, as members of a signature."""
    members = axi_lite_members(AxiLite.PREFIX, register_map(spec).addr_width)
    for channel in spec.channels:
        members |= axi_stream_members(channel)
    return {**members, "irq": Out(1)}


class KernelCore(Component):
    """The kernel of :class:`~sparseloom.hdl.bus.kernel.Kernel` in the domain ``sync``.

    *Parameters*: ``spec``, a :class:`~sparseloom.hdl.bus.kernel_spec.KernelSpec`; ``engine``, a component with the ports
    ``EngineSignature(spec.build)``, by default the family's own. It is driven through these ports alone.
    """

    def __init__(self, spec, engine=None):
        self.spec, self.engine = spec, engine
        super().__init__(kernel_members(spec))

    def elaborate(self, platform):
        m = Module()
        spec = self.spec
        engine = component(spec.build) if self.engine is None else self.engine
        m.submodules.registers = registers = Registers(register_map(spec))
        # CONTROL.reset clears everything between the registers and the edges of the streams, which keep to their protocol.
        reset = registers.control[0]
        control = JobControl(spec)
        m.submodules.engine = ResetInserter(reset)(engine)
        m.submodules.control = ResetInserter(reset)(control)
        m.d.comb += [
            engine.job.payload.eq(control.job.payload), engine.job.valid.eq(control.job.valid),
            control.job.ready.eq(engine.job.ready), engine.done.ready.eq(control.done.ready),
            control.done.payload.eq(engine.done.payload), control.done.valid.eq(engine.done.valid),
        ]
        errors = Signal(32)
        self._operands(m, engine, reset, errors)
        self._buffers(m, engine, reset, control, errors)
        quiet = self._results(m, engine, reset, control)
        self._registers(m, registers, control, errors, quiet)
        return m

    def _receive(self, m, channel, reset, framing):
        """The records of an incoming channel."""
        m.submodules[f"receive_{channel.name}"] = receiver = StreamReceiver(channel)
        port = {name: getattr(self, f"{channel.prefix}_{name}") for name in ("tdata", "tkeep", "tlast", "tvalid", "tready")}
        beat = receiver.i.payload
        m.d.comb += [
            beat.data.eq(port["tdata"]), beat.keep.eq(port["tkeep"]), beat.last.eq(port["tlast"]),
            receiver.i.valid.eq(port["tvalid"]), port["tready"].eq(receiver.i.ready),
            receiver.flush.eq(reset), framing.eq(receiver.framing),
        ]
        return receiver.o

    def _operands(self, m, engine, reset, errors):
        for index, channel in enumerate(self.spec.operands):
            records = self._receive(m, channel, reset, errors[FIRST_FRAMING_BIT + index])
            port = getattr(engine, f"i_{channel.name}")
            m.d.comb += [
                port.payload.as_value().eq(records.payload.data), port.valid.eq(records.valid), records.ready.eq(port.ready),
            ]

    def _buffers(self, m, engine, reset, control, errors):
        for index, (buffer, channel) in enumerate(zip(self.spec.build.buffers, self.spec.loads, strict=True)):
            records = self._receive(m, channel, reset, errors[FIRST_FRAMING_BIT + len(self.spec.operands) + index])
            memory = LoadedBuffer(buffer, channel)
            m.submodules[f"buffer_{buffer.name}"] = ResetInserter(reset)(memory)
            port = getattr(engine, f"x_{buffer.name}")
            m.d.comb += [
                memory.i.payload.eq(records.payload), memory.i.valid.eq(records.valid), records.ready.eq(memory.i.ready),
                memory.x.addr.eq(port.addr), memory.x.valid.eq(port.valid), port.ready.eq(memory.x.ready),
                port.data.eq(memory.x.data),
                control.loaded[index].eq(memory.loaded), memory.take.eq(control.take[index]),
                errors[FIRST_OVERLONG_BIT + index].eq(memory.overlong),
            ]

    def _results(self, m, engine, reset, control):
        """Connects the result streams and returns whether all are quiet."""
        quiet = []
        for index, channel in enumerate(self.spec.results):
            marker, sender = LastMarker(channel), StreamSender(channel)
            m.submodules[f"mark_{channel.name}"] = ResetInserter(reset)(marker)
            m.submodules[f"send_{channel.name}"] = sender
            port = getattr(engine, f"o_{channel.name}")
            m.d.comb += [
                marker.i.payload.eq(port.payload.as_value()), marker.i.valid.eq(port.valid), port.ready.eq(marker.i.ready),
                marker.close.eq(control.close), control.held[index].eq(marker.held), control.sent[index].eq(sender.sent),
                sender.i.payload.eq(marker.o.payload), sender.i.valid.eq(marker.o.valid), marker.o.ready.eq(sender.i.ready),
                sender.flush.eq(reset),
            ]
            bus = {name: getattr(self, f"{channel.prefix}_{name}") for name in ("tdata", "tlast", "tvalid", "tready")}
            m.d.comb += [
                bus["tdata"].eq(sender.o.payload.data), bus["tlast"].eq(sender.o.payload.last), bus["tvalid"].eq(sender.o.valid),
                sender.o.ready.eq(bus["tready"]),
            ]
            quiet.append(sender.quiet)
        return Cat(*quiet).all()

    def _registers(self, m, registers, control, errors, quiet):
        regmap = registers.regmap
        m.submodules.bus = bus = AxiLite(regmap.addr_width)
        for name, member in axi_lite_members(AxiLite.PREFIX, regmap.addr_width).items():
            outer, inner = getattr(self, name), getattr(bus, name)
            m.d.comb += outer.eq(inner) if member.flow == Out else inner.eq(outer)
        for name, member in bus.access.signature.members.items():
            outer, inner = getattr(bus.access, name), getattr(registers.access, name)
            m.d.comb += inner.eq(outer) if member.flow == Out else outer.eq(inner)

        job = control.push.payload.job.as_value()
        for piece in regmap.job:
            m.d.comb += job[piece.low:piece.low + piece.width].eq(getattr(registers, piece.register.lower()))
        completion = control.completion
        for piece in regmap.done:
            value = completion.payload.as_value()[piece.low:piece.low + piece.width]
            m.d.comb += getattr(registers, piece.register.lower()).eq(value & completion.valid.replicate(piece.width))
        reset = registers.control[0]
        push, pop = registers.go_strobe & registers.go[0], registers.pop_strobe & registers.pop[0]
        m.d.comb += [
            control.push.valid.eq(push & ~reset), control.push.payload.load.eq(registers.go[FIRST_LOAD_BIT:]),
            completion.ready.eq(pop),
            Cat(errors[:len(ERROR_BITS)]).eq(Cat(
                push & (reset | ~control.push.ready), pop & ~completion.valid, registers.out_of_range, bus.refused)),
        ]
        status = {"idle": control.idle, "quiet": quiet, "queue_level": control.queue_level, "done_level": control.done_level,
                  **{f"loaded_{channel.name}": control.loaded[index] for index, channel in enumerate(self.spec.loads)}}
        for field in regmap["STATUS"].fields:
            m.d.comb += registers.status[field.low:field.low + field.width].eq(status[field.name])
        m.d.comb += [
            registers.error_set.eq(errors), registers.irq_status_set.eq(Cat(control.finished & ~reset, errors.any())),
            self.irq.eq((registers.irq_status & registers.irq_enable).any()),
        ]

"""The ring of quads: bit planes go in, codes and indices of a step come out, position after position."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import Component, In, Out

from ...models.spec.sparse_cycles import QUADS
from ...models.spec.sparse_job import LANE_STEPS, POSITIONS
from .fetch import INDEX_PLANES

__all__ = ["Store"]


class Store(Component):
    """A memory for each position and plane, of ``chains`` bits a step: no two are read at the same address.

    *Members*: ``beat`` in, with ``index``, ``code`` (a bit a plane) and ``quad_at`` when it is a plane of a quad; ``bits``,
    ``index_bits``: planes in use, the others read 0; ``at[j]`` in: step to read for position j, in the ring; ``codes[j]``,
    ``indices[j]`` out, a cycle later: plane-major, bit c of plane p belongs to chain c.
    """

    def __init__(self, build):
        self.build = build
        self.planes = INDEX_PLANES if build.max_ratio > 1 else 0
        super().__init__({
            "beat": In(build.chains * POSITIONS * LANE_STEPS), "index": In(INDEX_PLANES), "code": In(build.max_bits),
            "quad_at": In(range(QUADS)), "bits": In(4), "index_bits": In(3),
            **{f"at_{j}": In(range(QUADS * LANE_STEPS)) for j in range(POSITIONS)},
            **{f"codes_{j}": Out(build.chains * build.max_bits) for j in range(POSITIONS)},
            **{f"indices_{j}": Out(build.chains * self.planes) for j in range(POSITIONS)},
        })

    def elaborate(self, platform):
        m = Module()
        lane = POSITIONS * LANE_STEPS
        for j in range(POSITIONS):
            # A quad's bits of this position, step by step.
            part = Cat(self.beat[chain * lane + step * POSITIONS + j] for step in range(LANE_STEPS)
                       for chain in range(self.build.chains))
            codes = [self._plane(m, j, f"code_{p}", part, self.code[p], self.bits > p) for p in range(self.build.max_bits)]
            indices = [self._plane(m, j, f"index_{p}", part, self.index[p], self.index_bits > p) for p in range(self.planes)]
            m.d.comb += [getattr(self, f"codes_{j}").eq(Cat(codes)), getattr(self, f"indices_{j}").eq(Cat(indices))]
        return m

    def _plane(self, m, j, name, part, write, used):
        chains, at = self.build.chains, getattr(self, f"at_{j}")
        memory = Memory(shape=chains * LANE_STEPS, depth=QUADS, init=[])
        m.submodules[f"{name}_{j}"] = memory
        put, get = memory.write_port(), memory.read_port(domain="comb")
        out = Signal(chains, name=f"{name}_{j}_read", reset_less=True)
        m.d.comb += [put.addr.eq(self.quad_at), put.data.eq(part), put.en.eq(write), get.addr.eq(at[2:])]
        m.d.sync += out.eq(Mux(used, get.data.word_select(at[:2], chains), 0))
        return out

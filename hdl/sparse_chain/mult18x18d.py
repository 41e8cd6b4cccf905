"""The multipliers of a DSP group as explicit MULT18X18D cells of Lattice ECP5, each with its three registers; sums in fabric."""

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Signal, Value, signed

from .dsp_portable import OPERAND_BITS, SUM_BITS

__all__ = ["mult18x18d_sums"]

_WIDTH = 18


def mult18x18d_sums(m, x, w):
    """The sums, one Value of 19 signed bits a token, of activations ``x[j][token]`` and weights ``w[j]`` that come skewed by j.

    Four registers from the operands of position 0 to its sum (input, pipeline and output register of the cell, sum in fabric),
    one more a position. A cell multiplies for one token: two products do not fit 18 bits.
    """
    sums = [Const(0, signed(1))] * len(x[0])
    for j, (acts, weight) in enumerate(zip(x, w, strict=True)):
        for token, act in enumerate(acts):
            total = Signal(signed(SUM_BITS), name=f"p{j}_{token}", reset_less=True)
            m.d.sync += total.eq(sums[token] + _product(m, act, weight, f"mult{j}_{token}"))
            sums[token] = total
    return sums


def _product(m, act, weight, name):
    """``act * weight``, signed 16, three cycles later."""
    product = Signal(2 * _WIDTH, name=f"{name}_p")
    # The shift inputs SRIA and SRIB stay open: no wire of the fabric leads there.
    operands = {"A": _aligned(act), "B": _aligned(weight), "C": Const(0, _WIDTH)}
    registers = {f"p_REG_{place}_CLK": "CLK0" for place in ("INPUTA", "INPUTB", "PIPELINE", "OUTPUT")}
    controls = {f"i_{kind}{index}": value for index in range(4)
                for kind, value in (("CLK", 0 if index else ClockSignal()), ("CE", 0 if index else 1), ("RST", 0))}
    m.submodules[name] = Instance(
        "MULT18X18D", **registers, **controls, p_GSR="DISABLED", i_SIGNEDA=1, i_SIGNEDB=1, i_SOURCEA=0, i_SOURCEB=0,
        **{f"i_{port}{bit}": value[bit] for port, value in operands.items() for bit in range(_WIDTH)},
        **{f"o_P{bit}": product[bit] for bit in range(2 * _WIDTH)},
    )
    return product[2 * (_WIDTH - OPERAND_BITS) :].as_signed()


def _aligned(value):
    """``value`` at the upper end of a port: constant zeros below it take fewer wires than ten copies of its sign above."""
    return Cat(Const(0, _WIDTH - OPERAND_BITS), Value.cast(value))

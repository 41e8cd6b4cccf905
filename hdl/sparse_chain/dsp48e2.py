"""The multipliers of a DSP group as explicit DSP48E2 slices of UltraScale and UltraScale+: one slice a position with all its
registers, sums along the PCIN cascade, and two tokens in one multiplier."""

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Signal, Value

from .dsp_portable import MAX_DSPS, SUM_BITS

__all__ = ["BIAS", "FIELD_BITS", "dsp48e2_sums"]

FIELD_BITS = 18
"""Bits of the product of the first token below that of the second."""
BIAS = MAX_DSPS * 128 * 127
"""Added once a group, so that the first token's sum of at most 8 products, -130048 to 131072, is never negative (at most 261120,
within ``FIELD_BITS``): no carry reaches the second token's sum, and both are exact, 8 x (-128 x -128) included."""

_A_BITS, _B_BITS, _D_BITS, _P_BITS = 30, 18, 27, 48
# OPMODE (UG579): W 0 or RND, Z 0 or PCIN, Y and X together the product.
_W_RND, _Z_PCIN, _XY_PRODUCT = 0b10_000_00_00, 0b00_001_00_00, 0b00_000_01_01
_INMODE_A2, _INMODE_D_PLUS_A2 = 0b00000, 0b00100


def dsp48e2_sums(m, x, w):
    """The sums, one Value of 19 signed bits a token, of activations ``x[j][token]`` and weights ``w[j]`` that come skewed by j.

    Four registers from the operands of position 0 to its P register, one more a position. A token alone takes the A port through
    A1 and A2. Two tokens meet in the pre-adder, AD = x1 * 2**18 + x0 (the technique of AMD WP486), so that the product with the
    weight holds both products; see :data:`BIAS`.
    """
    packed, cascade = len(x[0]) == 2, Const(0, _P_BITS)
    for j, (acts, weight) in enumerate(zip(x, w, strict=True)):
        p, pcout = Signal(_P_BITS, name=f"p{j}"), Signal(_P_BITS, name=f"pcout{j}")
        # UG579 wants both operands of the pre-adder within 26 bits, sign-extended: x1 * 2**18 has just these.
        a = Cat(Const(0, FIELD_BITS), acts[1]).as_signed() if packed else acts[0]
        start = _W_RND if packed else 0
        m.submodules[f"dsp{j}"] = Instance(
            "DSP48E2",
            p_AREG=1 if packed else 2, p_ACASCREG=1 if packed else 2, p_BREG=2, p_BCASCREG=2,
            p_DREG=1, p_ADREG=1, p_MREG=1, p_PREG=1,
            p_AMULTSEL="AD" if packed else "A", p_BMULTSEL="B", p_PREADDINSEL="A", p_USE_MULT="MULTIPLY", p_USE_SIMD="ONE48",
            p_RND=Const(BIAS if packed else 0, _P_BITS),
            # What never changes needs no register.
            p_INMODEREG=0, p_OPMODEREG=0, p_ALUMODEREG=0, p_CARRYINREG=0, p_CARRYINSELREG=0,
            i_CLK=ClockSignal(),
            i_A=_extended(a, _A_BITS), i_B=_extended(weight, _B_BITS), i_D=_extended(acts[0] if packed else Const(0), _D_BITS),
            i_C=Const(0, _P_BITS), i_PCIN=cascade, i_ACIN=Const(0, _A_BITS), i_BCIN=Const(0, _B_BITS),
            i_CARRYCASCIN=0, i_MULTSIGNIN=0, i_CARRYIN=0, i_CARRYINSEL=Const(0, 3),
            i_INMODE=Const(_INMODE_D_PLUS_A2 if packed else _INMODE_A2, 5),
            i_OPMODE=Const(_XY_PRODUCT | (_Z_PCIN if j else start), 9), i_ALUMODE=Const(0, 4),
            i_CEA1=0 if packed else 1, i_CEA2=1, i_CEB1=1, i_CEB2=1, i_CED=int(packed), i_CEAD=int(packed), i_CEM=1, i_CEP=1,
            i_CEC=0, i_CECTRL=0, i_CEINMODE=0, i_CEALUMODE=0, i_CECARRYIN=0,
            i_RSTA=0, i_RSTB=0, i_RSTC=0, i_RSTD=0, i_RSTM=0, i_RSTP=0, i_RSTCTRL=0, i_RSTINMODE=0, i_RSTALUMODE=0,
            i_RSTALLCARRYIN=0,
            o_P=p, o_PCOUT=pcout,
        )
        cascade = pcout
    return _split(p) if packed else [p[:SUM_BITS].as_signed()]


def _split(p):
    """Both tokens' sums: what lies above the field is the second one's, exactly; the field less the bias is the first one's."""
    free = (BIAS & -BIAS).bit_length() - 1  # the bias ends in zeros: the lowest bits are the sum's own
    above = p[free:FIELD_BITS] - (BIAS >> free)
    return [Cat(p[:free], above[: SUM_BITS - free]).as_signed(), p[FIELD_BITS : FIELD_BITS + SUM_BITS].as_signed()]


def _extended(value, width):
    """``value`` in ``width`` bits, its sign repeated."""
    value = Value.cast(value)
    return Cat(value, value[-1].replicate(width - len(value)))

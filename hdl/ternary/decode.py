"""The gates that turn a stream byte into zero flags and signs; the code is defined in models.formats.ternary_stream."""

from amaranth.hdl import Cat, Mux

__all__ = ["split", "pair_zeros", "triple_zeros"]


def split(byte):
    """(triple code, 5 bits; pair code, 4 bits) of a stream byte."""
    low, high = byte[0:5], byte[5:8]
    escape = low[2:5].all()
    return Cat(low[0:2], Mux(escape, high, low[2:5])), Cat(high, escape)


def triple_zeros(code):
    """Zero flags of t0, t1, t2 for the bits a b c d of a triple code (its sign bit g plays no part)."""
    d, c, b, a = (code[bit] for bit in range(4))
    return (a & b) | (~a & b & ~c) | (a & ~c & d), (a & b) | (~a & b & c) | (a & c & d), a & (~b | c)


def pair_zeros(code):
    """Zero flags of t3, t4 for a pair code."""
    x1, x2, escape = code[1], code[2], code[3]
    return escape | (x2 & ~x1), escape | (x2 & x1)

"""ONNX's products and quantisers, and QONNX's: integer sums are exact, float ones float32's."""

import numpy as np

from ..formats.qonnx import Quantiser, bipolar_codes, quant_codes
from .onnx_call import TYPES

__all__ = ["KERNELS", "QONNX", "integer_product", "quant_of", "scaled_gemm"]

FOUR_BITS = {21: (0, 15), 22: (-8, 7)}  # ONNX's numbers of uint4 and int4, kept as uint8 and int8
EXACT = 1 << 53


def matmul(call):
    a, b = call.need(0), call.need(1)
    product_room(call, a, b)
    return np.matmul(a, b)


def product_room(call, a, b):
    """ValueError unless the product of ``a`` and ``b`` can be made."""
    if not a.ndim or not b.ndim:
        raise ValueError("a product must be of arrays with dimensions")
    rows, columns = a.shape[-2:-1] or (1,), b.shape[-1:] if b.ndim > 1 else (1,)
    call.room([*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), *rows, *columns])


def gemm(call):
    a, b, c = call.need(0), call.need(1), call.x(2)
    a, b = (x.T if call.said(name, 0) else x for x, name in ((a, "transA"), (b, "transB")))
    if a.ndim != 2 or b.ndim != 2:
        raise ValueError(f"a product of matrices, got {a.ndim} and {b.ndim} dimensions")
    product_room(call, a, b)
    return scaled_gemm(call, a @ b, c)


def scaled_gemm(call, product, c):
    """alpha * product + beta * c, as Gemm says."""
    y = product if call.said("alpha", 1.0) == 1 else product * product.dtype.type(call.said("alpha"))
    if c is None:
        return y
    call.room(y.shape, c.shape)
    return (y + (c if call.said("beta", 1.0) == 1 else c * c.dtype.type(call.said("beta")))).astype(y.dtype)


def integer_product(a, b):
    """The exact product of two integer arrays, int64. ValueError where a sum might not fit 53 bits."""
    most = [max(abs(int(x.min())), abs(int(x.max()))) if x.size else 0 for x in (a, b)]
    if most[0] * most[1] * a.shape[-1] >= EXACT:
        raise ValueError(f"sums of {a.shape[-1]} products of up to {most[0]} and {most[1]} may not fit {EXACT}")
    return np.matmul(a.astype(np.float64), b.astype(np.float64)).astype(np.int64)  # every partial sum is below 2^53: exact


def less_zero(x, zero, column):
    """int32 ``x - zero``; ``zero``: a number, or one for each row (``column``: for each column)."""
    if x.dtype.kind not in "iu" or x.dtype.itemsize > 1:
        raise TypeError(f"operands must be int8 or uint8, got {x.dtype}")
    if zero is None:
        return x.astype(np.int32)
    if zero.ndim == 1 and zero.size > 1 and not column:
        zero = zero[:, None]
    return x.astype(np.int32) - (zero.reshape(()) if zero.size == 1 else zero).astype(np.int32)


def matmul_integer(call):
    a, b = less_zero(call.need(0), call.x(2), False), less_zero(call.need(1), call.x(3), True)
    product_room(call, a, b)
    return integer_product(a, b).astype(np.int32)


def qlinear_matmul(call):
    """The scales' product and quotient and the last product are float32; then half to even, zero point, clamp."""
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = (call.need(at) for at in range(8))
    left, right = less_zero(a, a_zero, False), less_zero(b, b_zero, True)
    product_room(call, left, right)
    a_scale = a_scale[:, None] if a_scale.ndim == 1 and a_scale.size > 1 else a_scale.reshape(())
    b_scale = b_scale.reshape(()) if b_scale.size == 1 else b_scale
    factor = np.float32(a_scale) * np.float32(b_scale) / np.float32(y_scale.reshape(()))
    scaled = integer_product(left, right).astype(np.float32) * factor
    return saturated(np.rint(scaled), y_zero.reshape(()), y_zero.dtype, None)


def blocks(call, part, x):
    """A scale or zero point of ``x`` spread over it: a number, one for each index of an axis, or one for each block of it."""
    if part.size == 1:
        return part.reshape(())
    axis, block = call.axis(x.ndim, 1), int(call.said("block_size", 0))
    if block > 0 and part.ndim == x.ndim:
        call.room([size * (block if at == axis else 1) for at, size in enumerate(part.shape)])
        return np.take(np.repeat(part, block, axis), range(x.shape[axis]), axis)
    if part.ndim != 1 or len(part) != x.shape[axis]:
        raise ValueError(f"scales must be {x.shape[axis]}, one for each index of axis {axis}, got {list(part.shape)}")
    return part.reshape([-1 if at == axis else 1 for at in range(x.ndim)])


def saturated(codes, zero, dtype, bits):
    low, high = bits or (np.iinfo(dtype).min, np.iinfo(dtype).max)
    with np.errstate(invalid="ignore"):
        return np.clip(codes + zero.astype(np.float32), low, high).astype(dtype)


def quantize_linear(call):
    x, scale, zero = call.need(0), call.need(1), call.x(2)
    number = call.said("output_dtype", 0)
    if number in FOUR_BITS:
        dtype, bits = np.dtype(np.uint8 if number == 21 else np.int8), FOUR_BITS[number]
    else:
        dtype = TYPES.get(number, np.uint8) if zero is None else zero.dtype
        bits = (0, 15) if has_four_bits(zero) and zero.dtype.kind == "u" else (-8, 7) if has_four_bits(zero) else None
    if np.dtype(dtype).kind not in "iu" or np.dtype(dtype).itemsize > 2:
        raise TypeError(f"codes must be of 4, 8 or 16 bits, got {np.dtype(dtype)}")
    zero = np.zeros((), dtype) if zero is None else blocks(call, zero, x)
    codes = np.rint(x.astype(np.float32) / blocks(call, scale, x).astype(np.float32))
    return saturated(codes, zero, np.dtype(dtype).type, bits)


def has_four_bits(zero):
    return zero is not None and (zero.dtype.metadata or {}).get("bits") == 4


def dequantize_linear(call):
    x, scale, zero = call.need(0), call.need(1), call.x(2)
    if x.dtype.kind not in "iu" or scale.dtype.kind != "f":
        raise TypeError(f"codes must be integers and scales floats, got {x.dtype} and {scale.dtype}")
    codes = x.astype(np.int64) - (0 if zero is None else blocks(call, zero, x).astype(np.int64))
    return (codes.astype(np.float32) * blocks(call, scale, x)).astype(scale.dtype)


def dynamic_quantize(call):
    """(codes uint8, scale, zero point) of a range that holds 0; a scale of 1 for zeros alone."""
    x = call.need()
    low, high = min(np.float32(0), x.min(initial=0)), max(np.float32(0), x.max(initial=0))
    scale = np.float32(1) if low == high else (high - low) / np.float32(255)
    zero = np.uint8(np.clip(np.rint(-low / scale), 0, 255))
    codes = np.clip(np.rint(x / scale) + np.float32(zero), 0, 255).astype(np.uint8)
    return codes, np.asarray(scale, np.float32), np.asarray(zero)


def quant_of(call):
    """The codes of a Quant node, float32."""
    x, scale, zero = call.need(0), call.need(1), call.need(2)
    quantiser = Quantiser(bits=float(call.need(3).item()), signed=bool(call.said("signed", 1)),
                          narrow=bool(call.said("narrow", 0)), rounding=str(call.said("rounding_mode", "ROUND")).upper())
    call.room(x.shape, scale.shape, zero.shape)
    return quant_codes(x, scale, zero, quantiser)


def quant(call):
    codes, scale, zero = quant_of(call), call.need(1), call.need(2)
    return ((codes - zero.astype(np.float32)) * scale.astype(np.float32)).astype(np.float32)


def bipolar(call):
    x, scale = call.need(0), call.need(1)
    call.room(x.shape, scale.shape)
    return (bipolar_codes(x) * scale).astype(np.float32)


KERNELS = {
    "MatMul": matmul, "Gemm": gemm, "MatMulInteger": matmul_integer, "QLinearMatMul": qlinear_matmul,
    "QuantizeLinear": quantize_linear, "DequantizeLinear": dequantize_linear, "DynamicQuantizeLinear": dynamic_quantize,
}  # fmt: skip
QONNX = {"Quant": quant, "IntQuant": quant, "BipolarQuant": bipolar}

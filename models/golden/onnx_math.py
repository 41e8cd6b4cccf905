"""ONNX operators that work element by element or reduce along axes, in the type of their inputs (float32 mostly)."""

import math

import numpy as np

from .onnx_call import TYPES

__all__ = ["KERNELS", "erf"]

ERF_STEPS, ERF_TOP = 256, 4.0  # beyond 4, erf is 1 in float32
ERF_AT = np.arange(int(ERF_STEPS * ERF_TOP) + 2) / ERF_STEPS
ERF = np.array([math.erf(x) for x in ERF_AT])
ERF_SLOPE = 2 / math.sqrt(math.pi) * np.exp(-ERF_AT * ERF_AT) / ERF_STEPS
SQRT_HALF, GELU_CUBE, GELU_SCALE = math.sqrt(0.5), 0.044715, math.sqrt(2 / math.pi)


def erf(x):
    """The error function within 1e-11, by cubic interpolation between values and slopes 1/256 apart."""
    x = np.asarray(x)
    u = np.minimum(np.abs(x.astype(np.float64)), ERF_TOP) * ERF_STEPS
    at = np.where(np.isnan(u), 0, u).astype(np.intp)
    t = u - at
    low, high, begin, end = ERF[at], ERF[at + 1], ERF_SLOPE[at], ERF_SLOPE[at + 1]
    rest = high - low
    value = low + t * (begin + t * (3 * rest - 2 * begin - end + t * (begin + end - 2 * rest)))
    return np.copysign(value, x).astype(x.dtype)


def unary(function):
    def kernel(call):
        x = call.need()
        return np.asarray(function(x)).astype(x.dtype, copy=False)

    return kernel


def binary(function):
    """Spread over shapes; of one type, as ONNX demands."""

    def kernel(call):
        a, b = call.need(0), call.need(1)
        if a.dtype != b.dtype:
            raise TypeError(f"inputs must be of one type, got {a.dtype} and {b.dtype}")
        call.room(a.shape, b.shape)
        return function(a, b)

    return kernel


def many(function):
    def kernel(call):
        total = call.need(0)
        for other in call.inputs[1:]:
            call.room(total.shape, other.shape)
            total = function(total, other)
        return total

    return kernel


def divide(a, b):
    """Integers are truncated towards 0."""
    if a.dtype.kind not in "iu":
        return a / b
    if not b.all():
        raise ValueError("an integer is divided by 0")
    quotient = a // b
    return quotient + ((a % b != 0) & ((a < 0) != (b < 0))).astype(a.dtype)


def remainder(call):
    a, b = call.need(0), call.need(1)
    call.room(a.shape, b.shape)
    if b.dtype.kind in "iu" and not b.all():
        raise ValueError("an integer is divided by 0")
    return np.fmod(a, b) if call.said("fmod", 0) else np.mod(a, b)


def power(call):
    a, b = call.need(0), call.need(1)
    call.room(a.shape, b.shape)
    if b.size == 1 and b.item() == 2:
        return a * a
    if a.dtype.kind in "iu" and b.dtype.kind in "iu" and (b < 0).any():
        raise ValueError("an integer is raised to a power below 0")
    return np.power(a, b).astype(a.dtype)


def where(call):
    test, a, b = call.need(0), call.need(1), call.need(2)
    call.room(test.shape, a.shape, b.shape)
    return np.where(test.astype(bool), a, b).astype(a.dtype)


def clip(call):
    x = call.need()
    low, high = (call.said(name) if call.x(at) is None else call.x(at) for at, name in ((1, "min"), (2, "max")))
    x = x if low is None else np.maximum(x, np.asarray(low, x.dtype))
    return x if high is None else np.minimum(x, np.asarray(high, x.dtype))


def sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def gelu(call):
    x = call.need()
    if call.said("approximate", "none") == "tanh":
        inner = np.tanh(x.dtype.type(GELU_SCALE) * (x + x.dtype.type(GELU_CUBE) * x * x * x))
    else:
        inner = erf(x * x.dtype.type(SQRT_HALF))
    return x * (x.dtype.type(0.5) * (1 + inner))


def with_alpha(function, **defaults):
    def kernel(call):
        x = call.need()
        return function(x, **{name: x.dtype.type(call.said(name, value)) for name, value in defaults.items()}).astype(x.dtype)

    return kernel


def softmax(call):
    """Before version 13 all axes from ``axis`` on count as one."""
    x = call.need()
    shape = x.shape
    if call.opset < 13:
        axis = call.axis(x.ndim, 1)
        x, axis = x.reshape(math.prod(shape[:axis]), -1), -1
    else:
        axis = call.axis(x.ndim, -1)
    shifted = x - x.max(axis=axis, keepdims=True)
    e = np.exp(shifted)
    total = e.sum(axis=axis, keepdims=True)
    return (shifted - np.log(total) if call.node.op == "LogSoftmax" else e / total).reshape(shape)


def reduction(function):
    def kernel(call):
        x = call.need()
        axes = call.axes(x.ndim)
        if not axes:
            if call.said("noop_with_empty_axes", 0):
                return x
            axes = tuple(range(x.ndim))
        return np.asarray(function(x, axis=axes, keepdims=bool(call.said("keepdims", 1)))).astype(x.dtype, copy=False)

    return kernel


def arg(function):
    def kernel(call):
        x = call.need()
        axis = call.axis(x.ndim)
        if call.said("select_last_index", 0):
            found = x.shape[axis] - 1 - function(np.flip(x, axis), axis=axis, keepdims=True)
        else:
            found = function(x, axis=axis, keepdims=True)
        return (found if call.said("keepdims", 1) else found.squeeze(axis)).astype(np.int64)

    return kernel


def cumulate(call):
    x, axis = call.need(), int(call.need(1))
    x = np.flip(x, axis) if call.said("reverse", 0) else x
    total = np.cumsum(x, axis=axis, dtype=x.dtype)
    total = total - x if call.said("exclusive", 0) else total
    return np.flip(total, axis) if call.said("reverse", 0) else total


def top(call):
    """(values, places) of the k largest, or smallest; of equals the first."""
    x, k = call.need(), call.ints(1, "k")[0]
    axis = call.axis(x.ndim, -1)
    if not 0 <= k <= x.shape[axis]:
        raise ValueError(f"k must be 0..{x.shape[axis]}, got {k}")
    if call.said("largest", 1):
        order = x.shape[axis] - 1 - np.flip(np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)
    else:
        order = np.argsort(x, axis=axis, kind="stable")
    order = np.take(order, range(k), axis=axis)
    return np.take_along_axis(x, order, axis), order.astype(np.int64)


def cast(call):
    x, to = call.need(), call.said("to")
    if to not in TYPES or x.dtype.kind == "O":
        raise ValueError(f"a cast from {x.dtype} to type {to} is not taken")
    return x.astype(TYPES[to])


KERNELS = {
    "Abs": unary(np.abs), "Ceil": unary(np.ceil), "Cos": unary(np.cos), "Erf": unary(erf), "Exp": unary(np.exp),
    "Floor": unary(np.floor), "IsNaN": lambda call: np.isnan(call.need()), "Log": unary(np.log), "Neg": unary(np.negative),
    "Not": lambda call: ~call.need().astype(bool), "Reciprocal": unary(np.reciprocal),
    "Relu": unary(lambda x: np.maximum(x, x.dtype.type(0))), "Round": unary(np.rint), "Sigmoid": unary(sigmoid),
    "Sign": unary(np.sign), "Sin": unary(np.sin), "Sqrt": unary(np.sqrt), "Tanh": unary(np.tanh),
    "Softplus": unary(lambda x: np.logaddexp(x, x.dtype.type(0))),
    "HardSwish": unary(lambda x: x * np.clip(x / x.dtype.type(6) + x.dtype.type(0.5), 0, 1)),
    "Elu": with_alpha(lambda x, alpha: np.where(x < 0, alpha * np.expm1(np.minimum(x, 0)), x), alpha=1.0),
    "LeakyRelu": with_alpha(lambda x, alpha: np.where(x < 0, alpha * x, x), alpha=0.01),
    "HardSigmoid": with_alpha(lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1), alpha=0.2, beta=0.5),
    "Add": binary(np.add), "Sub": binary(np.subtract), "Mul": binary(np.multiply), "Div": binary(divide), "Mod": remainder,
    "Pow": power, "PRelu": binary(lambda x, slope: np.where(x < 0, slope * x, x)), "And": binary(np.logical_and),
    "Or": binary(np.logical_or), "Xor": binary(np.logical_xor), "Equal": binary(np.equal), "Greater": binary(np.greater),
    "GreaterOrEqual": binary(np.greater_equal), "Less": binary(np.less), "LessOrEqual": binary(np.less_equal),
    "Max": many(np.maximum), "Min": many(np.minimum), "Sum": many(np.add),
    "Mean": lambda call: many(np.add)(call) / call.need().dtype.type(len(call.inputs)),
    "Where": where, "Clip": clip, "Gelu": gelu, "Softmax": softmax, "LogSoftmax": softmax, "Cast": cast, "CumSum": cumulate,
    "TopK": top, "ArgMax": arg(np.argmax), "ArgMin": arg(np.argmin),
    "ReduceMean": reduction(np.mean), "ReduceSum": reduction(np.sum), "ReduceMax": reduction(np.max),
    "ReduceMin": reduction(np.min), "ReduceProd": reduction(np.prod),
    "ReduceL2": reduction(lambda x, **how: np.sqrt((x * x).sum(**how))),
    "ReduceSumSquare": reduction(lambda x, **how: (x * x).sum(**how)),
}  # fmt: skip

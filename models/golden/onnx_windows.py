"""ONNX operators over windows and whole maps: convolutions, pools, norms, resizing; in float32."""

import math

import numpy as np

__all__ = ["KERNELS", "cut_patches"]


def window(call, sizes, kernel):
    """``(strides, dilations, pads)``, pads as (before, after) for each axis of ``sizes`` and ``kernel``."""
    rank = len(kernel)
    strides, dilations = (tuple(int(each) for each in call.said(name, (1,) * rank)) for name in ("strides", "dilations"))
    pads = tuple(int(each) for each in call.said("pads", (0,) * (2 * rank)))
    if len(strides) != rank or len(dilations) != rank or len(pads) != 2 * rank or min(strides + dilations) < 1 or min(pads) < 0:
        raise ValueError(f"strides, dilations and pads must be of {rank} dimensions, got {strides}, {dilations} and {pads}")
    reach = [(each - 1) * dilation + 1 for each, dilation in zip(kernel, dilations, strict=True)]
    auto = call.said("auto_pad", "NOTSET")
    if auto == "VALID":
        pads = (0,) * (2 * rank)
    elif auto != "NOTSET":
        total = [max((-(-size // stride) - 1) * stride + each - size, 0)
                 for size, stride, each in zip(sizes, strides, reach, strict=True)]
        small, large = [each // 2 for each in total], [each - each // 2 for each in total]
        pads = tuple(small + large if auto == "SAME_UPPER" else large + small)
    return strides, dilations, list(zip(pads[:rank], pads[rank:], strict=True)), reach


def maps(call, at=0):
    """The input [n, channels, height, width]; one of one dimension gets a height of 1."""
    x = call.need(at)
    if x.ndim not in (3, 4):
        raise ValueError(f"an input of 3 or 4 dimensions, got {x.ndim}")
    return x


def padded(call, x, pads, fill=0):
    width = [(0, 0), (0, 0), *pads]
    call.room([size + sum(each) for size, each in zip(x.shape, width, strict=True)])
    return np.pad(x, width, constant_values=fill) if any(map(sum, pads)) else x


def slices(x, kernel, strides, dilations, reach):
    """``(place in the kernel, x seen from there)`` for every place; ``sizes`` of the result."""
    sizes = [(have - each) // stride + 1 for have, each, stride in zip(x.shape[2:], reach, strides, strict=True)]
    if min(sizes) < 1:
        raise ValueError(f"a window of {reach} does not fit {list(x.shape[2:])}")

    def each():
        for place in np.ndindex(*kernel):
            starts = [at * dilation for at, dilation in zip(place, dilations, strict=True)]
            index = tuple(slice(start, start + (size - 1) * stride + 1, stride)
                          for start, size, stride in zip(starts, sizes, strides, strict=True))
            yield place, x[(slice(None), slice(None), *index)]

    return sizes, each()


def conv(call):
    x, weight, bias = maps(call), call.need(1), call.x(2)
    groups = int(call.said("group", 1))
    fits = weight.ndim == x.ndim and groups > 0 and x.shape[1] == groups * weight.shape[1] and not weight.shape[0] % groups
    if not fits or not weight.size:
        raise ValueError(f"weights {list(weight.shape)} in {groups} groups do not fit an input {list(x.shape)}")
    kernel = weight.shape[2:]
    strides, dilations, pads, reach = window(call, x.shape[2:], kernel)
    sizes, places = slices(padded(call, x, pads), kernel, strides, dilations, reach)
    n, out, area = len(x), weight.shape[0], math.prod(sizes)
    total = np.zeros(call.room([n, groups, out // groups, area]), x.dtype)
    for place, part in places:
        factor = weight[(slice(None), slice(None), *place)].reshape(groups, out // groups, -1)
        part = part.reshape(n, groups, -1, area)
        total += factor * part if factor.shape[-1] == 1 else factor @ part
    total = total.reshape(n, out, *sizes)
    return total if bias is None else total + bias.reshape(1, -1, *[1] * len(sizes))


def conv_transpose(call):
    x, weight, bias = maps(call), call.need(1), call.x(2)
    groups, kernel = int(call.said("group", 1)), weight.shape[2:]
    if weight.ndim != x.ndim or groups < 1 or x.shape[1] != weight.shape[0] or weight.shape[0] % groups or not weight.size:
        raise ValueError(f"weights {list(weight.shape)} in {groups} groups do not fit an input {list(x.shape)}")
    strides, dilations, pads, reach = window(call, x.shape[2:], kernel)
    more = call.said("output_padding", (0,) * len(kernel))
    sizes = [(size - 1) * stride + each + extra for size, stride, each, extra in
             zip(x.shape[2:], strides, reach, more, strict=True)]  # fmt: skip
    n, each = len(x), weight.shape[1]
    total = np.zeros(call.room([n, groups * each, *sizes]), x.dtype)
    parts = x.reshape(n, groups, -1, math.prod(x.shape[2:]))
    for place in np.ndindex(*kernel):
        factor = weight[(slice(None), slice(None), *place)].reshape(groups, -1, each)
        index = tuple(slice(at * dilation, at * dilation + (size - 1) * stride + 1, stride)
                      for at, dilation, size, stride in zip(place, dilations, x.shape[2:], strides, strict=True))
        total[(slice(None), slice(None), *index)] += (factor.swapaxes(1, 2) @ parts).reshape(n, groups * each, *x.shape[2:])
    crop = tuple(slice(low, size - high) for (low, high), size in zip(pads, sizes, strict=True))
    total = total[(slice(None), slice(None), *crop)]
    return total if bias is None else total + bias.reshape(1, -1, *[1] * len(kernel))


def cut_patches(x, kernel):
    """[n, height, width, channels * kernel] of the windows of ``x`` [n, channels, ...] that do not overlap."""
    n, channels = x.shape[:2]
    high, wide = (size // each for size, each in zip(x.shape[2:], kernel, strict=True))
    x = x[:, :, : high * kernel[0], : wide * kernel[1]].reshape(n, channels, high, kernel[0], wide, kernel[1])
    return x.transpose(0, 2, 4, 1, 3, 5).reshape(n, high, wide, -1)


def pool(call):
    x, kernel = maps(call), tuple(int(each) for each in call.said("kernel_shape", ()))
    if len(kernel) != x.ndim - 2 or min(kernel) < 1:
        raise ValueError(f"a window of {x.ndim - 2} dimensions, got {kernel}")
    strides, dilations, pads, reach = window(call, x.shape[2:], kernel)
    largest = call.node.op == "MaxPool"
    _, places = slices(padded(call, x, pads, -np.inf if largest else 0), kernel, strides, dilations, reach)
    if largest:
        return np.max([part for _, part in places], axis=0)
    total = sum(part for _, part in places)
    if call.said("count_include_pad", 0):
        return total / x.dtype.type(math.prod(kernel))
    _, places = slices(padded(call, np.ones((1, 1, *x.shape[2:]), x.dtype), pads), kernel, strides, dilations, reach)
    return total / sum(part for _, part in places)


def per_channel(part, x):
    return part.reshape(1, -1, *[1] * (x.ndim - 2))


def batch_norm(call):
    x = call.need()
    gain, bias, mean, variance = (per_channel(call.need(at), x) for at in range(1, 5))
    return (x - mean) * (gain / np.sqrt(variance + x.dtype.type(call.said("epsilon", 1e-5)))) + bias


def normalised(x, axes, epsilon):
    centred = x - x.mean(axis=axes, keepdims=True)
    return centred / np.sqrt((centred * centred).mean(axis=axes, keepdims=True) + x.dtype.type(epsilon))


def instance_norm(call):
    x = call.need()
    return normalised(x, tuple(range(2, x.ndim)), call.said("epsilon", 1e-5)) * per_channel(call.need(1), x) \
        + per_channel(call.need(2), x)


def layer_norm(call):
    x, gain, bias = call.need(0), call.need(1), call.x(2)
    axes = tuple(range(call.axis(x.ndim, -1), x.ndim))
    call.room(x.shape, gain.shape)
    y = normalised(x, axes, call.said("epsilon", 1e-5)) * gain
    return y if bias is None else y + bias


def resize(call):
    """Each axis by a matrix of weights: the neighbours of a place, those outside being the edge's."""
    x = call.need()
    scales, sizes = (call.x(1), None) if call.opset < 11 else (call.x(2), call.ints(3))
    axes = call.axes(x.ndim, len(call.inputs)) or tuple(range(x.ndim))
    scales = None if scales is None or not scales.size else [float(each) for each in scales.reshape(-1)]
    if sizes is None and scales is None or len(sizes or scales) != len(axes):
        raise ValueError(f"scales or sizes must be {len(axes)} numbers")
    for at, axis in enumerate(axes):
        have = x.shape[axis]
        want = sizes[at] if sizes else math.floor(have * scales[at])
        scale = want / have if sizes else scales[at]
        if want == have and scale == 1:
            continue
        call.room([want, have])
        call.room([want if place == axis else size for place, size in enumerate(x.shape)])
        x = np.moveaxis(np.tensordot(weights_of(call, have, want, scale), x, (1, axis)), 0, axis)
    return x.astype(call.need().dtype)


def weights_of(call, have, want, scale):
    """float32 [want, have]: how much of each place there is in each of the result."""
    if have < 1 or want < 1 or not 0 < scale < math.inf:
        raise ValueError(f"a size from {have} to {want} by {scale}")
    mode, how = call.said("mode", "nearest"), call.said("coordinate_transformation_mode", "half_pixel")
    how = "asymmetric" if call.opset < 11 else how
    at = np.arange(want, dtype=np.float64)
    place = {"half_pixel": (at + 0.5) / scale - 0.5, "asymmetric": at / scale,
             "pytorch_half_pixel": (at + 0.5) / scale - 0.5 if want > 1 else at * 0,
             "align_corners": at * (have - 1) / max(want - 1, 1)}[how]  # fmt: skip
    if mode == "nearest":
        simple = "floor" if scale >= 1 else "ceil"  # before version 11
        rounded = {"round_prefer_floor": np.ceil(place - 0.5), "round_prefer_ceil": np.floor(place + 0.5),
                   "floor": np.floor(place), "ceil": np.ceil(place),
                   }[call.said("nearest_mode", "round_prefer_floor") if call.opset > 10 else simple]  # fmt: skip
        taps = [(0, rounded, np.ones(want))]
    else:
        base = np.floor(place)
        rest = place - base
        if mode == "linear":
            taps = [(0, base, 1 - rest), (1, base + 1, rest)]
        else:
            a = call.said("cubic_coeff_a", -0.75)
            far = [((a * d - 5 * a) * d + 8 * a) * d - 4 * a for d in (rest + 1, 2 - rest)]
            near = [((a + 2) * d - (a + 3)) * d * d + 1 for d in (rest, 1 - rest)]
            taps = [(0, base - 1, far[0]), (1, base, near[0]), (2, base + 1, near[1]), (3, base + 2, far[1])]
    matrix = np.zeros((want, have))
    for _, where, share in taps:
        np.add.at(matrix, (np.arange(want), np.clip(where, 0, have - 1).astype(np.intp)), share)
    return matrix.astype(np.float32)


KERNELS = {
    "Conv": conv, "ConvTranspose": conv_transpose, "MaxPool": pool, "AveragePool": pool, "Resize": resize,
    "GlobalAveragePool": lambda call: call.need().mean(axis=tuple(range(2, call.need().ndim)), keepdims=True),
    "BatchNormalization": batch_norm, "InstanceNormalization": instance_norm, "LayerNormalization": layer_norm,
}  # fmt: skip

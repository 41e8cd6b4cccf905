"""ONNX operators that move elements: shapes, slices, joins, look-ups."""

import math

import numpy as np

__all__ = ["KERNELS"]


def shape(call):
    rank = call.need().ndim
    start, end = call.said("start", 0), call.said("end", rank)
    return np.array(call.need().shape[slice(start, end)], np.int64)


def reshape(call):
    x, want = call.need(), call.ints(1, "shape")
    if want is None:
        raise ValueError("the shape is left out")
    if not call.said("allowzero", 0):
        want = [x.shape[at] if size == 0 else size for at, size in enumerate(want)]
    return x.reshape(want)


def flatten(call):
    x = call.need()
    axis = int(call.said("axis", 1))
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


def squeeze(call):
    x = call.need()
    axes = call.axes(x.ndim)
    return np.squeeze(x, axes) if axes is not None else np.squeeze(x)


def unsqueeze(call):
    x, axes = call.need(), call.ints(1, "axes")
    if axes is None:
        raise ValueError("the axes are left out")
    return np.expand_dims(x, tuple(axes))


def transpose(call):
    return np.transpose(call.need(), call.said("perm"))


def concat(call):
    parts = [part for part in call.inputs if part is not None]
    return np.concatenate(parts, call.axis(parts[0].ndim))


def cut(call):
    """Slice: starts and ends are clamped to the sizes, as ONNX has it."""
    x = call.need()
    starts, ends = call.ints(1, "starts"), call.ints(2, "ends")
    axes = call.axes(x.ndim, 3) or tuple(range(len(starts)))
    steps = call.ints(4) or [1] * len(starts)
    index = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = x.shape[axis]
        start, end = (edge + size if edge < 0 else edge for edge in (start, end))
        if step > 0:
            start, end = min(max(start, 0), size), min(max(end, 0), size)
        else:
            start, end = min(max(start, 0), size - 1), min(max(end, -1), size - 1)
        index[axis] = slice(start, None if end < 0 else end, step)
    return x[tuple(index)]


def split(call):
    x = call.need()
    axis, count = call.axis(x.ndim), len(call.node.outputs)
    sizes = call.ints(1, "split")
    if sizes is None:
        size = -(-x.shape[axis] // count)
        sizes = [size] * (count - 1) + [x.shape[axis] - size * (count - 1)]
    if len(sizes) != count or min(sizes) < 0 or sum(sizes) != x.shape[axis]:
        raise ValueError(f"{count} parts must be of {x.shape[axis]} in all, got {sizes}")
    return tuple(np.split(x, np.cumsum(sizes)[:-1], axis))


def expand(call):
    x = call.need()
    return np.broadcast_to(x, call.room(x.shape, call.ints(1)))


def tile(call):
    x, times = call.need(), call.ints(1)
    if len(times) != x.ndim or min(times, default=0) < 0:
        raise ValueError(f"repeats must be {x.ndim} numbers of 0 or more, got {times}")
    call.room([size * many for size, many in zip(x.shape, times, strict=True)])
    return np.tile(x, times)


def gather(call):
    x, at = call.need(), call.need(1)
    axis = call.axis(x.ndim)
    call.room([*x.shape[:axis], *at.shape, *x.shape[axis + 1 :]])
    return np.take(x, checked(at, x.shape[axis]), axis)


def checked(at, size):
    """Indices, those below 0 counted from the end."""
    if at.dtype.kind not in "iu":
        raise TypeError(f"indices must be integers, got {at.dtype}")
    if at.size and (at.min() < -size or at.max() >= size):
        raise IndexError(f"an index must be below {size}, got {at.min()}..{at.max()}")
    return np.where(at < 0, at + size, at)


def gather_elements(call):
    x, at = call.need(), call.need(1)
    axis = call.axis(x.ndim)
    sizes = zip(at.shape, x.shape, strict=True)
    if any(want > have for along, (want, have) in enumerate(sizes) if along != axis):
        raise ValueError(f"indices {list(at.shape)} do not fit {list(x.shape)}")
    x = x[tuple(slice(None) if along == axis else slice(size) for along, size in enumerate(at.shape))]
    return np.take_along_axis(x, checked(at, x.shape[axis]), axis)


def tuples(call, x, at, lead=0):
    """An index for NumPy of the index tuples ``at``, after ``lead`` axes that both have."""
    depth = at.shape[-1]
    if depth > x.ndim - lead:
        raise ValueError(f"tuples of {depth} indices point into {x.ndim - lead} axes")
    return tuple(checked(at[..., axis], x.shape[lead + axis]) for axis in range(depth))


def gather_nd(call):
    x, at = call.need(), call.need(1)
    lead = int(call.said("batch_dims", 0))
    if lead < 0 or x.shape[:lead] != at.shape[:lead]:
        raise ValueError(f"batch_dims must tell axes of one size, got {lead}")
    call.room([*at.shape[:-1], *x.shape[lead + at.shape[-1] :]])
    index = tuples(call, x, at, lead)
    grid = np.ogrid[tuple(slice(size) for size in at.shape[:lead])] if lead else []
    grid = [each.reshape(each.shape + (1,) * (at.ndim - 1 - lead)) for each in grid]
    return x[(*grid, *index)]


def scatter_nd(call):
    x, at, updates = call.need().copy(), call.need(1), call.need(2)
    index = tuples(call, x, at)
    if updates.shape != at.shape[:-1] + x.shape[at.shape[-1] :]:
        raise ValueError(f"updates must be of shape {list(at.shape[:-1] + x.shape[at.shape[-1] :])}, got {list(updates.shape)}")
    how = call.said("reduction", "none")
    if how == "none":
        x[index] = updates
    elif how in ("add", "mul", "max", "min"):
        {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum}[how].at(x, index, updates)
    else:
        raise ValueError(f"reduction must be none, add, mul, max or min, got {how!r}")
    return x


def constant_of_shape(call):
    value = call.said("value", np.zeros(1, np.float32))
    return np.full(call.room(call.ints(0)), value.reshape(-1)[0], value.dtype)


def arange(call):
    start, end, step = (call.need(at).item() for at in range(3))
    count = max(0, math.ceil((end - start) / step))
    call.room([count])
    return (start + np.arange(count) * step).astype(call.need().dtype)


def pad(call):
    x, mode = call.need(), call.said("mode", "constant")
    edges = call.ints(1, "pads")
    axes = call.axes(x.ndim, 3) or tuple(range(x.ndim))
    if len(edges) != 2 * len(axes):
        raise ValueError(f"pads must be {2 * len(axes)} numbers, got {edges}")
    before, after = [0] * x.ndim, [0] * x.ndim
    for at, axis in enumerate(axes):
        before[axis], after[axis] = edges[at], edges[len(axes) + at]
    crop = tuple(slice(max(0, -low), size - max(0, -high)) for low, high, size in zip(before, after, x.shape, strict=True))
    width = [(max(0, low), max(0, high)) for low, high in zip(before, after, strict=True)]
    call.room([size + sum(each) for size, each in zip(x.shape, width, strict=True)])
    if mode == "constant":
        value = call.x(2)
        fill = call.said("value", 0) if value is None else value.item()
        return np.pad(x[crop], width, constant_values=x.dtype.type(fill))
    return np.pad(x[crop], width, mode={"edge": "edge", "reflect": "reflect"}[mode])


KERNELS = {
    "Shape": shape, "Size": lambda call: np.array(call.need().size, np.int64), "Reshape": reshape, "Flatten": flatten,
    "Squeeze": squeeze, "Unsqueeze": unsqueeze, "Transpose": transpose, "Concat": concat, "Slice": cut, "Split": split,
    "Expand": expand, "Tile": tile, "Gather": gather, "GatherElements": gather_elements, "GatherND": gather_nd,
    "ScatterND": scatter_nd, "ConstantOfShape": constant_of_shape, "Range": arange, "Pad": pad,
    "Identity": lambda call: call.need(), "Dropout": lambda call: (call.need(), np.ones(call.need().shape, bool)),
}  # fmt: skip

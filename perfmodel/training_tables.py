"""Layers of networks in training, and the matrix products of a step: forward, input gradient and weight gradient.

C[m, n] = A[m, k] x B[k, n]. ``m`` of the first two is rows of activations (pixels, tokens), and B is the weight; a weight
gradient has a row of C for each output channel, and ``k`` is the rows of activations. Norms, activation functions, softmax,
pooling and additions are no products and are in no table.
"""

from dataclasses import dataclass
from functools import cached_property

__all__ = ["PHASES", "TABLES", "Attention", "Conv", "Linear", "Product", "Table", "attention_layers", "mlp", "resnet18", "vit"]

FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT = PHASES = ("forward", "input gradient", "weight gradient")
_WORD = 16
"""Values of a word of memory: channels of a pixel."""


@dataclass(frozen=True, kw_only=True)
class Product:
    """``count`` equal products of a layer. ``channels``: how many weights lie side by side along k, in which groups may lie; 0 if
    the product is always dense. ``a_map`` and ``b_map``: elements that lie in memory for an operand, fewer than m*k or k*n where
    windows overlap. ``a_new`` and ``b_new``: different ones that no earlier product of the same layer and phase had to read."""

    layer: str
    phase: str
    m: int
    n: int
    k: int
    count: int = 1
    channels: int = 0
    a_map: int
    a_new: int
    b_map: int
    b_new: int

    @property
    def macs(self):
        """Multiply-accumulates of the dense products, all ``count``."""
        return self.count * self.m * self.n * self.k

    @property
    def results(self):
        """Elements of C, all ``count``."""
        return self.count * self.m * self.n

    def pattern(self, nnz, group):
        """(nnz, group) as this product has it: dense, (1, 1), unless its channels are a multiple of ``group``."""
        return (nnz, group) if self.channels and self.channels % group == 0 else (1, 1)

    def kept(self, nnz, group):
        """Multiply-accumulates that are left with ``nnz`` of each ``group``."""
        nnz, group = self.pattern(nnz, group)
        return self.macs * nnz // group


def _product(layer, phase, m, n, k, *, a_map=None, a_new=None, b_map=None, b_new=None, **fields):
    sides = {}
    for side, size, in_memory, new in (("a", m * k, a_map, a_new), ("b", k * n, b_map, b_new)):
        sides[f"{side}_map"] = least = min(size, size if in_memory is None else in_memory)
        sides[f"{side}_new"] = least if new is None else min(least, new)
    return Product(layer=layer, phase=phase, m=m, n=n, k=k, **sides, **fields)


@dataclass(frozen=True, kw_only=True)
class Linear:
    """A layer of ``c_in`` to ``c_out`` features for ``rows`` rows an image. The ``first`` of a network stays dense and needs no
    gradient of its input."""

    name: str
    c_in: int
    c_out: int
    rows: int = 1
    first: bool = False

    @property
    def weights(self):
        return self.c_in * self.c_out

    def products(self, batch):
        """The products of a step, forward first."""
        m, c_in, c_out = batch * self.rows, self.c_in, self.c_out
        yield _product(self.name, FORWARD, m, c_out, c_in, channels=0 if self.first else c_in)
        if not self.first:
            yield _product(self.name, INPUT_GRADIENT, m, c_in, c_out, channels=c_out)
        yield _product(self.name, WEIGHT_GRADIENT, c_out, c_in, m)


@dataclass(frozen=True, kw_only=True)
class Conv:
    """A convolution of square ``kernel``, ``stride`` and ``pad`` on a square map of ``size``; W[c_out, ky, kx, c_in]."""

    name: str
    c_in: int
    c_out: int
    size: int
    kernel: int
    stride: int = 1
    pad: int = 0
    first: bool = False

    @property
    def weights(self):
        return self.c_in * self.c_out * self.kernel**2

    @property
    def out(self):
        """Pixels along a side of the result."""
        return (self.size + 2 * self.pad - self.kernel) // self.stride + 1

    def phases(self):
        """(pixels, taps) along one side, for each residue of an input coordinate: the taps of the kernel that meet it."""
        for residue in range(self.stride):
            taps = sum((residue + self.pad - tap) % self.stride == 0 for tap in range(self.kernel))
            yield -(-(self.size - residue) // self.stride), taps

    def products(self, batch):
        """The products of a step, forward first. A strided layer's input gradient is a product for each phase that has taps:
        pixels that share the taps which meet them."""
        x_map, y_map = batch * self.size**2 * self.c_in, batch * self.out**2 * self.c_out
        pixels, window = batch * self.out**2, self.kernel**2 * self.c_in
        # Pixels of few channels would leave most of a word empty: their windows lie in memory as rows of a matrix.
        stored = None if self.c_in % _WORD else x_map
        yield _product(self.name, FORWARD, pixels, self.c_out, window, channels=0 if self.first else self.c_in, a_map=stored,
                       a_new=x_map)
        if not self.first:
            sides = list(self.phases())
            phases = sorted(((rows * columns, down * across) for rows, down in sides for columns, across in sides),
                            key=lambda phase: -phase[1])
            for number, (area, taps) in enumerate(phases):
                if taps:
                    yield _product(self.name, INPUT_GRADIENT, batch * area, self.c_in, taps * self.c_out, channels=self.c_out,
                                   a_map=y_map, a_new=0 if number else None)
        yield _product(self.name, WEIGHT_GRADIENT, self.c_out, window, pixels, b_map=stored, b_new=x_map)


@dataclass(frozen=True, kw_only=True)
class Attention:
    """The products between activations of ``heads`` heads of ``width`` for ``tokens`` tokens: Q K^T and A V. Both operands are
    dense, and both need a gradient; a gradient by the second operand counts as one of weights."""

    name: str
    tokens: int
    heads: int
    width: int
    weights = 0

    def products(self, batch):
        """The products of a step, forward first."""
        t, d, count = self.tokens, self.width, batch * self.heads
        for name, m, n, k in ((f"{self.name} QK", t, t, d), (f"{self.name} AV", t, d, t)):
            yield _product(name, FORWARD, m, n, k, count=count)
            yield _product(name, INPUT_GRADIENT, m, k, n, count=count)
            yield _product(name, WEIGHT_GRADIENT, k, n, m, count=count)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A network's layers in order of the forward pass, and the images of a step."""

    name: str
    about: str
    batch: int
    layers: tuple

    @cached_property
    def products(self):
        """All products of a step: forward in order, then for each layer from the last its gradients."""
        made = [list(layer.products(self.batch)) for layer in self.layers]
        forward = [product for layer in made for product in layer if product.phase == FORWARD]
        backward = [product for layer in reversed(made) for product in layer if product.phase != FORWARD]
        return tuple(forward + backward)

    @property
    def weights(self):
        """Weights of all layers; biases and norms are not counted."""
        return sum(layer.weights for layer in self.layers)

    @property
    def image_macs(self):
        """Multiply-accumulates of one image's forward pass."""
        return sum(product.macs for product in self.products if product.phase == FORWARD) // self.batch


def resnet18(batch=256):
    """ResNet-18 for 224 x 224 pixels and 1000 classes (arXiv 1512.03385)."""
    layers = [Conv(name="conv1", c_in=3, c_out=64, size=224, kernel=7, stride=2, pad=3, first=True)]
    size, c_in = 56, 64
    for stage, c_out in enumerate((64, 128, 256, 512), 1):
        for block in range(2):
            stride, name = (2 if stage > 1 and block == 0 else 1), f"layer{stage}.{block}"
            layers.append(Conv(name=f"{name}.conv1", c_in=c_in, c_out=c_out, size=size, kernel=3, stride=stride, pad=1))
            if stride > 1:
                layers.append(Conv(name=f"{name}.down", c_in=c_in, c_out=c_out, size=size, kernel=1, stride=stride))
            size, c_in = size // stride, c_out
            layers.append(Conv(name=f"{name}.conv2", c_in=c_in, c_out=c_out, size=size, kernel=3, pad=1))
    layers.append(Linear(name="fc", c_in=512, c_out=1000))
    return Table(name="resnet18", about="ResNet-18, 224 x 224 pixels", batch=batch, layers=tuple(layers))


def attention_layers(block, tokens, width, heads, hidden):
    """The layers of one transformer block."""
    return (Linear(name=f"{block}.qkv", c_in=width, c_out=3 * width, rows=tokens),
            Attention(name=f"{block}", tokens=tokens, heads=heads, width=width // heads),
            Linear(name=f"{block}.projection", c_in=width, c_out=width, rows=tokens),
            Linear(name=f"{block}.up", c_in=width, c_out=hidden, rows=tokens),
            Linear(name=f"{block}.down", c_in=hidden, c_out=width, rows=tokens))


def vit(name, about, batch, *, width, heads, depth=12, size=224, patch=16, classes=1000):
    """A vision transformer with a class token and four times as many hidden features."""
    patches = (size // patch)**2
    blocks = (layer for block in range(depth)
              for layer in attention_layers(f"block{block}", patches + 1, width, heads, 4 * width))
    return Table(name=name, about=about, batch=batch, layers=(
        Linear(name="patches", c_in=3 * patch**2, c_out=width, rows=patches, first=True), *blocks,
        Linear(name="head", c_in=width, c_out=classes)))


def mlp(batch=512, sizes=(784, 1024, 1024, 1024, 10)):
    """A multilayer perceptron: MNIST's pixels and classes, hidden layers of 1024."""
    layers = tuple(Linear(name=f"layer{number}", c_in=c_in, c_out=c_out, first=number == 0)
                   for number, (c_in, c_out) in enumerate(zip(sizes, sizes[1:], strict=False)))
    return Table(name="mlp", about="perceptron " + "-".join(map(str, sizes)), batch=batch, layers=layers)


TABLES = {table.name: table for table in (
    resnet18(), vit("deit-s", "DeiT-S, 224 x 224 pixels", 64, width=384, heads=6), mlp())}
"""Networks that training answers are given for, by name."""

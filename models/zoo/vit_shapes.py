"""Shapes of vision transformers, with and without experts, and their operations: what an estimate needs to know of a model."""

from dataclasses import dataclass

__all__ = ["M3VIT_TINY", "SHAPES", "VIT_T", "VitShape"]


@dataclass(frozen=True, kw_only=True)
class VitShape:
    """A pre-norm vision transformer. A class token stands before ``patches`` patches of ``patch_inputs`` values; ``depth`` blocks
    of ``width`` features and ``heads`` heads; blocks are dense with ``hidden`` features, every second one (the odd ones) has
    ``experts`` experts of ``expert_hidden`` instead, if there are any; each token takes ``top_k`` of them. ``classes`` come out.

    ``gates``: tasks that each have a gate of their own. An image runs through one.
    """

    name: str
    about: str
    patches: int
    patch_inputs: int
    width: int
    heads: int
    depth: int
    hidden: int
    experts: int = 0
    expert_hidden: int = 0
    top_k: int = 0
    gates: int = 1
    classes: int = 0

    @property
    def tokens(self):
        return self.patches + 1

    @property
    def head_width(self):
        return self.width // self.heads

    def has_experts(self, block):
        """Whether the block of that index has experts."""
        return self.experts > 0 and block % 2 == 1

    @property
    def macs(self):
        """Multiply-accumulates of an image, as a dict by part; norms, activations and softmax have none."""
        moe = sum(self.has_experts(block) for block in range(self.depth))
        square = self.tokens * self.width**2
        return {
            "patches": self.patches * self.patch_inputs * self.width,
            "projections": self.depth * 4 * square,
            "attention": self.depth * 2 * self.tokens**2 * self.width,
            "dense": (self.depth - moe) * 2 * self.tokens * self.width * self.hidden,
            "experts": moe * 2 * self.tokens * self.top_k * self.width * self.expert_hidden,
            "gates": moe * self.tokens * self.width * self.experts,
            "head": self.width * self.classes,
        }

    @property
    def gop(self):
        """Operations of an image in 10**9, two a multiply-accumulate."""
        return 2e-9 * sum(self.macs.values())


SHAPES = {shape.name: shape for shape in (
    VitShape(name="m3vit-tiny", about="M3ViT as Edge-MoE and UbiMoE ship it: 128 x 256 pixels, 16 experts, top-2",
             patches=128, patch_inputs=768, width=192, heads=3, depth=12, hidden=768, experts=16, expert_hidden=384, top_k=2,
             gates=2),
    VitShape(name="vit-t", about="ViT-T, also called DeiT-T, at 224 x 224 pixels",
             patches=196, patch_inputs=768, width=192, heads=3, depth=12, hidden=768, classes=1000),
)}
"""By name, as presets and benchmarks know them."""

M3VIT_TINY, VIT_T = SHAPES["m3vit-tiny"], SHAPES["vit-t"]

"""The sizes of a language model of the Llama architecture, from the keys of its GGUF file."""

from dataclasses import dataclass

from sparseloom.models.spec.errors import InputError

__all__ = ["EMBEDDING", "HEAD", "LlamaConfig", "read_config"]

HEAD = "output.weight"
EMBEDDING = "token_embd.weight"
LARGEST = 1 << 20


@dataclass(frozen=True, kw_only=True)
class LlamaConfig:
    """The sizes of a model. ``width`` = heads * head_width; ``inner``: width of the feed-forward part; ``context``: positions."""

    layers: int
    width: int
    inner: int
    heads: int
    kv_heads: int
    vocabulary: int
    context: int
    rope_base: float
    eps: float

    @property
    def head_width(self):
        return self.width // self.heads

    def shapes(self):
        """``(products, vectors)``: [n, k] of the matrices in the order of execution, HEAD last; [k] of the norms' gains."""
        kv = self.kv_heads * self.head_width
        square, up = (self.width, self.width), (self.inner, self.width)
        block = {"attn_q": square, "attn_k": (kv, self.width), "attn_v": (kv, self.width), "attn_output": square,
                 "ffn_gate": up, "ffn_up": up, "ffn_down": (self.width, self.inner)}
        products = {f"blk.{i}.{name}.weight": shape for i in range(self.layers) for name, shape in block.items()}
        norms = [f"blk.{i}.{name}.weight" for i in range(self.layers) for name in ("attn_norm", "ffn_norm")]
        vectors = {name: (self.width,) for name in [*norms, "output_norm.weight"]}
        return products | {HEAD: (self.vocabulary, self.width)}, vectors


def read_config(metadata, weights, where):
    """The LlamaConfig of a file's keys; InputError if one is missing, out of range, or asks for what the pass has not."""
    if metadata.get("general.architecture") != "llama":
        raise InputError(where, "general.architecture", "be llama", metadata.get("general.architecture"))
    if metadata.get("llama.rope.scaling.type", "none") != "none":
        raise InputError(where, "llama.rope.scaling.type", "be absent or none", metadata["llama.rope.scaling.type"])

    def number(key, kind, default=None):
        value = metadata.get(f"llama.{key}", default)
        if isinstance(value, bool) or not isinstance(value, kind) or not 0 < value <= (LARGEST if kind is int else 1e9):
            raise InputError(where, f"llama.{key}", "be a positive number", value)
        return value

    heads, width = number("attention.head_count", int), number("embedding_length", int)
    config = LlamaConfig(
        layers=number("block_count", int), width=width, inner=number("feed_forward_length", int), heads=heads,
        kv_heads=number("attention.head_count_kv", int, heads), context=number("context_length", int),
        vocabulary=len(weights.get(EMBEDDING, ())), rope_base=number("rope.freq_base", float, 10000.0),
        eps=number("attention.layer_norm_rms_epsilon", float))
    if width % heads or heads % config.kv_heads or config.head_width % 2:
        rule = "divide into query heads of even width, a whole number of them for each key/value head"
        raise InputError(where, "llama.embedding_length", rule, f"{width} for {heads} and {config.kv_heads} heads")
    for key in ("rope.dimension_count", "attention.key_length", "attention.value_length"):
        if metadata.get(f"llama.{key}", config.head_width) != config.head_width:
            raise InputError(where, f"llama.{key}", f"be the heads' width {config.head_width}", metadata[f"llama.{key}"])
    return config

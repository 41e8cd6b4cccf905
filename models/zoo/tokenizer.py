"""The byte-level BPE vocabulary of the language models: trained on the training split, kept in one JSON file.

The ``tokenizers`` library is imported when a function is called, so that everything else runs without it.
"""

import numpy as np

from sparseloom.models.spec.errors import InputError

__all__ = ["START", "gguf_tokenizer", "load_tokenizer", "streams", "train_tokenizer"]

CONTROL = 3  # GGUF's token type of markers that no text is split into
START = "\n"  # every stream begins with the end of the verse before it: the first real token has a context too


def train_tokenizer(text, vocabulary=4096):
    """A ``tokenizers.Tokenizer`` of exactly ``vocabulary`` byte-level BPE tokens (the 256 bytes are among them)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
    return tokenizer


def load_tokenizer(path):
    """The ``tokenizers.Tokenizer`` of a JSON file."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(path))


def gguf_tokenizer(metadata, where="gguf"):
    """The ``tokenizers.Tokenizer`` of a GGUF file's keys ``tokenizer.ggml.*``: byte-level BPE, model ``gpt2``, ``pre`` ``smollm``
    (GPT-2's splits, digits one by one). InputError for another kind, and where lists are missing or do not fit together.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    def key(name):
        return metadata.get(f"tokenizer.ggml.{name}")

    for name, expected in (("model", "gpt2"), ("pre", "smollm")):
        if key(name) != expected:
            raise InputError(where, f"tokenizer.ggml.{name}", f"be {expected}", key(name))
    tokens, merges = key("tokens") or [], [tuple(merge.split(" ")) for merge in key("merges") or []]
    kinds = key("token_type") or []
    vocabulary = {token: number for number, token in enumerate(tokens)}
    if not tokens or not len(tokens) == len(kinds) == len(vocabulary):
        raise InputError(where, "tokenizer.ggml.tokens", "be distinct and have a type each", f"{len(tokens)}, {len(kinds)} types")
    try:
        tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    except Exception as error:  # the library raises the bare class
        raise InputError(where, "tokenizer.ggml.merges", "join tokens of the list", str(error)) from None
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False)
                                  for token, kind in zip(tokens, kinds, strict=True) if kind == CONTROL])
    return tokenizer


def streams(tokenizer, splits):
    """One int64 array per split, by name: the start token, which is context only, then the tokens of the split."""
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    return {name: np.array(tokenizer.encode(START).ids + tokenizer.encode(text).ids, np.int64) for name, text in parts.items()}

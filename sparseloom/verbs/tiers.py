"""Install tiers, as the package's own metadata declares them, and the command that adds what is missing."""

import re
from dataclasses import dataclass
from fnmatch import fnmatch
from importlib import metadata

__all__ = ["Requirement", "requirements", "install_command", "command_for_module"]

_NOT_FOR_USERS = ("all", "dev", "train")  # `all` only names the others; the last two are for makers
# Import names that are not the distribution's name with underscores.
_IMPORT_NAMES = {"cocotbext-axi": "cocotbext"}


@dataclass(frozen=True)
class Requirement:
    """One distribution of a tier: the versions it may have (``>=1.26``), and the one that is installed (None: it is not)."""

    tier: str
    name: str
    wanted: str
    installed: str | None

    @property
    def fine(self):
        """Installed, and the very version where the tier pins one."""
        return self.installed is not None and (not self.wanted.startswith("==") or fnmatch(self.installed, self.wanted[2:]))

    @property
    def module(self):
        """The name it is imported by."""
        return _IMPORT_NAMES.get(self.name, self.name.replace("-", "_"))


def requirements():
    """Every :class:`Requirement` of the tier ``base`` and of each extra that names packages of its own."""
    found = []
    for line in metadata.requires("sparseloom") or []:
        name, _extras, wanted = re.match(r"([\w.-]+)(\[.*?\])?([^;]*)", line).groups()
        extra = re.search(r"extra == ['\"](.+?)['\"]", line)
        tier = extra[1] if extra else "base"
        if name != "sparseloom" and tier not in _NOT_FOR_USERS:
            found.append(Requirement(tier, name.lower(), wanted.strip(), _installed(name)))
    return found


def _installed(name):
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def install_command(tier):
    """The shell command that adds a tier."""
    return "pip install --upgrade sparseloom" if tier == "base" else f"pip install 'sparseloom[{tier}]'"


def command_for_module(module):
    """The command that adds the tier which brings the import ``module``, or None if no tier does."""
    top = (module or "").partition(".")[0]
    return next((install_command(item.tier) for item in requirements() if item.module == top), None)

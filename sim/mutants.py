"""Deliberate faults in the gates' sources: each must be seen by the tests that guard the block."""

import importlib.abc
import importlib.machinery
import multiprocessing
import sys
from dataclasses import dataclass

__all__ = ["Mutant", "verdict"]


@dataclass(frozen=True)
class Mutant:
    """``old``, which occurs once in the source of ``module`` (below sparseloom), becomes ``new``."""

    name: str
    module: str
    old: str
    new: str


def verdict(mutant, check):
    """What ``check()`` says with the mutant's sources in place: the name and text of the exception it raised, or None if it saw
    nothing.

    Runs in a child process that imports the gates anew. ValueError if ``old`` does not occur exactly once.
    """
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(mutant, check, there))
    child.start()
    there.close()
    try:
        kind, text = here.recv()
    except EOFError:
        kind, text = "crash", f"exit code {child.exitcode}"
    child.join()
    if kind == "fault":
        raise ValueError(text)
    return None if kind == "survived" else f"{kind}: {text}"


def _child(mutant, check, pipe):
    try:
        for name in [name for name in sys.modules if name.startswith("sparseloom.hdl")]:
            del sys.modules[name]
        finder = _Finder(mutant)
        sys.meta_path.insert(0, finder)
        try:
            check()
        except Exception as error:  # whatever the check raises is its verdict
            kind = "fault" if isinstance(error, _Fault) else type(error).__name__
            pipe.send((kind, str(error)[:400]))
        else:
            pipe.send(("survived", "") if finder.used else ("fault", f"{mutant.module} was not imported by the check"))
    finally:
        pipe.close()


class _Fault(Exception):
    pass


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the mutant's module with its source changed; leaves all others to the usual finders."""

    def __init__(self, mutant):
        self.mutant, self.used = mutant, False

    def find_spec(self, name, path, target=None):
        if name != f"sparseloom.{self.mutant.module}":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        spec.loader = _Loader(self, spec.origin)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, finder, origin):
        super().__init__(f"sparseloom.{finder.mutant.module}", origin)
        self.finder = finder

    def get_code(self, fullname):
        mutant, source = self.finder.mutant, self.get_source(fullname)
        if source.count(mutant.old) != 1:
            raise _Fault(f"{mutant.old!r} must occur once in {mutant.module}, occurs {source.count(mutant.old)} times")
        self.finder.used = True
        return compile(source.replace(mutant.old, mutant.new), self.path, "exec")

"""The command line: finds the verbs, and is the only place where an exception becomes a message and an exit code.

Exit codes: 0 done, 1 the verb's own check failed, 2 bad usage or input, or a missing tool (one ``error:`` line on stderr),
130 interrupted, 70 a fault of the program itself. ``SPARSELOOM_DEBUG=1`` lets every exception through with its traceback.
"""

import builtins
import importlib
import os
import pkgutil
import sys
from importlib import metadata

if sys.version_info < (3, 11):  # noqa: UP036 -- the same wheel installs under 3.10, for the host runtime
    sys.exit("error: the command line needs Python 3.11 or newer; under 3.10 only sparseloom.host.runtime works")

import typer

from sparseloom import verbs
from sparseloom.models.spec.errors import InputError, MissingTool
from sparseloom.verbs.common import CheckFailed
from sparseloom.verbs.tiers import command_for_module

__all__ = ["main", "verb_names", "verb_function"]

_USAGE, _INTERRUPTED, _FAULT = 2, 130, 70


def verb_names():
    """Names of the verbs, sorted: every public module of ``sparseloom.verbs`` that holds a function of its own name."""
    names = (info.name for info in pkgutil.iter_modules(verbs.__path__))
    return sorted(name for name in names if verb_function(name) is not None)


def verb_function(name):
    """The function behind a verb, or None if the module only serves the others."""
    module = importlib.import_module(f"{verbs.__name__}.{name}")
    return getattr(module, f"{name}_" if hasattr(builtins, name) else name, None)


def _version(asked: bool):
    if asked:
        print(f"sparseloom {metadata.version('sparseloom')}")
        raise typer.Exit()


def _app():
    app = typer.Typer(
        name="sparseloom",
        help="Generate, simulate and estimate FPGA accelerators for compressed neural networks.",
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def _root(version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version.")):
        pass

    for name in verb_names():
        app.command(name)(verb_function(name))
    return app


def _message(error):
    """``(line, exit code)`` for an exception that a user can mend, or None for a fault of the program."""
    if isinstance(error, CheckFailed):
        return str(error), 1
    if isinstance(error, (InputError, MissingTool)):
        return str(error), _USAGE
    if isinstance(error, typer.TyperException):
        context = getattr(error, "ctx", None)
        return error.format_message() + (f" (see {context.command_path} --help)" if context else ""), _USAGE
    if isinstance(error, ModuleNotFoundError):
        command = command_for_module(error.name)
        return command and (f"{error.name} is not installed; run: {command}", _USAGE)
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}", _USAGE
    return None


def _fail(error):
    """Print what went wrong as one line and return the exit code."""
    found = _message(error)
    if found is None:
        found = f"internal: {type(error).__name__}: {error} (SPARSELOOM_DEBUG=1 shows where)", _FAULT
    line, code = found
    print("error:", " ".join(str(line).split()), file=sys.stderr)
    return code


def main(arguments=None):
    """Run one command line (default: the process's own) and return the exit code; never raises unless SPARSELOOM_DEBUG=1."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        return _app()(arguments or ["--help"], prog_name="sparseloom", standalone_mode=False) or 0
    except (KeyboardInterrupt, typer.Abort):
        return _INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter reports the pipe once more at exit
        return 0
    except Exception as error:
        if os.environ.get("SPARSELOOM_DEBUG") == "1":
            raise
        return _fail(error)

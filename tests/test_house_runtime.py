"""The host runtime runs on a board: the standard library, NumPy and safetensors alone, in the Python 3.10 that boards ship."""

import ast
import subprocess
import sys

BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in {"numpy", "safetensors", "sparseloom"} and top not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"{name} is not on the board", name=name)

sys.meta_path.insert(0, Blocker())
"""

LOADED = """
import sparseloom.host.runtime
print(*(module.__file__ for name, module in sys.modules.items() if name.partition(".")[0] == "sparseloom"), sep="\\n")
"""


def on_a_board(code):
    return subprocess.run([sys.executable, "-c", BLOCKED + code], capture_output=True, text=True)


def test_runtime_loads_with_everything_else_blocked():
    done = on_a_board(LOADED)
    assert done.returncode == 0, done.stderr
    files = done.stdout.split()
    assert any(name.endswith("host/runtime.py") for name in files)
    for name in files:
        ast.parse(open(name).read(), feature_version=(3, 10))


def test_the_block_holds():
    done = on_a_board("import typer")
    assert done.returncode == 1 and "typer is not on the board" in done.stderr

"""The package runs no code of others: no network, no pickles, no commands, no code from text."""

import ast
import tomllib

import pytest

from tests.test_architecture import PACKAGE, ROOT, modules

# Modules of Python and of PyPI that fetch, run or unpickle something.
FORBIDDEN_MODULES = {
    *("aiohttp", "ftplib", "http", "httpx", "poplib", "requests", "smtplib", "socket", "ssl", "urllib", "urllib3"),
    *("cloudpickle", "dill", "joblib", "marshal", "shelve"),
    *("multiprocessing", "pty", "subprocess"),
    *("code", "codeop", "ctypes", "imp", "runpy"),
}
FORBIDDEN_BUILTINS = {"__import__", "breakpoint", "compile", "eval", "exec"}
# Methods of `os` that run a command, and functions of others that read a pickle.
FORBIDDEN_CALLS = {
    *("os.system", "os.popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.startfile"),
    *(f"os.{kind}{end}" for kind in ("exec", "spawn") for end in ("l", "le", "lp", "lpe", "v", "ve", "vp", "vpe")),
    *(f"pickle.{name}" for name in ("load", "loads", "Unpickler", "dump", "dumps", "Pickler")),
    *("np.load", "numpy.load", "pd.read_pickle", "pandas.read_pickle", "torch.hub.load", "torch.jit.load"),
    "importlib.util.spec_from_file_location",
}
# Ranks of one fit pickle what they tell each other, as torch.distributed's own functions for objects do. Whoever could
# send them something else runs code on them already.
ALLOWED = {"distributed/processes.py": ["calls pickle.loads", "calls pickle.loads", "calls pickle.dumps"]}


def faults(tree: ast.Module) -> list[str]:
    """What a module does that this package must not."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            found += [f"imports {name}" for name in names if name.split(".")[0] in FORBIDDEN_MODULES]
        if isinstance(node, ast.Name) and node.id in FORBIDDEN_BUILTINS:
            found.append(f"uses {node.id}")
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            safely = any(word.arg == "weights_only" and ast.unparse(word.value) == "True" for word in node.keywords)
            if called in FORBIDDEN_CALLS or (called == "torch.load" and not safely):
                found.append(f"calls {called}")
    return found


def test_the_package_runs_no_code_of_others() -> None:
    paths = [PACKAGE / "__init__.py", *modules()]
    found = {path.relative_to(PACKAGE).as_posix(): faults(ast.parse(path.read_text())) for path in paths}
    assert {name: calls for name, calls in found.items() if calls} == ALLOWED


@pytest.mark.parametrize(
    "code",
    [
        "import socket",
        "from urllib.request import urlopen",
        "import os.path, marshal",
        "pickle.loads(text)",
        "eval('1')",
        "f = exec",
        "import os; os.system('ls')",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
    ],
)
def test_what_is_looked_for_is_found(code: str) -> None:
    assert faults(ast.parse(code))


def test_dependencies_have_no_upper_bound() -> None:
    """A release that fixes a hole must not be kept out."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = [*project["dependencies"], *(one for part in project["optional-dependencies"].values() for one in part)]
    bounded = [one for one in required if any(sign in one.partition(";")[0] for sign in ("<", "==", "~=", "!="))]
    assert bounded == []
    assert project["requires-python"].startswith(">=")


def test_the_release_is_audited() -> None:
    assert "pip-audit" in (ROOT / ".github" / "CONTRIBUTING.md").read_text()

"""Measure how a checkout of the package is built: calls of an iteration, folders, docstrings, lengths.

Run as ``python -m tests.benchmarks.structure [PATH ...]``: one column per checkout, by default this one; ten seconds
each. Everything but the calls is read from the source, so that the package is neither imported nor changed.
"""

import argparse
import ast
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import tokenize
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NamedTuple

Function = ast.FunctionDef | ast.AsyncFunctionDef

PACKAGE = "mixpyro"
ROOT = Path(__file__).parents[2]
# The figures are those of one more iteration than this: all that happens once in a fit cancels.
N_ITERATIONS = 29
# Modules that do nothing but check arguments, by their old name and by their new one.
CHECKING_MODULES = {"validation.py", "arguments.py"}
# Tokens that do not make a line a line of code.
NOT_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


class Definition(NamedTuple):
    """A class or a function of the package."""

    module: str  # path below the package, such as gates/base.py
    name: str  # qualified, such as Gate.update
    node: ast.ClassDef | Function
    in_class: bool
    is_public: bool  # no underscore before any name of it, and not inside a function

    @property
    def docstring(self) -> str:
        """The docstring without its indentation; empty if there is none."""
        return ast.get_docstring(self.node) or ""


def sources(checkout: Path) -> dict[str, str]:
    """Return the text of every module, by its path below the package."""
    package = checkout / PACKAGE
    return {str(path.relative_to(package)): path.read_text() for path in sorted(package.rglob("*.py"))}


def definitions(module: str, text: str) -> Iterator[Definition]:
    """Yield every class and function of a module, nested ones included."""
    module_is_public = not any(part.startswith("_") and part != "__init__.py" for part in module.split("/"))
    yield from _below(module, ast.parse(text), "", in_class=False, is_public=module_is_public)


def _below(module: str, parent: ast.AST, prefix: str, *, in_class: bool, is_public: bool) -> Iterator[Definition]:
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, ast.ClassDef | Function):
            public = is_public and not node.name.startswith("_") and not _is_setter(node)
            yield Definition(module, prefix + node.name, node, in_class, public)
            is_class = isinstance(node, ast.ClassDef)
            yield from _below(module, node, f"{prefix}{node.name}.", in_class=is_class, is_public=public and is_class)
        else:
            yield from _below(module, node, prefix, in_class=in_class, is_public=is_public)


def _is_setter(node: ast.AST) -> bool:
    """Return whether a function is the setter of a property, which the property's docstring describes."""
    decorators = getattr(node, "decorator_list", [])
    return any(isinstance(one, ast.Attribute) and one.attr == "setter" for one in decorators)


# Docstrings


def arguments(function: Function, *, in_class: bool) -> list[str]:
    """Return the names of a function's arguments, without ``self`` or ``cls``."""
    given = function.args
    names = [argument.arg for argument in (*given.posonlyargs, *given.args)]
    if in_class and not any("staticmethod" in ast.unparse(decorator) for decorator in function.decorator_list):
        names = names[1:]
    starred = [argument for argument in (given.vararg, given.kwarg) if argument is not None]
    return [*names, *(argument.arg for argument in (*given.kwonlyargs, *starred))]


def listed_arguments(docstring: str) -> set[str]:
    """Return the names that a docstring has in its ``Args:`` section."""
    section = re.search(r"^Args:\n((?:[ ]+.*\n|\n)*)", docstring + "\n", flags=re.MULTILINE)
    entries = re.findall(r"^[ ]{4}(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: \(.*?\))?:", section[1] if section else "", re.M)
    return {name.strip("* ") for entry in entries for name in entry.split(",")}


def arguments_to_list(definition: Definition) -> list[str]:
    """Return the arguments that a docstring must list: those of a function, or of the ``__init__`` of a class."""
    if not isinstance(definition.node, ast.ClassDef):
        return arguments(definition.node, in_class=definition.in_class)
    makers = [node for node in definition.node.body if isinstance(node, Function) and node.name == "__init__"]
    return arguments(makers[-1], in_class=True) if makers else []


def docstring_figures(public: list[Definition]) -> dict[str, str]:
    """Return the share of public objects with a docstring, its median words, and the share that lists arguments."""
    documented = [definition.docstring for definition in public if definition.docstring]
    words = [len(docstring.split()) for docstring in documented]
    first_lines = [len(docstring.splitlines()[0].split()) for docstring in documented]
    with_arguments = [definition for definition in public if arguments_to_list(definition)]
    listed = [one for one in with_arguments if set(arguments_to_list(one)) <= listed_arguments(one.docstring)]
    return {
        "public classes and functions": str(len(public)),
        "  with a docstring": _share(len(documented), len(public)),
        "  median words of a docstring": f"{statistics.median(words):g}",
        "  median words of its first line": f"{statistics.median(first_lines):g}",
        "  with arguments": str(len(with_arguments)),
        "  of these, with all of them under Args": _share(len(listed), len(with_arguments)),
    }


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "none"


# Lengths


def code_lines(text: str) -> set[int]:
    """Return the numbers of the lines that are neither blank, nor comments, nor docstrings."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(iter(text.splitlines(keepends=True)).__next__):
        if token.type not in NOT_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Module | ast.ClassDef | Function) and ast.get_docstring(node) is not None:
            lines.difference_update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    return lines


def length(definition: Definition, lines: set[int]) -> int:
    """Return the lines of code of a function, with its first line and what is nested in it."""
    return sum(definition.node.lineno <= line <= (definition.node.end_lineno or 0) for line in lines)


def length_figures(modules: dict[str, str], found: list[Definition]) -> dict[str, str]:
    """Return the lines of code, the longest function, the longest file and the fullest folder."""
    lines = {module: code_lines(text) for module, text in modules.items()}
    functions = [definition for definition in found if isinstance(definition.node, Function)]
    longest = max(functions, key=lambda one: length(one, lines[one.module]))
    longest_file = max(modules, key=lambda module: len(modules[module].splitlines()))
    folders = Counter(str(Path(module).parent) for module in modules if Path(module).name != "__init__.py")
    folder, n_files = folders.most_common(1)[0]
    return {
        "files in the fullest folder": f"{n_files} {folder}",
        "lines of code": str(sum(map(len, lines.values()))),
        "longest function, lines of code": f"{length(longest, lines[longest.module])} {longest.name}",
        "longest file, lines": f"{len(modules[longest_file].splitlines())} {longest_file}",
    }


# Members of the base classes


def ancestors(name: str, classes: dict[str, ast.ClassDef]) -> list[str]:
    """Return a class and its ancestors within the package, in the order of Python's method resolution."""
    bases = [ast.unparse(base).split("[")[0].split(".")[-1] for base in classes[name].bases]
    below = [one for base in bases if base in classes for one in ancestors(base, classes)]
    return [name, *(one for i, one in enumerate(below) if one not in below[i + 1 :])]


def members(name: str, classes: dict[str, ast.ClassDef]) -> dict[str, str]:
    """Return what a class has of its own and by inheritance: ``abstract``, ``public`` or ``flag``, by name."""
    found: dict[str, str] = {}
    for ancestor in reversed(ancestors(name, classes)):
        for node in classes[ancestor].body:
            if isinstance(node, Function):
                kind = "abstract" if _only_raises(node) else "public"
                found.update({} if node.name.startswith("_") else {node.name: kind})
            elif isinstance(node, ast.AnnAssign | ast.Assign):
                targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
                found.update((target.id, "flag") for target in targets if isinstance(target, ast.Name))
    return found


def _only_raises(function: Function) -> bool:
    """Whether the body only raises NotImplementedError, so that a subclass must write the method."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return len(body) == 1 and isinstance(body[0], ast.Raise) and "NotImplementedError" in ast.unparse(body[0])


def member_figures(found: list[Definition]) -> dict[str, str]:
    """Return how many members a new gate or experts must write, for each base class that leaves some to write."""
    classes = {one.name: one.node for one in found if isinstance(one.node, ast.ClassDef) and one.is_public}
    inherited = {base for name in classes for base in ancestors(name, classes)[1:]}
    figures = {}
    for name in (name for name in classes if name in inherited):
        count = Counter(members(name, classes).values())
        if count["abstract"] and {"Gate", "Experts"} & set(ancestors(name, classes)):
            others = f"(and {count['public']} public, {count['flag']} flags)"
            figures[f"members to write for a subclass of {name}"] = f"{count['abstract']} {others}"
    return figures


# Calls of one iteration


def count_calls(n_iterations: int) -> None:
    """Fit Dirichlet weights and three lines to 200 rows; print the iterations and the calls of each function.

    Comprehensions and generator expressions are left out, for later versions of Python make no call for them.

    Args:
        n_iterations: most iterations of the fit, which must not converge before.
    """
    import torch

    import mixpyro

    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(0)
    x, noise = torch.randn(2, 200, 1, generator=generator, dtype=torch.float64)
    slopes = torch.tensor([1.0, -1.0, 0.5], dtype=torch.float64)
    y = slopes[torch.arange(200) % 3].unsqueeze(1) * x + noise
    start = torch.rand(200, 3, generator=generator, dtype=torch.float64).softmax(-1)
    mixture = mixpyro.MixtureOfExperts(mixpyro.DirichletGate(3), mixpyro.LinearExperts(3, 1))
    folder = str(Path(mixpyro.__file__).parent) + os.sep
    calls: Counter[tuple[str, str]] = Counter()

    def note(frame: FrameType, event: str, _: object) -> None:
        path, name = frame.f_code.co_filename, frame.f_code.co_name
        if event == "call" and path.startswith(folder) and (not name.startswith("<") or name == "<lambda>"):
            calls[path.removeprefix(folder), name] += 1

    options = {"n_restarts": 1, "n_candidates": 1, "max_iterations": n_iterations, "tolerance": 0.0, "progress": False}
    sys.setprofile(note)
    result = mixpyro.fit(mixture, x, y, initial_responsibilities=start, **options)  # type: ignore[arg-type]
    sys.setprofile(None)
    print(json.dumps([result.n_iterations, [[*function, n] for function, n in calls.items()]]))


def calls_of_a_fit(checkout: Path, n_iterations: int) -> Counter[tuple[str, str]]:
    """Return the calls by file and function, counted in a process that imports the package of this checkout."""
    command = [sys.executable, "-P", __file__, "--count-calls", str(n_iterations)]
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    with tempfile.TemporaryDirectory() as elsewhere:
        run = subprocess.run(command, cwd=elsewhere, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    done, calls = json.loads(run.stdout.splitlines()[-1])
    if done != n_iterations:
        raise RuntimeError(f"the fit must take {n_iterations} iterations; got {done}.")
    return Counter({(file, name): n for file, name, n in calls})


def call_figures(checkout: Path) -> dict[str, str]:
    """Return the calls of one more iteration of a fit, the files they are in, and how many only check arguments."""
    calls = calls_of_a_fit(checkout, N_ITERATIONS + 1) - calls_of_a_fit(checkout, N_ITERATIONS)
    checks = {key: n for key, n in calls.items() if Path(key[0]).name in CHECKING_MODULES or _is_check(key[1])}
    return {
        "calls of one iteration": str(calls.total()),
        "  in files": str(len({file for file, _ in calls})),
        "  of these, checks of arguments": str(sum(checks.values())),
    }


def _is_check(name: str) -> bool:
    return name.lstrip("_").startswith("check")


def measured(checkout: Path) -> dict[str, str]:
    """Return every figure of a checkout, by what it is.

    Args:
        checkout: the folder that holds ``mixpyro``.
    """
    modules = sources(checkout)
    found = [definition for module, text in modules.items() for definition in definitions(module, text)]
    public = [definition for definition in found if definition.is_public]
    read = member_figures(found) | length_figures(modules, found) | docstring_figures(public)
    return call_figures(checkout) | read


def main(checkouts: list[Path]) -> None:
    """Print a line for every figure, with one column for each checkout."""
    columns = [measured(checkout.resolve()) for checkout in checkouts]
    labels = dict.fromkeys(label for column in columns for label in column)
    for label in labels:
        print(f"{label:<54}" + "".join(f"{column.get(label, '-'):<46}" for column in columns).rstrip())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkouts", nargs="*", type=Path, default=[ROOT])
    parser.add_argument("--count-calls", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.count_calls is None:
        main(given.checkouts)
    else:
        count_calls(given.count_calls)

"""Pages that are made: the reference, one for each group of public names, and the examples that are notebooks.

A new public name and a new example appear by themselves. A public name whose module is in no group is an error.
"""

import ast
import importlib
import inspect
import re
import shutil
from pathlib import Path

FITTING = ("mixpyro.mixture", "mixpyro.fitting", "mixpyro.groups", "mixpyro.saving", "mixpyro.distributed")
# File, title, and the modules whose public names it has; a name goes to the longest that fits.
PAGES = (
    ("gates", "Gates", ("mixpyro.gates",)),
    ("experts", "Experts", ("mixpyro.experts",)),
    ("families", "Families of densities", ("mixpyro.experts.families",)),
    ("fitting", "Mixtures and fitting", FITTING),
    (
        "results",
        "Results and reports",
        (
            *(f"mixpyro.fitting.{name}" for name in ("result", "outcomes", "provenance", "fitted_rows")),
            "mixpyro.reports",
            "mixpyro.intervals",
            "mixpyro.refinement",
        ),
    ),
    ("trees", "Trees of components", ("mixpyro.tree_search",)),
    ("diagnostics", "Diagnostics with ArviZ", ("mixpyro.diagnostics",)),
    ("plots", "Pictures", ("mixpyro.diagnostics.plots",)),
    ("programs", "Gates in a Pyro program", ("mixpyro.programs", "mixpyro.pyro_internals", "mixpyro.numerics")),
    ("adapters", "Adapters for older EM loops", ("mixpyro.hyper_models",)),
    ("formulas", "Formulas", ("mixpyro.frontends.formula",)),
    ("estimators", "Estimators for scikit-learn", ("mixpyro.frontends",)),
    ("extending", "Base classes, for gates and experts of your own", ()),
)
# Packages whose `__all__` is public, beside that of mixpyro itself.
PACKAGES = (
    "mixpyro.experts.families",
    "mixpyro.diagnostics",
    "mixpyro.diagnostics.plots",
    "mixpyro.hyper_models",
    "mixpyro.distributed",
)
BASES = (
    "mixpyro.gates.base.Gate",
    "mixpyro.gates.conjugate.ConjugateGate",
    "mixpyro.gates.logits.LogitGate",
    "mixpyro.experts.base.Experts",
    "mixpyro.experts.conjugate.ConjugateExperts",
    "mixpyro.experts.estimated.EstimatedExperts",
    "mixpyro.experts.family.Family",
)
# Where what all classes of a page have in common is described.
COMMON = {
    "Gates": ("mixpyro.gates.base.Gate", "``weights(x)``, the Pyro ``model`` and ``guide``"),
    "Experts": ("mixpyro.experts.base.Experts", "``predict(x)``, ``predictive(x)``, the Pyro ``model`` and ``guide``"),
}
# Classes from which on a class's members are not repeated on its page.
NOT_REPEATED = (
    "Gate, Experts, Family, Part, PyroModule, Module, SVI, AutoGuide, Distribution, BaseEstimator, tuple, object"
)
PERCENT = "# %% [markdown]"


def public_names() -> dict[str, str]:
    """Return the module that defines each public name, by the name as users write it: ``mixpyro.fit``."""
    found: dict[str, str] = {}
    seen: set[int] = set()
    for package in ("mixpyro", *PACKAGES):
        module = importlib.import_module(package)
        # Names that need an extra are imported when they are first used.
        for name in (*module.__all__, *getattr(module, "ON_DEMAND", ())):
            value = getattr(module, name)
            if id(value) not in seen and (inspect.isclass(value) or inspect.isroutine(value)):
                seen.add(id(value))
                found[f"{package}.{name}"] = package if package in PACKAGES else value.__module__
    return found


def page_of(module: str) -> str:
    """Return the file of the page for the names of a module.

    Raises:
        LookupError: if no page has it.
    """
    fitting = [(len(prefix), page) for page, _, prefixes in PAGES for prefix in prefixes if module.startswith(prefix)]
    if not fitting:
        raise LookupError(f"`PAGES` must have a page for the public names of {module}; got none.")
    return max(fitting)[1]


def pages() -> dict[str, list[str]]:
    """Return the public names of every page, in alphabetical order, the base classes on the last."""
    found: dict[str, list[str]] = {page: [] for page, *_ in PAGES}
    for name, module in sorted(public_names().items()):
        found[page_of(module)].append(name)
    found["extending"] = list(BASES)
    return {page: names for page, names in found.items() if names}


def write(folder: Path) -> None:
    """Write the pages of the reference.

    Args:
        folder: where to, made if it is missing; pages that have not changed are left as they are.
    """
    folder.mkdir(exist_ok=True)
    titles = {page: title for page, title, _ in PAGES}
    texts = {page: _page(titles[page], names) for page, names in pages().items()}
    contents = "".join(f"   {page}\n" for page in texts)
    texts["index"] = f"{_heading('Reference')}.. toctree::\n   :maxdepth: 2\n\n{contents}"
    for page, text in texts.items():
        _write(folder / f"{page}.rst", text)
    for path in folder.glob("*.rst"):
        if path.stem not in texts:
            path.unlink()


def gather(examples: Path, folder: Path) -> None:
    """Bring the examples to where Sphinx reads them: notebooks as they are, other scripts as a page with their code.

    A script is a notebook if it begins with a cell of text.

    Args:
        examples: folder of the scripts.
        folder: where to, made if it is missing.
    """
    folder.mkdir(exist_ok=True)
    texts = {"data.md": (examples / "data" / "README.md").read_text()}
    for path in examples.glob("*.py"):
        text = path.read_text()
        if text.startswith(PERCENT):
            texts[path.name] = text
        else:
            texts[f"{path.stem}.md"] = _script(path.name, text)
    for name, text in texts.items():
        _write(folder / name, text)
    for path in folder.glob("*.*"):
        if path.name not in texts:
            path.unlink()
    # Where notebooks look for it, as they do in the folder of the examples.
    shutil.copytree(examples / "data", folder / "data", ignore=shutil.ignore_patterns("*.md"), dirs_exist_ok=True)


def linked_here(text: str) -> str:
    """Return a page whose links to the examples and their data lead to pages of these documents.

    Args:
        text: with links as they are right in a checkout.
    """
    text = text.replace("](../data/README.md)", "](gallery/data.md)")
    return re.sub(r"\]\(\.\./(\w+)\.py\)", r"](/gallery/\1)", text)


def described(name: str, lines: list[str]) -> list[str]:
    """Return the docstring of a name, which for a field of a NamedTuple is the comment behind or above it.

    Args:
        name: dotted, such as ``mixpyro.Criteria.bic``.
        lines: of its docstring.
    """
    if not lines or not lines[0].startswith("Alias for field number"):
        return lines
    module, own, field = name.rsplit(".", 2)
    source = inspect.getsource(getattr(importlib.import_module(module), own))
    found = re.search(rf"(?P<above>(?:^ *#.*\n)*)^ *{field}: [^#\n]*(?P<behind>#.*)?$", source, re.MULTILINE)
    comment = "" if found is None else found["behind"] or found["above"]
    return [" ".join(comment.replace("#", " ").split())]


def _script(name: str, text: str) -> str:
    """Return a page with the code of a script, and its docstring as text before."""
    first = ast.parse(text).body[0]
    said, _, rest = inspect.cleandoc(ast.get_docstring(ast.parse(text)) or name).partition("\n\n")
    code = f"```{{literalinclude}} ../../{name}\n:language: python\n:lines: {(first.end_lineno or 0) + 2}-\n```"
    return f"# {said.replace(chr(10), ' ')}\n\n{rest}\n\n`examples/{name}`:\n\n{code}\n"


def _page(title: str, names: list[str]) -> str:
    """Return a page with everything that names have."""
    common = COMMON.get(title)
    note = f"What all of them have is described with :class:`~{common[0]}`: {common[1]}.\n\n" if common else ""
    return _heading(title) + note + "\n".join(_entry(name, leave_out=common is not None) for name in names)


def _entry(name: str, *, leave_out: bool) -> str:
    """Return the directive that documents a class or a function, without what its base class has if so said."""
    module, _, own = name.rpartition(".")
    value = getattr(importlib.import_module(module), own)
    if not inspect.isclass(value):
        return f".. autofunction:: {name}\n"
    options = ["members", f"inherited-members: {NOT_REPEATED}", "show-inheritance"]
    if leave_out:
        bases = [base for base in value.__mro__ if f"{base.__module__}.{base.__name__}" in BASES]
        options.append(f"exclude-members: {', '.join(sorted({entry for base in bases for entry in dir(base)}))}")
    return "\n".join((f".. autoclass:: {name}", *(f"   :{option}" for option in map(_option, options)))) + "\n"


def _option(text: str) -> str:
    """Return an option of a directive, ``name:`` or ``name: value``."""
    return text if ":" in text else f"{text}:"


def _heading(title: str) -> str:
    """Return a heading in reStructuredText."""
    return f"{title}\n{'=' * len(title)}\n\n"


def _write(path: Path, text: str) -> None:
    """Write a file unless it has this text, so that Sphinx reads only what has changed."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)

"""Imports point one way, and every gate and expert has its contract test."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mixpyro
from mixpyro import experts, gates
from mixpyro.gates.conjugate import ConjugateGate

PACKAGE = Path(mixpyro.__file__).parent
ROOT = PACKAGE.parent
# Who may import whom: a part imports parts of an earlier layer, or of its own folder where the layer says so.
LAYERS = (
    {"shapes"},
    {"arguments"},
    {"distributed"},
    {"tables"},
    {"numerics"},
    {"groups"},
    {"distributions", "pyro_internals"},
    {"conjugate"},
    {"fitted_part"},
    {"part_arguments"},
    {"part"},
    {"conjugate_part"},
    {"gates", "experts", "fitted_columns"},
    {"labels", "missing"},
    {"mixture_rows"},
    {"mixture_tables"},
    {"mixture_predictions", "mixture_program"},
    {"mixture"},
    {"saving", "programs"},
    {"fitting"},
    {"intervals", "tree_search"},
    {"reports", "diagnostics", "hyper_models"},
    {"refinement"},
    {"frontends"},
)


# Files of a folder of gates or experts that hold what several of them have in common.
BASES = {"base", "banks", "formulas", "conjugate", "per_object", "logits", "estimated", "exponential_family"}


def modules() -> list[Path]:
    """Every module of the package but the one that only exports names."""
    return [path for path in sorted(PACKAGE.rglob("*.py")) if path != PACKAGE / "__init__.py"]


def part(dotted: str) -> str:
    """``gates`` of ``mixpyro.gates.base``."""
    return dotted.split(".")[1]


def imports(path: Path) -> list[str]:
    """What a module imports from mixpyro, dotted."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "mixpyro":
            names = [alias.name for alias in node.names] if node.module == "mixpyro" else [""]
            found += [f"{node.module}.{name}".rstrip(".") for name in names]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] == "mixpyro"]
    return found


def layer(name: str) -> int:
    """Index of the layer that a part belongs to."""
    return next(i for i, names in enumerate(LAYERS) if name in names)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    for imported in imports(path):
        assert part(imported) == own or layer(part(imported)) < layer(own), f"{path.name} imports {imported}"


@pytest.mark.parametrize("folder", ["gates", "experts"])
def test_a_gate_or_expert_imports_leaves_and_what_it_inherits_from(folder: str) -> None:
    package = inspect.importlib.import_module(f"mixpyro.{folder}")  # type: ignore[attr-defined]
    concrete = {getattr(package, name).__module__ for name in package.__all__} - {f"mixpyro.{folder}.base"}
    for path in (PACKAGE / folder).glob("[!_]*.py"):
        module = inspect.importlib.import_module(f"mixpyro.{folder}.{path.stem}")  # type: ignore[attr-defined]
        own = [c for _, c in inspect.getmembers(module, inspect.isclass) if c.__module__ == module.__name__]
        inherited = {base.__module__ for c in own for base in c.__mro__}
        for imported in imports(path):
            helper = imported not in concrete
            assert layer(part(imported)) < layer("gates") or helper or imported in inherited, imported


@pytest.mark.parametrize("name", ["mixture.py", "fitting"])
def test_mixture_and_fitting_name_no_concrete_gate_or_expert(name: str) -> None:
    paths = [PACKAGE / name] if name.endswith(".py") else list((PACKAGE / name).rglob("*.py"))
    for path in paths:
        for imported in imports(path):
            if part(imported) in ("gates", "experts"):
                assert imported.split(".")[-1] in BASES, f"{path.name} imports {imported}"


@pytest.mark.parametrize("package", [gates, experts])
def test_every_gate_and_expert_inherits_its_contract_test(package: object) -> None:
    for name in package.__all__:  # type: ignore[attr-defined]
        kind = getattr(package, name)
        if name in ("Gate", "Experts"):
            continue
        folder, stem = kind.__module__.split(".")[1:]
        test = (ROOT / "tests" / folder / f"test_{stem}.py").read_text()
        has_latent_weights = issubclass(kind, ConjugateGate) and kind.weights_site is not None
        contract = "LatentWeightsContract" if has_latent_weights else ""
        if has_latent_weights and kind.weights_site == "coefficients":
            contract = "BayesianLogitContract"
        assert re.search(rf"class Test{name}\(\w*Contract\)", test)
        assert contract in test


def test_public_names_are_documented() -> None:
    for name in mixpyro.__all__:
        assert inspect.getdoc(getattr(mixpyro, name))


def test_importing_changes_no_global_state() -> None:
    code = (
        "import pyro, torch; before = (pyro.settings.get(), torch.get_default_dtype(), torch.get_rng_state().sum());"
        "import mixpyro, mixpyro.hyper_models;"
        "assert before == (pyro.settings.get(), torch.get_default_dtype(), torch.get_rng_state().sum());"
        "assert not len(pyro.get_param_store());"
        "import sys; assert not {'arviz', 'matplotlib', 'scipy.special', 'xarray'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)

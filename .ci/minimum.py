"""Print pip constraints that pin every dependency to the minimum version that pyproject.toml declares."""

import re
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
# Later releases of indirect dependencies warn about calls in these minimums, and the tests turn warnings into errors.
INDIRECT = ["pyparsing<3.3"]
REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)>=(?P<version>[\w.]+)")


def requirements() -> list[str]:
    """Return the dependencies of the package and of its tests, as pyproject.toml writes them."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    extras = project["optional-dependencies"]
    return [*project["dependencies"], *extras["examples"], *extras["test"]]


def constraints() -> list[str]:
    """Return ``name==minimum`` for every requirement but the package's own extras, and what these need."""
    external = [requirement for requirement in requirements() if not requirement.startswith("mixpyro[")]
    return [*map(minimum, external), *INDIRECT]


def minimum(requirement: str) -> str:
    """Return a requirement such as ``torch>=2.10`` as ``torch==2.10``; raise ValueError without a minimum."""
    match = REQUIREMENT.fullmatch(requirement)
    if match is None:
        raise ValueError(f"`dependencies` must be written as name>=version; got {requirement!r}.")
    return f"{match['name']}=={match['version']}"


if __name__ == "__main__":
    print("\n".join(constraints()))

"""Print pip constraints that pin every dependency to the minimum version that pyproject.toml declares."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"
# Later releases of indirect dependencies warn about calls in these minimums, and the tests turn warnings into errors.
INDIRECT = ["pyparsing<3.3"]
REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)>=(?P<version>[\w.]+)")
EXTRAS = re.compile(r"mixpyro\[(?P<names>[\w,]+)\]")


def requirements() -> list[str]:
    """Return the dependencies of the package and of its tests, as pyproject.toml writes them."""
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    return list(dict.fromkeys([*project["dependencies"], *in_extra("test", project["optional-dependencies"])]))


def in_extra(name: str, extras: dict[str, list[str]]) -> Iterator[str]:
    """Yield the requirements of an extra, and those of the package's own extras that it names."""
    for requirement in extras[name]:
        match = EXTRAS.fullmatch(requirement)
        if match is None:
            yield requirement
        else:
            for other in match["names"].split(","):
                yield from in_extra(other, extras)


def constraints() -> list[str]:
    """Return ``name==minimum`` for every requirement, and what these need."""
    return [*map(minimum, requirements()), *INDIRECT]


def minimum(requirement: str) -> str:
    """Return a requirement such as ``torch>=2.10`` as ``torch==2.10``; raise ValueError without a minimum."""
    match = REQUIREMENT.fullmatch(requirement)
    if match is None:
        raise ValueError(f"`dependencies` must be written as name>=version; got {requirement!r}.")
    return f"{match['name']}=={match['version']}"


if __name__ == "__main__":
    print("\n".join(constraints()))

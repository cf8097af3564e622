"""Check what the wheel and the sdist of a folder hold: ``python .ci/archives.py dist``."""

import sys
import tarfile
import zipfile
from pathlib import Path

# Bytes; pictures and tables are what makes an sdist large.
MOST = 5_000_000
IN_WHEEL = ("mixpyro/__init__.py", "mixpyro/py.typed")
IN_SDIST = ("LICENSE", "README.md", "pyproject.toml", "examples/data/patent.csv", "tests/conftest.py", ".ci/run")


def check(folder: Path) -> None:
    """Raise AssertionError if a file is missing, or one is there that should not be."""
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        held = archive.namelist()
    assert set(IN_WHEEL) <= set(held), held
    assert all(name.split("/")[0] == "mixpyro" or ".dist-info/" in name for name in held), held
    with tarfile.open(sdist) as source:
        held = [name.partition("/")[2] for name in source.getnames()]
    assert set(IN_SDIST) <= set(held), set(IN_SDIST) - set(held)
    assert not [name for name in held if "__pycache__" in name or ".venv" in name], held
    for path in (wheel, sdist):
        assert path.stat().st_size < MOST, f"{path.name} has {path.stat().st_size} bytes"
        print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    check(Path(sys.argv[1]))

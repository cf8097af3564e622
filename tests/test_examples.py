"""Every example runs, at its smallest setting."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
ARGUMENTS = {
    "quickstart.py": ["--restarts", "2"],
    "existing_em_loop.py": ["--objects", "60", "--iterations", "3"],
    "diagnose_a_mixture.py": ["--restarts", "8", "--draws", "300", "--no-refits"],
    "nuts_versus_vb.py": ["--restarts", "2", "--warmup", "4", "--samples", "4", "--tree-depth", "2"],
    "pyro_svi_script.py": ["--steps", "20"],
    "streaming_fit.py": ["--rows", "6000", "--restarts", "2"],
}
# What --output takes, and the pictures that must then be there.
PICTURES = {
    "quickstart.py": ("picture.png", "picture.png"),
    "diagnose_a_mixture.py": ("", "diagnose_fit.png", "diagnose_trust.png"),
}


def test_every_example_is_listed() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(ARGUMENTS)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_it_runs(name: str, tmp_path: Path) -> None:
    arguments = list(ARGUMENTS[name])
    if name in PICTURES:
        arguments += ["--output", str(tmp_path / PICTURES[name][0])]
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert "component" in finished.stdout or "hyper model" in finished.stdout
    for picture in PICTURES.get(name, ("",))[1:]:
        assert (tmp_path / picture).stat().st_size > 10_000

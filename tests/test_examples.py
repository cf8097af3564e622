"""Every example runs, at its smallest setting."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
ARGUMENTS = {
    "quickstart.py": ["--restarts", "2"],
    "existing_em_loop.py": ["--objects", "60", "--iterations", "3"],
    "nuts_versus_vb.py": ["--restarts", "2", "--warmup", "4", "--samples", "4", "--tree-depth", "2"],
    "pyro_svi_script.py": ["--steps", "20"],
}


def test_every_example_is_listed() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(ARGUMENTS)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_it_runs(name: str, tmp_path: Path) -> None:
    arguments = list(ARGUMENTS[name])
    if name == "quickstart.py":
        arguments += ["--output", str(tmp_path / "picture.png")]
    command = [sys.executable, "-W", "error", str(EXAMPLES / name), *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert "component" in finished.stdout or "hyper model" in finished.stdout
    if name == "quickstart.py":
        assert (tmp_path / "picture.png").stat().st_size > 10_000

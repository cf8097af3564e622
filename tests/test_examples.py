"""Every example runs at its smallest setting, and so does the code in README."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.document_blocks import run_blocks

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
ARGUMENTS = {
    "quickstart.py": ["--restarts", "2"],
    "existing_em_loop.py": ["--objects", "60", "--iterations", "3"],
    "diagnose_a_mixture.py": ["--restarts", "16", "--draws", "300", "--no-refits"],
    "nuts_versus_vb.py": ["--restarts", "2", "--warmup", "4", "--samples", "4", "--tree-depth", "2"],
    "pyro_svi_script.py": ["--steps", "20"],
    "lda_with_gates.py": ["--documents", "20", "--words", "10", "--starts", "2", "--steps", "5"],
    "hmm_with_gates.py": ["--sequences", "10", "--length", "4", "--steps", "5"],
    "streaming_fit.py": ["--rows", "6000", "--restarts", "2"],
    "groups_of_rows.py": ["--kinds", "2", "--restarts", "1"],
    "which_gate.py": ["--gates", "dirichlet", "bayesian_softmax", "stick_breaking", "--restarts", "4", "--draws", "50"],
}
# The argument of --output, below a temporary folder, and the pictures that the example must write there.
PICTURES = {
    "quickstart.py": ("picture.png", "picture.png"),
    "diagnose_a_mixture.py": ("", "diagnose_fit.png", "diagnose_trust.png"),
    "which_gate.py": ("", "dirichlet.png", "bayesian_softmax.png", "stick_breaking.png"),
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


@pytest.mark.usefixtures("without_type_checks")
def test_the_code_in_readme_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Blocks run in order and share their names, as they would for a reader who pastes them one by one."""
    (tmp_path / "examples").symlink_to(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    assert run_blocks(ROOT / "README.md") == 5
    printed = capsys.readouterr().out
    assert "20 of 20 restarts" in printed
    for shown in re.findall(r"```text\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL):
        assert shown in printed
    assert (tmp_path / "firms.png").stat().st_size > 10_000


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 1200

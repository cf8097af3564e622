"""Every example runs at its smallest setting, and so does the code in README."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.document_blocks import run_blocks
from tests.script_runs import Finished, run_scripts

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
ARGUMENTS = {
    "quickstart.py": ["--restarts", "2"],
    "existing_em_loop.py": ["--objects", "60", "--iterations", "3"],
    "diagnose_a_mixture.py": ["--restarts", "16", "--draws", "300", "--no-refits"],
    "nuts_versus_vb.py": ["--restarts", "2", "--warmup", "4", "--samples", "4", "--tree-depth", "2"],
    "lda_with_gates.py": ["--documents", "20", "--words", "10", "--starts", "2", "--steps", "5"],
    "hmm_with_gates.py": ["--sequences", "10", "--length", "4", "--steps", "5"],
    "streaming_fit.py": ["--rows", "6000", "--restarts", "2"],
    "groups_of_rows.py": ["--kinds", "2", "--restarts", "1"],
    "which_gate.py": ["--gates", "dirichlet", "bayesian_softmax", "stick_breaking", "--restarts", "4", "--draws", "50"],
}
# What `tests/distributed` runs, by torchrun.
OF_MANY_PROCESSES = ("distributed_fit.py",)
# The argument of --output, below a temporary folder, and the pictures that the example must write there.
PICTURES = {
    "quickstart.py": ("picture.png", "picture.png"),
    "diagnose_a_mixture.py": ("", "diagnose_fit.png", "diagnose_trust.png"),
    "which_gate.py": ("", "dirichlet.png", "bayesian_softmax.png", "stick_breaking.png"),
}
# Scripts that open as notebooks, one question each, by name: the packages that they need beyond the base install, and
# what they must print, for their text says so.
SERIES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "firms_and_patents.py": (
        ("formulaic", "matplotlib"),
        (
            "K = 3 of 1, 2, 3, 4",
            "-197.7",
            "437.8",
            "aic would choose K = 4",
            "1.58",
            "0.672",
            "0.880",
            "47 of 70 firms",
        ),
    ),
    "beta_blockers.py": (
        ("formulaic", "matplotlib"),
        (
            "-181.33",
            "-159.36",
            "-155.75",
            "icl would choose K = 3",
            "gain 1.05 nats, p = 0.35",
            "-0.258",
            "0.77 of",
            "0.71",
        ),
    ),
    "food_budgets.py": (
        ("formulaic", "matplotlib"),
        (
            "K = 3 of 1, 2, 3, 4",
            "icl would choose K = 1",
            "0.319",
            "0.498",
            "0.684",
            "0       3    17",
            "193     240   442",
        ),
    ),
    "caries_counts.py": (
        ("matplotlib",),
        (
            "16.6",
            "-1476.1",
            "-1414.0",
            "2521.5",
            "2518.9",
            "-0.251           0.090",
            "-0.229",
            "-0.338",
            "29.0 %",
            "0.53",
        ),
    ),
    "growth_of_chicks.py": (
        ("formulaic", "matplotlib"),
        (
            "K = 2 of 1, 2, 3",
            "646.9",
            "654.2",
            "204.40   0.04",
            "149.75   0.07",
            "uneven  11   2   1   1   15",
            "42 of 50",
        ),
    ),
    "old_faithful.py": (
        ("sklearn", "matplotlib"),
        (
            "BayesianMixture: 2 components",
            "0.643: 4.29",
            "0.353: 2.04",
            "of 2: 1.00",
            "-1196.8",
            "2322.2",
            "-4.22",
            "-4.42",
        ),
    ),
    "mixture_or_regression.py": (
        ("sklearn", "matplotlib"),
        ("has an R² of 0.49", "0.45        -5.45", "0.77        -6.36", "0.27    0.08", "0.35    0.07", "0.29    0.11"),
    ),
    "from_fit_to_paper.py": (
        ("matplotlib", "jinja2"),
        (
            "-197.675, 10 parameters, BIC 437.83",
            "3 of 5 restarts",
            "seed 1, 5 restarts",
            r"\toprule",
            "figure.pdf",
            "none",
        ),
    ),
    "pyro_svi_script.py": (
        ("matplotlib",),
        (
            "0.565 +0.085 NO",
            "1.247 -0.083 NO",
            "44.10     45.90",
            "111.88",
            "111.92",
            "0.0524   0.0545",
            "0.0545   0.0546",
        ),
    ),
    "co2_and_income.py": (
        ("formulaic", "matplotlib"),
        ("evidence: 1.3 nats", "BIC: 3.9 nats", "USA    5.1", "sum 4.5: 6.6", "0.677           0.034", "NOR"),
    ),
}


def test_every_example_is_listed() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {*ARGUMENTS, *SERIES, *OF_MANY_PROCESSES}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the examples leave their pictures."""
    return tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="module")
def finished(request: pytest.FixtureRequest, pictures: Path) -> dict[str, Finished]:
    """What became of the examples whose tests were asked for, by name: all run from one start of Python."""
    functions = (test_it_prints_and_draws, test_it_runs)
    tests = [item for item in request.session.items if getattr(item, "function", None) in functions]
    asked = {name for name in (*ARGUMENTS, *SERIES) if any(f"[{name}]" in test.name for test in tests)}
    names = [name for name in sorted(asked) if all(find_spec(package) for package in SERIES.get(name, ((),))[0])]
    runs = [[str(EXAMPLES / name), *_arguments(name, pictures)] for name in names]
    return dict(zip(names, run_scripts(runs, pictures), strict=True))


def _arguments(name: str, pictures: Path) -> list[str]:
    """What to start an example with."""
    if name in SERIES:
        return ["--save", str(pictures)]
    output = ["--output", str(pictures / PICTURES[name][0])] if name in PICTURES else []
    return [*ARGUMENTS[name], *output]


@pytest.mark.parametrize("name", SERIES)
def test_it_prints_and_draws(name: str, finished: dict[str, Finished], pictures: Path) -> None:
    """It prints what its text says, and leaves a picture."""
    packages, words = SERIES[name]
    for package in packages:
        pytest.importorskip(package)
    status, printed = finished[name]
    assert status == 0, printed
    assert [word for word in words if word not in printed] == [], printed
    assert (pictures / name).with_suffix(".png").stat().st_size > 10_000


@pytest.mark.parametrize("name", SERIES)
def test_it_opens_as_a_notebook(name: str) -> None:
    """Cells of text have comments alone; the first says the question, the last the answer."""
    _, *cells = re.split(r"^# %%", (EXAMPLES / name).read_text(), flags=re.MULTILINE)
    texts = [cell.splitlines()[1:] for cell in cells if cell.startswith(" [markdown]")]
    assert all(not line or line.startswith("#") for text in texts for line in text)
    assert texts[0][0].endswith("?") and any(line.startswith("# **Answer.**") for line in texts[-1])
    assert len((EXAMPLES / name).read_text().splitlines()) < 150


@pytest.mark.parametrize("name", ARGUMENTS)
def test_it_runs(name: str, finished: dict[str, Finished], pictures: Path) -> None:
    status, printed = finished[name]
    assert status == 0, printed
    assert "component" in printed or "hyper model" in printed
    for picture in PICTURES.get(name, ("",))[1:]:
        assert (pictures / picture).stat().st_size > 10_000


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

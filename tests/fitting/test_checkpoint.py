"""A fit that is killed, interrupted or called again goes on where it stood."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mixpyro import (
    BayesianSoftmaxGate,
    DirichletGate,
    FitResult,
    GaussianExperts,
    GLMExperts,
    LinearExperts,
    MarginalObjectDirichletGate,
    MixtureOfExperts,
    NeuralGate,
    ObjectDirichletGate,
    SoftmaxGate,
    StickBreakingGate,
    fit,
)
from mixpyro.experts.families import Gaussian, Poisson
from mixpyro.saving import atomic_file
from tests.problems import lines

ROOT = Path(__file__).parents[2]


def neural() -> MixtureOfExperts:
    """A gate that SVI trains."""
    network = nn.Linear(1, 3).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    return MixtureOfExperts(NeuralGate(3, network, prior_scale=2.0), LinearExperts(3, 1))


MIXTURES: dict[str, Callable[[], MixtureOfExperts]] = {
    "conjugate": lambda: MixtureOfExperts(DirichletGate(3), LinearExperts(3, 1)),
    "an object each": lambda: MixtureOfExperts(ObjectDirichletGate(3, learn_mean=True), LinearExperts(3, 1)),
    "maximum likelihood": lambda: MixtureOfExperts(SoftmaxGate(3, 1), GLMExperts(3, 1, Gaussian(), prior_scale=10.0)),
    "neural": neural,
    "sticks": lambda: MixtureOfExperts(StickBreakingGate(3), LinearExperts(3, 1)),
    "counts": lambda: MixtureOfExperts(BayesianSoftmaxGate(2, 1), GLMExperts(2, 1, Poisson(), prior_scale=2.0)),
    "marginal": lambda: MixtureOfExperts(MarginalObjectDirichletGate(3, learn_mean=True), GaussianExperts(3, 1)),
}


def fitted(name: str, path: Path | None, seconds: float = 0.0) -> FitResult:
    """A fit that takes a moment."""
    x, y, _ = lines(40, 3, noise=0.8)
    y = y.abs().round() if name == "counts" else y
    options = {"n_restarts": 2, "n_candidates": 2, "max_iterations": 10}
    return fit(MIXTURES[name](), x, y, checkpoint=path, checkpoint_seconds=seconds, **options)  # type: ignore[arg-type]


def same(first: FitResult, second: FitResult) -> bool:
    """Whether two results are one, to the last digit of the trace."""
    runs = [(run.trace, run.converged, run.degeneracies) for run in first.runs]
    return runs == [(run.trace, run.converged, run.degeneracies) for run in second.runs] and torch.equal(
        first.responsibilities, second.responsibilities
    )


@pytest.mark.filterwarnings("ignore:the best run has not converged", "ignore:only one of", "ignore:every run")
@pytest.mark.parametrize("name", ["conjugate", "an object each", "maximum likelihood", "neural"])
def test_from_any_checkpoint_on_the_end_is_the_same(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every checkpoint that a fit writes is kept; from some of them, spread over the fit, it is taken up again."""
    kept: list[bytes] = []
    write = atomic_file.write

    def keep(path: Path, *arguments: object, **options: object) -> None:
        write(path, *arguments, **options)  # type: ignore[arg-type]
        kept.append(Path(path).read_bytes())

    monkeypatch.setattr(atomic_file, "write", keep)
    whole = fitted(name, tmp_path / "file")
    monkeypatch.undo()
    assert same(whole, fitted(name, None))
    for state in kept[:: len(kept) // 3]:
        (tmp_path / "file").write_bytes(state)
        assert same(fitted(name, tmp_path / "file", seconds=1e6), whole)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.usefixtures("without_type_checks")
@pytest.mark.parametrize("name", ["conjugate", "sticks", "counts"])
def test_runs_that_end_in_the_iteration_written_leave_the_others_as_they_were(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sums beside fewer runs are rounded otherwise; runs end at different iterations, and moves follow."""
    x, y, _ = lines(30, 3, noise=0.8)
    y = y.abs().round() if name == "counts" else y
    options: dict[str, Any] = {
        "n_restarts": 2 if name == "sticks" else 5,
        "n_candidates": 1,
        "max_iterations": 40,
        "tolerance": 1e-4,
    }
    kept: list[bytes] = []
    write = atomic_file.write

    def keep(path: Path, *arguments: object, **options: object) -> None:
        write(path, *arguments, **options)  # type: ignore[arg-type]
        kept.append(Path(path).read_bytes())

    monkeypatch.setattr(atomic_file, "write", keep)
    path = tmp_path / "file"
    whole = fit(MIXTURES[name](), x, y, checkpoint=path, checkpoint_seconds=0, **options)
    monkeypatch.undo()
    for state in kept[:: max(1, len(kept) // (3 if name == "sticks" else 8))]:
        path.write_bytes(state)
        assert same(fit(MIXTURES[name](), x, y, checkpoint=path, checkpoint_seconds=1e6, **options), whole)


KILLED = """
import sys, torch
from pathlib import Path
from tests.fitting.test_checkpoint import fitted

pytestmark = pytest.mark.usefixtures("without_type_checks")

torch.set_num_threads(1)
print("ready", flush=True)
while True:
    Path(sys.argv[1]).unlink(missing_ok=True)
    fitted("conjugate", Path(sys.argv[1]))
"""


@pytest.mark.filterwarnings("ignore:the best run has not converged", "ignore:only one of")
def test_killed_at_random_moments_it_ends_at_the_same_bound(tmp_path: Path) -> None:
    """SIGKILL, twice; ``tests.benchmarks.kill_and_resume`` does it twenty times for each mixture."""
    whole = fitted("conjugate", None)
    process = None
    for moment in torch.rand(2, generator=torch.Generator().manual_seed(0)).tolist():
        path = tmp_path / "file"
        command = [sys.executable, "-W", "ignore", "-c", KILLED, str(path)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.2 * moment)
        process.kill()
        process.wait()
        process.stdout.close()
        assert same(fitted("conjugate", path), whole)


@pytest.mark.filterwarnings("ignore:the best run has not converged", "ignore:only one of")
def test_a_checkpoint_of_another_fit_is_refused(tmp_path: Path) -> None:
    fitted("conjugate", tmp_path / "file")
    before = (tmp_path / "file").read_bytes()
    x, y, _ = lines(40, 3, noise=0.8)
    mixture = MIXTURES["conjugate"]()
    for arguments in ({"y": y + 1}, {"seed": 1}, {"weights": torch.ones(40).double()}, {"n_restarts": 4}):
        with pytest.raises(ValueError, match=r"`checkpoint` must belong to this fit; got '.*file'.*Remove the file"):
            fit(mixture, **{"x": x, "y": y, "n_restarts": 2, "checkpoint": tmp_path / "file", **arguments})  # type: ignore[arg-type]
    (tmp_path / "file").write_bytes(before[:500])
    with pytest.raises(ValueError, match=r"`checkpoint` must be a file that mixpyro wrote.*unreadable"):
        fitted("conjugate", tmp_path / "file")
    with pytest.raises(ValueError, match="`checkpoint` must be the path of a file; got "):
        fitted("conjugate", tmp_path / "a\0b")
    with pytest.raises(FileNotFoundError, match="`checkpoint` must be in a folder that exists; got "):
        fitted("conjugate", tmp_path / "none" / "file")
    for name, value in mixture.state_dict().items():
        assert torch.equal(value, MIXTURES["conjugate"]().state_dict()[name])


@pytest.mark.filterwarnings("ignore:the best run has not converged", "ignore:only one of")
def test_a_checkpoint_of_another_version_is_refused(tmp_path: Path) -> None:
    fitted("conjugate", tmp_path / "file")
    content = torch.load(tmp_path / "file", weights_only=True)
    torch.save({**content, "version": 4}, tmp_path / "file")
    with pytest.raises(
        ValueError, match=r"`checkpoint` must be of format 7; got '.*file' of format 4, written by another"
    ):
        fitted("conjugate", tmp_path / "file")


def test_a_path_that_cannot_be_written_is_known_at_once(tmp_path: Path) -> None:
    mixture = MIXTURES["conjugate"]()
    x, y, _ = lines(40, 3, noise=0.8)
    with pytest.raises(FileNotFoundError):
        fit(mixture, x, y, n_restarts=10**9, checkpoint=tmp_path / "none" / "file")
    for name, value in mixture.state_dict().items():
        assert torch.equal(value, MIXTURES["conjugate"]().state_dict()[name])


FULL = """
import os, resource, signal, sys, warnings
from pathlib import Path
from tests.fitting.test_checkpoint import fitted, same
from mixpyro.saving import atomic_file
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
write, written = atomic_file.write, []

def until_full(*arguments, **options):
    if len(written) == 5:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, -1))
    written.append(1)
    write(*arguments, **options)

whole = fitted("conjugate", None)
atomic_file.write = until_full
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    result = fitted("conjugate", Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
atomic_file.write = write
print(sum("the checkpoint could not be written" in str(one.message) for one in caught), same(result, whole))
print(same(fitted("conjugate", Path(sys.argv[1])), whole), os.listdir(Path(sys.argv[1]).parent))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a limit of the size of files stands for a full disk")
def test_a_full_disk_does_not_end_a_fit(tmp_path: Path) -> None:
    """A limit on the size of files, which the operating system holds, stands for the disk."""
    command = [sys.executable, "-W", "ignore", "-c", FULL, str(tmp_path / "file")]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["1 True", "True ['file']"], done.stderr

"""Public functions leave the state of the process as it was, and run the same whatever the caller has set."""

import decimal
import functools
import random
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pyro
import pytest
import torch
from pyro.distributions import Normal
from pyro.poutine.runtime import _PYRO_STACK
from torch import nn

import mixpyro
from mixpyro import (
    BayesianSoftmaxGate,
    DirichletGate,
    LinearExperts,
    MixtureOfExperts,
    NeuralGate,
    SoftmaxGate,
    StreamingFit,
    diagnostics,
    fit,
    to_arviz,
)
from mixpyro.diagnostics import plots
from mixpyro.fitting.result import FitResult
from mixpyro.frontends.bayesian_mixture import BayesianMixture
from mixpyro.frontends.classifier import MixtureOfExpertsClassifier
from mixpyro.frontends.formula import fit_formula
from mixpyro.frontends.regressor import MixtureOfExpertsRegressor
from mixpyro.gates import Gate

pytestmark = [
    pytest.mark.usefixtures("without_type_checks"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::sklearn.exceptions.ConvergenceWarning"),
]
SHORT: dict[str, Any] = {"n_restarts": 1, "n_candidates": 1, "max_iterations": 8, "progress": False}
FEW = SHORT | {"max_iterations": 2, "n_gradient_steps": 2}
GENERATOR = torch.Generator("cpu").manual_seed(0)
X = torch.randn(30, 1, generator=GENERATOR, dtype=torch.float64)
Y = torch.where(X > 0, 1.0 + 2.0 * X, -1.0 - X) + 0.3 * torch.randn(30, 1, generator=GENERATOR, dtype=torch.float64)
TABLE = {"a": X[:, 0].numpy(), "y": Y[:, 0].numpy()}


@functools.cache
def result(gate: str = "dirichlet", n_components: int = 2) -> FitResult:
    """A small fit."""
    gates: dict[str, Callable[[], Gate]] = {
        "dirichlet": lambda: DirichletGate(n_components),
        "softmax": lambda: SoftmaxGate(n_components, 1, prior_scale=2.0),
        "bayesian": lambda: BayesianSoftmaxGate(n_components, 1),
    }
    return fit(MixtureOfExperts(gates[gate](), LinearExperts(n_components, 1)), X, Y, **SHORT)


@functools.cache
def draws(n_components: int = 2) -> Any:
    """Draws of a small fit for ArviZ."""
    return to_arviz(result("dirichlet", n_components), n_draws=30)


@functools.cache
def few_rows() -> FitResult:
    """A fit whose leaving out of each row takes four more."""
    return fit(MixtureOfExperts(DirichletGate(1), LinearExperts(1, 1)), X[:4], Y[:4], **FEW)


def network(*, training: bool) -> nn.Module:
    """A network with dropout of the same parameters at every call."""
    with torch.random.fork_rng([]):
        torch.default_generator.manual_seed(0)
        layers = nn.Sequential(nn.Linear(1, 3), nn.Tanh(), nn.Dropout(0.4), nn.Linear(3, 2)).double()
    return layers.train(training)


def with_network(*, training: bool = True) -> MixtureOfExperts:
    """A mixture of a gate that draws random numbers while it is fitted."""
    return MixtureOfExperts(NeuralGate(2, network(training=training), prior_scale=1.0), LinearExperts(2, 1))


def streamed(mixture: MixtureOfExperts) -> torch.Tensor:
    """Predictions after two batches."""
    stream = StreamingFit(mixture, n_objects=30, n_restarts=0)
    return stream.partial_fit(X[:20], Y[:20]).partial_fit(X[20:], Y[20:]).mixture.experts.predict(X)


def in_netcdf(folder: Path) -> Any:
    """Draws that were written and read."""
    draws().to_netcdf(str(folder / "draws.nc"))
    return diagnostics.from_netcdf(folder / "draws.nc")


def of_program() -> Any:
    """Draws of a Pyro program."""
    zeros = torch.zeros(2, dtype=torch.float64, device="cpu")

    def model(y: torch.Tensor) -> None:
        mean = pyro.sample("mean", Normal(zeros, 3.0).to_event(1)).sum(-1, keepdim=True)
        with pyro.plate("objects", len(y)):
            pyro.sample("y", Normal(mean, 1.0), obs=y)

    def guide(y: torch.Tensor) -> None:
        pyro.sample("mean", Normal(zeros, 0.5).to_event(1))

    return diagnostics.program_to_arviz(model, Y[:, 0], guide=guide, n_draws=10)


def responsibilities_of_draws() -> diagnostics.ResponsibilityDraws:
    """Responsibilities under each draw."""
    return diagnostics.ResponsibilityDraws(draws(), result())


def saved(folder: Path) -> torch.Tensor:
    """Predictions of a mixture that was written and read."""
    mixpyro.save(result().mixture, folder / "mixture")
    return mixpyro.load(folder / "mixture").predict(X)


FITS: dict[str, Callable[[Path], Any]] = {
    "fit": lambda _: fit(MixtureOfExperts(DirichletGate(2), LinearExperts(2, 1)), X, Y, **SHORT).shares,
    "fit, dropout": lambda _: fit(with_network(), X, Y, **FEW).bound,
    "fit_minibatches": lambda _: (
        mixpyro.fit_minibatches(with_network(), X, Y, batch_size=20, n_epochs=1, **SHORT).bound
    ),
    "fit_batches": lambda _: mixpyro.fit_batches(with_network(), [(X, Y)], n_restarts=0, n_epochs=2).experts.predict(X),
    "StreamingFit": lambda _: streamed(with_network()),
    "polish": lambda _: mixpyro.polish(result("bayesian"), max_iterations=2).bound,
    "grow_tree": lambda _: (
        mixpyro.grow_tree(
            lambda k: LinearExperts(k, 1), X, Y, n_restarts=1, max_iterations=3, most_components=2
        ).result.bound
    ),
}
REPORTS: dict[str, Callable[[Path], Any]] = {
    "sample": lambda _: result().sample(3).y,
    "predict": lambda _: result().mixture.predict(X),
    "assign": lambda _: result().assign().responsibilities,
    "summary": lambda _: result().summary(),
    "html": lambda _: result()._repr_html_(),
    "optima": lambda _: result().optima_frame().to_string(),
    "coefficients": lambda _: result().coefficients().to_string(),
    "criteria": lambda _: list(mixpyro.criteria(result())),
    "compare": lambda _: str(mixpyro.compare({"two": result(), "three": result("dirichlet", 3)})),
    "linear_response": lambda _: mixpyro.linear_response(result("softmax")).covariance,
    "observed_information": lambda _: mixpyro.observed_information(result("softmax").mixture, X, Y),
    "refine": lambda _: mixpyro.refine(result(), n_draws=10, nuts=False, progress=False).draws,
    "save and load": saved,
    "to_arviz": lambda _: to_arviz(result(), n_draws=10),
    "to_arviz, softmax": lambda _: to_arviz(result("softmax"), n_draws=10),
    "to_arviz of a mixture": lambda _: to_arviz(result().mixture, X, Y, n_draws=10),
    "to_arviz of a gate": lambda _: to_arviz(result().mixture.gate, X, n_draws=10),
    "program_to_arviz": lambda _: of_program(),
    "netCDF": in_netcdf,
    "summary of draws": lambda _: responsibilities_of_draws().summary(),
    "align": lambda _: diagnostics.align(responsibilities_of_draws()),
    "relabel": lambda _: diagnostics.relabel(draws(), diagnostics.align(responsibilities_of_draws())),
    "khat": lambda _: diagnostics.khat(draws()),
    "loo": lambda _: diagnostics.loo(draws()),
    "resample": lambda _: diagnostics.resample(draws()),
    "compare_loo": lambda _: diagnostics.compare_loo({"two": draws(), "three": draws(3)}),
    "exact_loo": lambda _: diagnostics.exact_loo(few_rows(), progress=False),
    "predictive_checks": lambda _: diagnostics.predictive_checks(draws()),
    "BayesianMixture": lambda _: BayesianMixture(2, n_restarts=1, random_state=0).fit(X.numpy()).sample(3)[0],
    "regressor": lambda _: (
        MixtureOfExpertsRegressor(2, n_restarts=1, random_state=0).fit(X.numpy(), Y[:, 0].numpy()).sample_y(X.numpy())
    ),
    "classifier": lambda _: (
        MixtureOfExpertsClassifier(1, n_restarts=1, random_state=0)
        .fit(X.numpy(), Y[:, 0].numpy() > 0)
        .predict_proba(X.numpy())
    ),
    # A gate that is made inside has the parameters of its prior in the default dtype.
    "formula": lambda _: fit_formula("y ~ a", TABLE, k=2, gate="~ a", **SHORT).predict().round(9),
}
PLOTS: dict[str, Callable[[], Any]] = {
    "plot_bound_traces": lambda: plots.plot_bound_traces(result()),
    "plot_component_densities": lambda: plots.plot_component_densities(result()),
    "plot_expert_lines": lambda: plots.plot_expert_lines(result(), n_points=9),
    "plot_gate_curve": lambda: plots.plot_gate_curve(result("softmax"), n_points=9),
    "plot_gate_map": lambda: plots.plot_gate_map(result("softmax"), features=(0, 0), n_points=5),
    "plot_information_lost": lambda: plots.plot_information_lost(result()),
    "plot_khat": lambda: plots.plot_khat(diagnostics.loo(draws())),
    "plot_optima": lambda: plots.plot_optima(result()),
    "plot_overview": lambda: plots.plot_overview(result("softmax")),
    "plot_responsibilities": lambda: plots.plot_responsibilities(result().shares.numpy()),
    "plot_ternary": lambda: plots.plot_ternary(result("dirichlet", 3).shares.numpy()),
    "plot_weights_forest": lambda: plots.plot_weights_forest(draws()),
}


def plotted(plot: Callable[[], Any]) -> list[np.ndarray]:
    """The numbers in a plot's lines."""
    drawn = plot()
    figures = drawn.axes if hasattr(drawn, "axes") and isinstance(drawn.axes, list) else [drawn]
    lines = [np.asarray(line.get_xydata(), dtype=float) for ax in figures for line in getattr(ax, "lines", [])]
    plt.close("all")
    return lines


CALLS = FITS | REPORTS | {name: lambda _, plot=plot: plotted(plot) for name, plot in PLOTS.items()}


def comparable(value: Any) -> Any:
    """Return what a call gave as arrays and text, to be compared to the last digit."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().numpy().tobytes()
    if isinstance(value, np.ndarray):
        return value.tobytes()
    if isinstance(value, list | tuple):
        return [comparable(part) for part in value]
    if type(value).__name__ == "InferenceData":
        return {
            (group, name): array.values.tobytes() for group in value.groups() for name, array in value[group].items()
        }
    return repr(value)


def surroundings() -> dict[str, Any]:
    """Everything of the process that a call might change."""
    return {
        "torch's random state": torch.get_rng_state().tolist(),
        "NumPy's random state": repr(np.random.get_state()),  # noqa: NPY002
        "Python's random state": random.getstate(),
        "NumPy's errors": np.geterr(),
        "NumPy's printing": np.get_printoptions(),
        "warnings": list(warnings.filters),
        "default dtype": torch.get_default_dtype(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "gradients": torch.is_grad_enabled(),
        "anomalies": torch.is_anomaly_enabled(),
        "threads": torch.get_num_threads(),
        "decimals": str(decimal.getcontext()),
        "parameter store": list(pyro.get_param_store().keys()),
        "Pyro's settings": pyro.settings.get(),
        "Pyro's handlers": list(_PYRO_STACK),
        "matplotlib": dict(plt.rcParams),
    }


def test_every_public_function_is_called_here() -> None:
    assert sorted(PLOTS) == plots.__all__
    called = {name for part in FITS | REPORTS for name in part.replace(",", "").split()} | {"save", "load"}
    # These compute nothing, only read a container, or are called by tests of their own.
    others = {"as_table", "expected_weights", "rearrange_tree", "variance_components"}
    others |= {"as_arviz", "from_netcdf", "loo_table", "psense_summary"}
    functions = {
        name for part in (mixpyro, diagnostics) for name in part.__all__ if type(getattr(part, name)) is type(fit)
    }
    assert functions - called - others == set()


@contextmanager
def left_as_it_was() -> Iterator[None]:
    """Fail if anything of the process is another one afterwards."""
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    pyro.get_param_store()["mine"] = torch.ones(2)
    before = surroundings()
    try:
        yield
        after = surroundings()
    finally:
        pyro.clear_param_store()
    assert {key for key in before if before[key] != after[key]} == set()


@pytest.mark.parametrize("name", FITS)
def test_fits_leave_the_process_as_it_was(name: str, tmp_path: Path) -> None:
    with left_as_it_was():
        FITS[name](tmp_path)


@contextmanager
def another_default_dtype() -> Iterator[None]:
    """Let new tensors be float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def deterministic_algorithms() -> Iterator[None]:
    """Let PyTorch refuse what is not deterministic."""
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextmanager
def coarse_decimals() -> Iterator[None]:
    """Let decimals have two digits, and every signal raise."""
    with decimal.localcontext() as context:
        context.prec = 2
        context.traps = dict.fromkeys(context.traps, True)
        yield


@contextmanager
def every_context() -> Iterator[None]:
    """Enter all that a caller may have set, one in the other."""
    with ExitStack() as stack:
        for context in (
            np.errstate(all="raise"),
            another_default_dtype(),
            deterministic_algorithms(),
            coarse_decimals(),
            torch.autocast("cpu", dtype=torch.bfloat16),
            torch.inference_mode(),
            torch.device("meta"),
        ):
            stack.enter_context(context)
        yield


@pytest.mark.parametrize("name", [*REPORTS, *PLOTS])
def test_reports_are_the_same_in_every_context(name: str, tmp_path: Path) -> None:
    """And leave the process as it was. Fits of every gate and experts are in tests/test_torch_contexts.py."""
    expected = comparable(CALLS[name](tmp_path))
    with every_context(), left_as_it_was():
        found = CALLS[name](tmp_path)
    assert comparable(found) == expected


def test_derivatives_are_the_same_while_anomalies_are_looked_for() -> None:
    expected = fit(with_network(training=False), X, Y, **FEW).bound
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Anomaly Detection has been enabled")
        with torch.autograd.set_detect_anomaly(True), left_as_it_was():
            assert fit(with_network(training=False), X, Y, **FEW).bound == expected


def test_a_fit_with_dropout_is_the_same_for_one_seed() -> None:
    bounds = []
    for seed in (0, 0, 1):
        torch.rand(1)
        bounds.append(fit(with_network(), X, Y, seed=seed, **FEW).runs[0].trace)
    assert bounds[0] == bounds[1] != bounds[2]

"""A mixture knows which columns it was fitted to, and refuses others."""

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mixpyro import (
    DirichletGate,
    GaussianExperts,
    GLMExperts,
    LinearExperts,
    MarginalObjectDirichletGate,
    MixtureOfExperts,
    NeuralGate,
    ObjectDirichletGate,
    SoftmaxGate,
    StreamingFit,
    coefficients,
    criteria,
    fit,
    fit_batches,
    fit_minibatches,
    load,
    observed_information,
    save,
    to_arviz,
)
from mixpyro.diagnostics import ResponsibilityDraws, exact_loo
from mixpyro.experts import Experts
from mixpyro.experts.families import Gaussian
from mixpyro.fitted_columns import FittedColumns
from mixpyro.gates import Gate
from tests.problems import lines

# Fits of two iterations, of what need not be a good fit.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")
GIVEN, NONE = "`gate_x` must be given, as in the fit, with 1 columns; got None", "`gate_x` must be None, as in the fit"
X, Y, _ = lines(30, 2)
GATE_X = X.flip(0)
GATES: dict[str, Callable[[], Gate]] = {
    "dirichlet": lambda: DirichletGate(2),
    "object": lambda: ObjectDirichletGate(2),
    "marginal": lambda: MarginalObjectDirichletGate(2, learn_mean=True),
    "softmax": lambda: SoftmaxGate(2, 1, prior_scale=1.0),
    "neural": lambda: NeuralGate(2, nn.Linear(1, 2).double(), prior_scale=1.0),
}
EXPERTS: dict[str, Callable[[], Experts]] = {
    "linear": lambda: LinearExperts(2, 1),
    "gaussian": lambda: GaussianExperts(2, 1),
    "glm": lambda: GLMExperts(2, 1, Gaussian(), prior_scale=10.0),
}
# What is called with rows, by the name of the argument that holds the gate's inputs.
DOORS: dict[str, Callable[[MixtureOfExperts, Tensor | None], object]] = {
    "predict": lambda m, g: m.predict(X, gate_x=g),
    "predictive": lambda m, g: m.predictive(X, gate_x=g),
    "quantile": lambda m, g: m.quantile(X, torch.tensor([0.5]), gate_x=g),
    "log_prob": lambda m, g: m.log_prob(X, Y, gate_x=g),
    "assign": lambda m, g: m.assign(X, Y, gate_x=g),
    "bound": lambda m, g: m.bound(X, Y, gate_x=g),
    "expected_log_joint": lambda m, g: m.expected_log_joint(X, Y, gate_x=g),
    "model": lambda m, g: m.model(X, gate_x=g),
    "guide": lambda m, g: m.guide(X, Y, gate_x=g),
    "to_arviz": lambda m, g: to_arviz(m, X, Y, gate_x=g, n_draws=2),
    "stream": lambda m, g: StreamingFit(m, n_restarts=0).partial_fit(X, Y, gate_x=g),
}


def fitted(gate: str, experts: str, gate_x: Tensor | None) -> MixtureOfExperts:
    """Return a mixture fitted in a few iterations."""
    mixture = MixtureOfExperts(GATES[gate](), EXPERTS[experts]())
    fit(mixture, X, Y, gate_x=gate_x, n_restarts=1, n_candidates=1, max_iterations=2, progress=False)
    return mixture


@pytest.mark.parametrize("experts", EXPERTS)
@pytest.mark.parametrize("gate", GATES)
def test_every_door_wants_the_gate_inputs_of_the_fit(gate: str, experts: str) -> None:
    doors = [name for name in DOORS if not (name == "stream" and gate == "object")]
    mixture = fitted(gate, experts, GATE_X)
    for name in doors:
        with pytest.raises(ValueError, match=GIVEN):
            DOORS[name](mixture, None)
    DOORS["assign"](mixture, GATE_X)
    fit(mixture, X, Y, n_restarts=1, n_candidates=1, max_iterations=2, progress=False)
    for name in doors:
        with pytest.raises(ValueError, match=NONE):
            DOORS[name](mixture, GATE_X)
    for name in doors:
        DOORS[name](mixture, None)


def test_reports_and_diagnostics_want_the_gate_inputs_of_the_fit() -> None:
    mixture = MixtureOfExperts(GATES["softmax"](), EXPERTS["glm"]())
    result = fit(mixture, X, Y, gate_x=GATE_X, n_restarts=1, n_candidates=1, progress=False)
    data = to_arviz(result, X, Y, gate_x=GATE_X, n_draws=2)
    for door in (
        lambda: criteria(result, X, Y),
        lambda: coefficients(result, X, Y),
        lambda: observed_information(mixture, X, Y),
        lambda: to_arviz(result, X, Y),
        lambda: exact_loo(result, X, Y),
        lambda: ResponsibilityDraws(data, result, X, Y),
    ):
        with pytest.raises(ValueError, match=GIVEN):
            door()


@pytest.mark.parametrize("gate_x", [None, GATE_X])
def test_every_way_to_fit_remembers(gate_x: Tensor | None, tmp_path: Path) -> None:
    def new() -> MixtureOfExperts:
        return MixtureOfExperts(GATES["dirichlet"](), EXPERTS["linear"]())

    batch = (X, Y) if gate_x is None else (X, Y, gate_x)
    by_minibatches, streamed = new(), new()
    fit_minibatches(by_minibatches, X, Y, gate_x=gate_x, batch_size=10, n_epochs=1, n_restarts=1, progress=False)
    StreamingFit(streamed, n_restarts=1).partial_fit(X, Y, gate_x=gate_x)
    mixtures = [
        fitted("dirichlet", "linear", gate_x),
        by_minibatches,
        streamed,
        fit_batches(new(), [batch], n_epochs=2, n_restarts=1),
    ]
    first = mixtures[0]
    save(first, tmp_path / "file")
    fresh = new()
    fresh.load_state_dict(first.state_dict())
    mixtures += [load(tmp_path / "file"), fresh, copy.deepcopy(first), pickle.loads(pickle.dumps(first))]
    for mixture in mixtures:
        assert mixture.fitted_columns == FittedColumns(1, None if gate_x is None else 1)


def test_state_dicts_without_the_columns_are_loaded() -> None:
    mixture = fitted("dirichlet", "linear", GATE_X)
    before = {name: value for name, value in mixture.state_dict().items() if not name.endswith("_extra_state")}
    file = io.BytesIO()
    torch.save(before, file)
    file.seek(0)
    fresh = MixtureOfExperts(GATES["dirichlet"](), EXPERTS["linear"]())
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert fresh.fitted_columns is None
    torch.testing.assert_close(fresh.predict(X), mixture.predict(X, gate_x=GATE_X))


def test_a_mixture_that_no_fit_has_seen_refuses_nothing() -> None:
    mixture = MixtureOfExperts(GATES["softmax"](), EXPERTS["linear"]())
    mixture.experts.update(mixture.experts.statistics(X, Y, torch.full((30, 2), 0.5).double()))
    for gate_x in (None, GATE_X):
        assert mixture.predict(X, gate_x=gate_x).shape == Y.shape


def test_other_numbers_of_columns_are_refused() -> None:
    """Where no part of the mixture knows the number: a gate and experts without inputs, a network."""
    x = torch.cat([X, X], 1)
    mixture = fitted("neural", "gaussian", None)
    with pytest.raises(ValueError, match="`x` must have 1 columns, as in the fit; got 2"):
        mixture.predict(x)
    mixture = fitted("neural", "gaussian", GATE_X)
    with pytest.raises(ValueError, match="`gate_x` must have 1 columns, as in the fit; got 2"):
        mixture.predict(X, gate_x=x)


@pytest.mark.usefixtures("bad_arguments")
def test_a_failed_fit_leaves_the_columns_as_they_were() -> None:
    mixture = fitted("dirichlet", "linear", GATE_X)
    with pytest.raises(ValueError, match="`y` must have as many rows"):
        fit(mixture, X, Y[:5])
    assert mixture.fitted_columns == FittedColumns(1, 1)


def test_inputs_of_the_gate_that_equal_x_are_x_for_a_gate_that_read_x() -> None:
    mixture = fitted("softmax", "linear", X)
    torch.testing.assert_close(mixture.predict(X, gate_x=X.clone()), mixture.predict(X))


def test_inputs_of_the_gate_that_equal_x_by_chance_are_taken_and_left_out() -> None:
    """As |x| equals x in rows of which all are positive."""
    mixture = fitted("softmax", "linear", X.clone())
    torch.testing.assert_close(mixture.predict(-X, gate_x=X)[:3], mixture.predict(-X[:3], gate_x=X[:3]))
    torch.testing.assert_close(mixture.predict(X), mixture.predict(X, gate_x=X.clone()))
    with pytest.raises(ValueError, match="`gate_x` must have"):
        mixture.predict(X, gate_x=X[:, :0])


def test_a_stream_remembers_inputs_that_differed_once() -> None:
    x = torch.linspace(-2, 2, 80).double().unsqueeze(1)
    y = torch.where(x > 0, 1 + x, 1 - 2 * x) + 0.2 * torch.randn(80, 1).double()
    mixture = MixtureOfExperts(SoftmaxGate(2, 1), LinearExperts(2, 1))
    stream = StreamingFit(mixture, n_restarts=2)
    for rows in (slice(40, 80), slice(0, 40), slice(40, 80)):
        stream.partial_fit(x[rows], y[rows], gate_x=x[rows].abs())
    mixture.predict(x, gate_x=x.abs())
    with pytest.raises(ValueError, match="`gate_x` must be given, as in the fit"):
        mixture.predict(x)


def test_a_stream_wants_the_same_columns_in_every_batch() -> None:
    stream = StreamingFit(MixtureOfExperts(GATES["softmax"](), EXPERTS["linear"]()), n_restarts=2)
    stream.partial_fit(X, Y, gate_x=GATE_X)
    with pytest.raises(ValueError, match=GIVEN):
        stream.partial_fit(X, Y)

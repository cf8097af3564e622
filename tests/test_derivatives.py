"""Derivatives of predictions in x and y: against finite differences, and through the transforms of ``torch.func``."""

import functools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.func import jacfwd, jacrev, vmap

from mixpyro.mixture import MixtureOfExperts
from tests import products
from tests.products import COUNTS, PAIRS, data

pytestmark = [
    pytest.mark.usefixtures("without_type_checks"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    # PyTorch's own formulas of forward mode are scripts.
    pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning"),
]
P = torch.tensor([0.1, 0.6], dtype=torch.float64)
Function = Callable[[Tensor], Tensor]
# A mixture is fitted once, and only looked at.
fitted = functools.cache(products.fitted)


def finite_differences(function: Function, x: Tensor, step: float = 1e-5) -> Tensor:
    """The Jacobian of a function, by central differences."""
    columns = []
    for entry in torch.eye(x.numel(), dtype=x.dtype).reshape(-1, *x.shape):
        columns.append((function(x + step * entry) - function(x - step * entry)) / (2 * step))
    return torch.stack(columns, -1).reshape(*columns[0].shape, *x.shape)


def functions(mixture: MixtureOfExperts, x: Tensor, y: Tensor, experts: str) -> dict[str, Function]:
    """What a user may differentiate in x, each a function of rows."""
    found: dict[str, Function] = {
        "predict": mixture.predict,
        "predict of both": lambda t: mixture.predict(t, gate_x=t),
        "log_prob": lambda t: mixture.log_prob(t, y),
        "weights": mixture.gate.weights,
        "expected_log_weights": mixture.gate.expected_log_weights,
        "experts' predict": mixture.experts.predict,
        "expected_log_likelihood": lambda t: mixture.experts.expected_log_likelihood(t, y),
        "assign": lambda t: mixture.assign(t, y).responsibilities,
        "bound": lambda t: mixture.bound(t, y),
    }
    if experts != "categorical":
        found["quantile"] = lambda t: mixture.quantile(t, P)
    if experts not in COUNTS and experts != "outputs":
        found["log_prob by y"] = lambda t: mixture.log_prob(x, t[:, 0])
        found["assign by y"] = lambda t: mixture.assign(x, t[:, 0]).responsibilities
    return found


@pytest.mark.parametrize(("gate", "experts"), PAIRS)
def test_jacobians_are_those_of_finite_differences(gate: str, experts: str) -> None:
    mixture, (x, y) = fitted(gate, experts), data(experts)
    x, y = x[:2], y[:2]
    own_inputs = fitted(gate, experts, own_inputs=True)
    by_gate_x: dict[str, Function] = {"predict by gate_x": lambda t: own_inputs.predict(x, gate_x=t)}
    for name, function in (functions(mixture, x, y, experts) | by_gate_x).items():
        # An impossible y stays impossible: −∞ minus −∞.
        expected = finite_differences(function, x).nan_to_num(0.0)
        jacobians = {
            "functional": torch.autograd.functional.jacobian(function, x),
            "jacrev": jacrev(function)(x),
            "jacfwd": jacfwd(function)(x),
        }
        for how, jacobian in jacobians.items():
            error = (jacobian - expected).abs().max() / (1.0 + expected.abs().max())
            assert error < 1e-5, f"{name} by {how}: {error.item():.1e}"


@pytest.mark.parametrize(("gate", "experts"), PAIRS)
def test_vmap_gives_what_all_rows_give(gate: str, experts: str) -> None:
    mixture, (x, y) = fitted(gate, experts), data(experts)
    x, y, own_inputs = x[:3], y[:3], fitted(gate, experts, own_inputs=True)
    pairs: dict[str, tuple[Tensor, Tensor]] = {
        "predict": (vmap(lambda row: mixture.predict(row[None])[0])(x), mixture.predict(x)),
        "predict of both": (vmap(lambda row: mixture.predict(row[None], gate_x=row[None])[0])(x), mixture.predict(x)),
        "predict by gate_x": (
            vmap(lambda u, v: own_inputs.predict(u[None], gate_x=v[None])[0])(x, x.flip(1)),
            own_inputs.predict(x, gate_x=x.flip(1)),
        ),
        "weights": (vmap(lambda row: mixture.gate.weights(row[None])[0])(x), mixture.gate.weights(x)),
        "log_prob": (vmap(lambda u, v: mixture.log_prob(u[None], v[None])[0])(x, y), mixture.log_prob(x, y)),
        "assign": (
            vmap(lambda u, v: mixture.assign(u[None], v[None]).responsibilities[0])(x, y),
            mixture.assign(x, y).responsibilities,
        ),
        "slopes": (
            vmap(jacrev(lambda row: mixture.predict(row[None])[0]))(x),
            torch.stack([finite_differences(lambda row: mixture.predict(row[None])[0], row) for row in x]),
        ),
    }
    for name, (found, expected) in pairs.items():
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize(("gate", "experts"), [("softmax, prior", "linear"), ("dirichlet", "poisson")])
def test_quantiles_go_through_vmap_and_forward_mode(gate: str, experts: str) -> None:
    mixture, (x, _) = fitted(gate, experts), data(experts)
    x = x[:2]
    each = vmap(lambda row: mixture.quantile(row[None], P)[:, 0])(x)
    torch.testing.assert_close(each.movedim(0, 1), mixture.quantile(x, P))
    forward = torch.autograd.functional.jacobian(
        lambda t: mixture.quantile(t, P), x, vectorize=True, strategy="forward-mode"
    )
    expected = finite_differences(lambda t: mixture.quantile(t, P), x)
    torch.testing.assert_close(forward, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("gate", "experts"), PAIRS)
def test_what_comes_out_has_no_graph_unless_the_rows_ask_for_one(gate: str, experts: str) -> None:
    mixture, (x, y) = fitted(gate, experts), data(experts)
    plain = [
        mixture.predict(x),
        mixture.log_prob(x, y),
        mixture.assign(x, y).responsibilities,
        mixture.bound(x, y),
        mixture.gate.weights(x),
        mixture.experts.predict(x),
        getattr(mixture.experts, "coefficients", x),
        getattr(mixture.gate, "coefficients", x),
    ]
    for tensor in plain:
        tensor.numpy()
    if gate.startswith(("softmax", "neural")):
        assert mixture.gate.weights(x.requires_grad_()).requires_grad
        assert mixture.gate.expected_log_weights(x.detach()).requires_grad


def test_values_are_checked_outside_of_vmap_and_not_inside() -> None:
    mixture = fitted("dirichlet", "linear")
    bad = torch.full((2, 2), torch.nan, dtype=torch.float64)
    with pytest.raises(ValueError, match="`x` must be finite"):
        jacrev(mixture.predict)(bad)
    assert vmap(lambda row: mixture.predict(row[None])[0])(bad).isnan().all()
    with pytest.raises(ValueError, match="`x` must be finite"):
        mixture.predict(bad)


@pytest.mark.parametrize("method", ["quantile", "log_prob"])
def test_transforms_follow_derivatives_beside_tables(method: str) -> None:
    """Forward mode and vmap hide from a tensor that derivatives are asked for; a table beside it must not end them."""
    (gate, experts), (x, y) = ("dirichlet", "linear"), (rows[:4] for rows in data("linear"))
    call, beside = getattr(fitted(gate, experts), method), {"quantile": P, "log_prob": y}[method]
    both = torch.stack([x, x + 0.1])

    def derivatives(other: object) -> list[Tensor]:
        forward = torch.func.jvp(lambda own: call(own, other), (x,), (torch.ones_like(x),))[1]
        inside = torch.func.grad(lambda own: vmap(lambda one: call(one, other))(own).sum())(both)
        return [forward, inside]

    for found, expected in zip(derivatives(beside.numpy()), derivatives(beside), strict=True):
        assert torch.equal(found, expected) and bool(expected.any())

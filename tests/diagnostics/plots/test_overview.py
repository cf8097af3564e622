"""Four plots of a fit on one figure."""

import dataclasses
import functools
import warnings

import pytest
import torch
from matplotlib.figure import Figure

from mixpyro import DirichletGate, FitResult, GLMExperts, LinearExperts, MixtureOfExperts, fit, to_arviz
from mixpyro.diagnostics.plots import plot_overview
from mixpyro.experts.families import Multinomial
from tests import products
from tests.diagnostics.plots.example import RESULT

# Every gate, and every kind of y and of experts.
PAIRS = [
    ("dirichlet", "binomial"),
    ("sticks", "linear"),
    ("sticks", "outputs"),
    ("sticks, learnt", "student"),
    ("object", "gaussian"),
    ("marginal", "spherical"),
    ("softmax, prior", "categorical"),
    ("softmax, prior", "heterogeneous"),
    ("tree", "poisson"),
    ("neural", "inflated"),
]
GROUPS = ("log_likelihood", "posterior_predictive", "prior_predictive")


@functools.cache
def _fitted(gate: str, experts: str) -> FitResult:
    """Fit a pair for a few iterations."""
    torch.manual_seed(0)
    x, y = products.data(experts)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # What it says of so short a fit is not asked here.
        return fit(
            products.mixture(gate, experts),
            x,
            y,
            n_restarts=1,
            n_candidates=1,
            max_iterations=4,
            n_gradient_steps=5,
            progress=False,
        )


def _texts(figure: Figure) -> list[str]:
    """Return the texts on all axes."""
    return [text.get_text() for ax in figure.axes for text in ax.texts]


@pytest.mark.parametrize(("gate", "experts"), PAIRS)
def test_every_gate_and_every_experts_have_four_plots(gate: str, experts: str) -> None:
    """Draws are of the mean field: second derivatives of estimated parameters take seconds."""
    result = _fitted(gate, experts)
    figure = plot_overview(
        result, data=to_arviz(result, n_draws=4, intervals="mean field", leave_out=GROUPS, progress=False)
    )
    texts = _texts(figure)
    assert {"Experts", "Gate", "Assignments", "Restarts"} <= set(texts)
    assert not [text for text in texts if text.startswith("Not shown")]
    assert all(ax.get_ylabel() for ax in figure.axes)


@pytest.mark.parametrize(
    ("gate", "experts"),
    [("sticks", "linear"), ("object, learnt", "linear"), ("dirichlet", "tied"), ("sticks", "outputs")],
)
def test_draws_are_made_where_none_are_given(gate: str, experts: str) -> None:
    figure = plot_overview(_fitted(gate, experts))
    assert not [text for text in _texts(figure) if text.startswith("Not shown")]
    assert figure.axes[0].collections


def test_the_plots_are_chosen_by_what_the_fit_is() -> None:
    def labels(result: FitResult) -> list[str]:
        return [ax.get_ylabel() for ax in plot_overview(result).axes]

    assert labels(RESULT)[:2] == ["y", "Component"]
    assert labels(_fitted("object", "gaussian"))[0] == "Density"
    assert "Component 2" in " ".join(_texts(plot_overview(RESULT)))


def test_lines_are_along_the_input_that_moves_y_most() -> None:
    x = torch.randn(60, 3, generator=torch.Generator().manual_seed(0)).double()
    y = 0.1 * x[:, 0] + 0.3 * x[:, 1] - 2.0 * x[:, 2] + torch.sin(90 * x[:, 0])
    result = fit(MixtureOfExperts(DirichletGate(1), LinearExperts(1, 3)), x, y, progress=False)
    assert plot_overview(result).axes[0].get_xlabel() == "x2"


def test_a_plot_that_does_not_apply_says_why() -> None:
    y = torch.eye(3).double().repeat(10, 1)
    mixture = MixtureOfExperts(DirichletGate(2), GLMExperts(2, 0, Multinomial(3), prior_scale=3.0))
    result = fit(mixture, y[:, :0], y, n_restarts=2, progress=False)
    reasons = [text for text in _texts(plot_overview(result)) if text.startswith("Not shown")]
    assert [" ".join(text.split()) for text in reasons] == [
        "Not shown: `y` must have all outputs of a row for a PreciseMultinomial; got NaN in some."
    ]


def test_a_result_without_rows_needs_data() -> None:
    with pytest.raises(ValueError, match="`data` must be given for a fit that keeps no rows"):
        plot_overview(dataclasses.replace(RESULT, rows=None))


def test_a_notebook_shows_it_as_png() -> None:
    figure = plot_overview(RESULT)
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    assert isinstance(RESULT.plot(), Figure)

"""Gaussian densities where data are few, far from zero or degenerate, and where arguments are wrong."""

import math
from typing import Any

import pytest
import torch

from mixpyro import DirichletGate, GaussianExperts, MixtureOfExperts, fit
from tests.experts.test_gaussian import MATRIX, STRUCTURES, clusters, learn, make
from tests.problems import inputs, responsibilities


def test_before_data_covariances_of_few_degrees_of_freedom_are_infinite() -> None:
    for covariance in STRUCTURES:
        degrees = {"full": 4.0, "diagonal": 2.0, "spherical": 0.5, "tied": 4.0}[covariance]
        experts = GaussianExperts(2, 3, covariance=covariance, degrees_of_freedom=degrees)
        assert experts.covariances.diagonal(dim1=-2, dim2=-1).isinf().all()
        assert experts.mean_standard_deviations.isinf().all()


@pytest.mark.parametrize("covariance", STRUCTURES)
def test_equal_rows_keep_a_positive_covariance(covariance: str) -> None:
    y = torch.full((50, 3), 1e4, dtype=torch.float64)
    experts = make(covariance, 1, mean=1e4, scale=1e-6)
    experts.centre(y, y)
    learn(experts, y, y)
    assert (torch.linalg.eigvalsh(experts.covariances) > 0).all()
    assert torch.isfinite(experts.kl_divergence())


@pytest.mark.filterwarnings("ignore:the noise of component")
@pytest.mark.filterwarnings("ignore:only one of", "ignore:the best run has not converged")
@pytest.mark.parametrize(("scale", "dtype"), [(1e8, torch.float64), (1e5, torch.float32)])
def test_bounds_are_finite_where_the_prior_is_below_the_rounding_of_the_data(scale: float, dtype: torch.dtype) -> None:
    """Of five components in two clusters some have too few objects for a covariance of their own."""
    y = scale * (inputs(80, 3) + 6.0 * (torch.arange(80) % 2).unsqueeze(1))
    mixture = MixtureOfExperts(DirichletGate(5), GaussianExperts(5, 3, dtype=dtype))
    runs = fit(mixture, y[:, :0], y, n_restarts=3, max_iterations=60).runs
    assert all(math.isfinite(run.bound) for run in runs)


def test_a_component_without_objects_keeps_its_prior() -> None:
    x, y = clusters(30)
    r = torch.tensor([1.0, 0.0]).double().repeat(30, 1)
    experts = learn(make("full", 2), x, y, r)
    torch.testing.assert_close(experts.posterior_scale[1], MATRIX)
    torch.testing.assert_close(experts.means[1], experts.prior_mean)


@pytest.mark.usefixtures("bad_arguments")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_outputs": 0}, "`n_outputs` must be at least 1; got 0"),
        ({"covariance": "diag"}, "`covariance` must be one of 'full', 'diagonal', 'spherical', 'tied'; got 'diag'"),
        ({"mean": [0.0, 1.0]}, r"`mean` must be a number or a vector of length 3; got shape \[2\]"),
        ({"mean": float("nan")}, r"`mean` must be finite; got \[nan, nan, nan\]"),
        ({"mean_precision": 0.0}, "`mean_precision` must be finite and above 0; got 0.0"),
        ({"degrees_of_freedom": 2.0}, "`degrees_of_freedom` must be above 2, .*; got 2"),
        ({"degrees_of_freedom": -1.0, "covariance": "diagonal"}, "`degrees_of_freedom` must be .* above 0; got -1.0"),
        ({"scale": torch.ones(2, 2)}, r"`scale` must be .* matrix \[3, 3\]; got shape \[2, 2\]"),
        ({"scale": torch.ones(3, 3)}, "`scale` must be symmetric positive definite"),
        ({"scale": [1.0, -1.0, 1.0], "covariance": "diagonal"}, "`scale` must be finite and above 0"),
        ({"scale": -2.0, "covariance": "spherical"}, "`scale` must be finite and above 0; got -2.0"),
        ({"scale": 1e-60, "dtype": torch.float32}, "`scale` must be above 0 in torch.float32"),
    ],
)
def test_bad_priors_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GaussianExperts(2, **{"n_outputs": 3, **arguments})


@pytest.mark.usefixtures("bad_arguments")
def test_a_vector_of_scales_is_no_spherical_covariance() -> None:
    with pytest.raises(TypeError, match="`scale` must be a number; got "):
        GaussianExperts(2, 3, covariance="spherical", scale=[1.0, 1.0, 1.0])


@pytest.mark.usefixtures("bad_arguments")
def test_statistics_of_another_shape_are_refused() -> None:
    x, y = clusters(10)
    diagonal, full = GaussianExperts(2, 3, covariance="diagonal"), GaussianExperts(2, 3)
    with pytest.raises(ValueError, match=r"`statistics.yy` must have shape \[2, 3\].*got \[2, 3, 3\]"):
        diagonal.update(full.statistics(x, y, responsibilities(10, 2)))
    one, other = GaussianExperts(1, 3, covariance="diagonal"), GaussianExperts(1, 3)
    message = r"`statistics.yy` must have shape \[1, 3\]; got \[1, 3, 3\]"
    with pytest.raises(ValueError, match=message):
        one.update(other.statistics(x, y, responsibilities(10, 1)))


@pytest.mark.parametrize("covariance", STRUCTURES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 0.1), (torch.float64, 1e-7)])
@pytest.mark.parametrize("distance", [1.0, 1e5])
def test_tight_clusters_far_apart_keep_their_squared_distances(
    covariance: str, dtype: torch.dtype, tolerance: float, distance: float
) -> None:
    """An expanded square would lose digits: the distance from the origin is large against the spread."""
    z = torch.arange(300) % 2
    y = ((2.0 * z.unsqueeze(-1) - 1.0) * distance + inputs(300, 2).float()).to(dtype)
    experts = GaussianExperts(2, 2, covariance=covariance)
    experts.update(experts.statistics(y, y, torch.nn.functional.one_hot(z, 2).to(dtype)))
    q = experts.posterior
    precision = experts.structure.matrices(q.scale, 2).inverse() * q.degrees[:, None, None]
    difference = y.double().unsqueeze(1) - q.mean
    plain = torch.einsum("nkp,kpq,nkq->nk", difference, precision, difference)
    own = torch.arange(300), z
    ours = q.squared_distances(experts.columns(y, y)).mT
    torch.testing.assert_close(ours[own].double(), plain[own], rtol=tolerance, atol=tolerance)

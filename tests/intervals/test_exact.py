"""The density that refinement samples is the one that the exact samplers sample, computed in another way."""

import copy

import pytest
import torch

from mixpyro import DirichletGate, GaussianExperts, MixtureOfExperts, fit, linear_response
from mixpyro.fitting.fitted_rows import fitted_rows
from mixpyro.intervals.densities import LogJoint
from tests.benchmarks.simulated import SETTINGS, Case, densities, models, two_lines
from tests.intervals.exact import DataSets, experts_sampler, gate_sampler
from tests.intervals.gibbs import Pair


def gaussian(covariance: str) -> Case:
    """Return the case of two densities whose covariances have a form."""

    def mixture() -> MixtureOfExperts:
        return MixtureOfExperts(DirichletGate(2), GaussianExperts(2, 2, covariance=covariance))

    return Case(covariance, densities, mixture, "")


CASES = [two_lines(SETTINGS[2]), *models(), gaussian("diagonal"), gaussian("spherical")]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_two_programs_give_one_density(case: Case, without_type_checks: None) -> None:
    """They differ by the same constant everywhere."""
    rows, mixture, n_points = case.rows(0), case.mixture(), 20
    start = torch.nn.functional.one_hot(rows.z, mixture.n_components).double() + 0.05
    result = fit(mixture, rows.x, rows.y, initial_responsibilities=start, progress=False)
    response = linear_response(result, rows.x, rows.y)
    steps = torch.randn(n_points, len(response.names)).double()
    points = response.estimates + 2.0 * steps @ torch.linalg.cholesky(response.covariance).mT
    found = LogJoint(copy.deepcopy(result.mixture), fitted_rows(result, rows.x, rows.y, None, None))(points)
    data = DataSets(*(part.expand(n_points, *part.shape) for part in (rows.x, rows.y, rows.z)))
    results = [result] * n_points
    pair = Pair(gate_sampler(results, data), experts_sampler(results, data), mixture.n_components)
    difference = found - pair.log_joint(points)
    assert float(found.std()) > 1.0
    assert float((difference - difference[0]).abs().max()) < 1e-9

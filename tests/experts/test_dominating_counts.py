"""The caution where one row has nearly all counts."""

import pytest
import torch

from mixpyro import DirichletGate, GLMExperts, HeterogeneousExperts, MixtureOfExperts, PointMassExperts, fit
from mixpyro.experts.dominating_counts import of_one_row
from mixpyro.experts.families import Family, NegativeBinomial, Poisson, ZeroTruncatedPoisson

N = 60


def counts_with_one_of(largest: float) -> torch.Tensor:
    y = 1.0 + torch.arange(N, dtype=torch.float64) % 4
    y[17] = largest
    return y


FAMILIES = [Poisson(), NegativeBinomial(), ZeroTruncatedPoisson()]


@pytest.mark.parametrize("family", FAMILIES, ids=["Poisson", "negative binomial", "truncated"])
def test_a_fit_to_counts_of_which_one_row_has_nearly_all_says_so(family: Family) -> None:
    mixture = MixtureOfExperts(DirichletGate(1), GLMExperts(1, 0, family))
    with pytest.warns(RuntimeWarning, match=r"one row has 100% of the counts of component 0, y = 1e\+09"):
        fit(mixture, torch.zeros(N, 0).double(), counts_with_one_of(1e9), n_restarts=1, progress=False)


def test_a_component_beside_another_bank_is_named_by_its_own_number() -> None:
    experts = HeterogeneousExperts([PointMassExperts(1), GLMExperts(1, 0, Poisson())])
    r = torch.tensor([[0.0, 1.0]]).double().expand(N, 2)
    found = experts.prior_warnings(torch.zeros(N, 0).double(), counts_with_one_of(1e6).unsqueeze(1), r)
    assert len(found) == 1 and "component 1" in found[0]


@pytest.mark.parametrize(
    "largest, exposure, responsible",
    [(90.0, 1.0, 1.0), (1e6, 1e6, 1.0), (1e6, 1.0, 0.1)],
    ids=["no large count", "a long exposure", "few objects"],
)
def test_nothing_is_said_where_one_row_may_have_most(largest: float, exposure: float, responsible: float) -> None:
    exposures, r = torch.ones(N, 1, 1), torch.full((N, 1), responsible)
    exposures[17] = exposure
    assert not of_one_row(counts_with_one_of(largest).unsqueeze(1), exposures, r, 0)

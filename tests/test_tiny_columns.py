"""Columns whose squares leave float64 are fitted, or refused by the name of what the caller gave."""

import pytest
import torch

from mixpyro import MixtureOfExperts, fit
from tests.fuzz.made import EXPERTS, GATES, Size, rows
from tests.fuzz.targets.fitted import QUICK

pytestmark = [pytest.mark.usefixtures("bad_arguments"), pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize("factor", [1e-310, 1e-160, 1e155])
@pytest.mark.parametrize("gate", ["dirichlet", "softmax, prior", "bayesian", "tree"])
@pytest.mark.parametrize("bank", ["linear", "gaussian", "diagonal", "poisson", "student"])
def test_inputs_of_any_scale_are_fitted_or_refused_by_name(gate: str, bank: str, factor: float) -> None:
    x, y = rows(bank, Size(2, 2, 12), seed=1)
    mixture = MixtureOfExperts(GATES[gate](2, 2, torch.float64), EXPERTS[bank](2, 2, torch.float64))
    try:
        fit(mixture, x * factor, y, **{**QUICK, "max_iterations": 3})
    except (ValueError, RuntimeError) as error:
        assert str(error).startswith("`x`")


@pytest.mark.parametrize("factor", [1e-310, 1e-200, 1e155])
@pytest.mark.parametrize("bank", ["gaussian", "diagonal", "tied"])
def test_outputs_whose_covariance_is_no_number_are_refused_by_name(bank: str, factor: float) -> None:
    x, y = rows(bank, Size(2, 2, 12), seed=1)
    mixture = MixtureOfExperts(GATES["dirichlet"](2, 2, torch.float64), EXPERTS[bank](2, 2, torch.float64))
    with pytest.raises(ValueError, match="`y` must have columns of scales that have squares"):
        fit(mixture, x, y * factor, **QUICK)

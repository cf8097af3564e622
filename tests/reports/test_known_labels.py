"""Reports of fits that knew the components of some rows: they read them, or refuse."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mixpyro import (
    DirichletGate,
    FitResult,
    MixtureOfExperts,
    coefficients,
    compare,
    criteria,
    fit,
    observed_information,
    to_arviz,
)
from mixpyro.diagnostics import ResponsibilityDraws, exact_loo
from tests.fitting.known_labels import half_known, linear, maximum_likelihood
from tests.problems import lines

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.mark.usefixtures("without_type_checks")
def test_criteria_count_known_components_as_data() -> None:
    x, y, z = lines(60, 2, noise=1.0)
    known = half_known(60, 20)
    result = maximum_likelihood(x, y, observed=z, mask=known)
    found = criteria(result, x, y, gate_x=x[:, :0])
    # By maximum likelihood the bound is the likelihood.
    assert found.log_likelihood == pytest.approx(result.bound, abs=1e-6)
    assert found.bic == pytest.approx(7 * math.log(60) - 2 * result.bound, abs=1e-6)
    assert math.isnan(found.log_evidence)
    mixture = MixtureOfExperts(DirichletGate(3), linear(3))
    for labels, n_free in ((z, 1), (torch.zeros_like(z), 2)):
        bayes = fit(mixture, x, y, observed=labels, mask=known, n_restarts=2, progress=False)
        row = criteria(bayes, x, y)
        n_empty = int((bayes.responsibilities.sum(0)[3 - n_free :] < 0.5).sum())
        expected = math.lgamma(n_free + 1) - math.lgamma(n_empty + 1)
        assert row.log_evidence == pytest.approx(bayes.bound + expected)


def test_fits_that_knew_other_components_are_not_compared() -> None:
    x, y, z = lines(40, 2, noise=1.0)
    known = half_known(40, 10)

    def fitted(k: int, **labels: Any) -> FitResult:
        return fit(MixtureOfExperts(DirichletGate(k), linear(k)), x, y, n_restarts=2, progress=False, **labels)

    same = {"two": fitted(2, observed=z, mask=known), "three": fitted(3, observed=z, mask=known)}
    assert set(compare(same, x, y)) == {"two", "three"}
    for other in (fitted(2), fitted(2, observed=z), fitted(2, observed=1 - z, mask=known)):
        for results in ([same["two"], other], [other, same["two"]]):
            with pytest.raises(ValueError, match="must be fits with the same known components"):
                compare(results, x, y)


@pytest.mark.usefixtures("without_type_checks")
def test_standard_errors_know_the_components() -> None:
    x, y, z = lines(60, 2, noise=1.0)
    known, gate_x = half_known(60, 30), x[:, :0]
    result = maximum_likelihood(x, y, observed=z, mask=known)
    mixture = result.mixture
    names = [name for name, parameter in mixture.named_parameters() if parameter.requires_grad]
    values = [parameter.detach() for _, parameter in mixture.named_parameters() if parameter.requires_grad]

    def log_likelihood(flat: Tensor) -> Tensor:
        parts = flat.split([value.numel() for value in values])
        given = {name: part.view(value.shape) for name, part, value in zip(names, parts, values, strict=True)}
        joint = torch.func.functional_call(
            _Joint(mixture), {f"mixture.{k}": v for k, v in given.items()}, (x, y, gate_x)
        )
        return torch.where(known, joint.gather(1, z[:, None])[:, 0], joint.logsumexp(1)).sum()

    flat = torch.cat([value.flatten() for value in values])
    hessian = torch.autograd.functional.hessian(log_likelihood, flat)
    ours = observed_information(mixture, x, y, gate_x=gate_x, observed=z, mask=known)
    torch.testing.assert_close(ours, -hessian, rtol=1e-6, atol=1e-6)
    table = coefficients(result, x, y, gate_x=gate_x)
    errors = torch.tensor([row.standard_error for row in table.values()]).double()
    torch.testing.assert_close(errors, torch.linalg.inv(-hessian).diagonal().sqrt(), rtol=1e-4, atol=1e-6)
    with pytest.warns(RuntimeWarning, match="not at a maximum|had the fit weights, known components"):
        coefficients(mixture, x, y, gate_x=gate_x)


class _Joint(torch.nn.Module):
    """The log joint of a mixture as a module, for functional calls."""

    def __init__(self, mixture: MixtureOfExperts) -> None:
        super().__init__()
        self.mixture = mixture

    def forward(self, x: Tensor, y: Tensor, gate_x: Tensor) -> Tensor:
        return self.mixture.expected_log_joint(x, y, gate_x=gate_x)


def test_reports_that_do_not_read_labels_refuse() -> None:
    x, y, z = lines(30, 2)
    result = fit(MixtureOfExperts(DirichletGate(2), linear(2)), x, y, observed=z, progress=False)
    plain = fit(MixtureOfExperts(DirichletGate(2), linear(2)), x, y, n_restarts=1, progress=False)
    data = to_arviz(plain, x, y, n_draws=10)
    refused = "`fitted` must be a fit without `observed` components.*got one that knew those of 30 rows"
    for report in (
        lambda: to_arviz(result, x, y),
        lambda: to_arviz(result, x, y, objects=torch.arange(30)),
        lambda: exact_loo(result, x, y),
    ):
        with pytest.raises(ValueError, match=refused):
            report()
    with pytest.raises(ValueError, match="must be"):
        ResponsibilityDraws(data, result, x, y)
    with pytest.raises(ValueError, match="must be the rows that were fitted"):
        criteria(result, x, y + 1.0)


def test_rows_that_count_nothing_do_not_tell_components_apart() -> None:
    x, y, z = lines(40, 2, noise=1.0)
    known = half_known(40, 10)
    options: dict[str, Any] = {"observed": z, "mask": known, "n_restarts": 2, "progress": False}
    for weights, factor in ((torch.ones(40).double(), 1), ((~known).double(), 2)):
        result = fit(MixtureOfExperts(DirichletGate(2), linear(2)), x, y, weights=weights, **options)
        assert criteria(result, x, y).log_evidence == pytest.approx(result.bound + math.log(factor))

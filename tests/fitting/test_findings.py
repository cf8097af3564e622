"""What is said of a fit to many rows, of which a sample is looked at."""

from typing import Any

import pytest
import torch

from mixpyro import GLMExperts, MixtureOfExperts, SoftmaxGate
from mixpyro.experts.families import Binomial, Gaussian
from mixpyro.fitting import findings
from mixpyro.fitting.table import checked_table
from tests.problems import inputs

N = 400


def found(experts: Any, y: torch.Tensor, r: torch.Tensor) -> list[str]:
    x = inputs(N, 1)
    mixture = MixtureOfExperts(SoftmaxGate(2, 1), experts)
    table = checked_table(mixture, x, y, x, None, new_fit=True)
    with torch.no_grad():
        experts.maximise(*experts.check_data(x, y), r)
        mixture.gate.maximise(x, r)
    return [*findings.degeneracies(mixture, table, r), *findings.warnings_of(mixture, table, r)]


@pytest.mark.parametrize("separated", [True, False])
def test_a_sample_says_what_all_rows_say(monkeypatch: pytest.MonkeyPatch, *, separated: bool) -> None:
    x = inputs(N, 1)
    torch.manual_seed(0)
    y = (x[:, 0] > 0.0).double() if separated else torch.bernoulli(torch.full((N,), 0.3).double())
    r = torch.full((N, 2), 0.5).double()
    whole = found(GLMExperts(2, 1, Binomial()), y, r)
    monkeypatch.setattr(findings, "MANY_OBJECTS", 300)
    assert bool(whole) is separated
    assert bool(found(GLMExperts(2, 1, Binomial()), y, r)) is separated


def test_a_component_that_has_collapsed_on_a_few_rows_is_seen_in_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    x = inputs(N, 1)
    y, r = x + inputs(N, 1, seed=1), torch.zeros(N, 2).double()
    r[:, 1] = 1.0
    r[7:10] = torch.tensor([1.0, 0.0]).double()
    y[7:10] = 2.0 * x[7:10]
    monkeypatch.setattr(findings, "MANY_OBJECTS", 100)
    assert any("has collapsed on 3" in one for one in found(GLMExperts(2, 1, Gaussian()), y, r))

"""Densities of groups of rows with random effects summed out."""

import torch
from torch.distributions import MultivariateNormal

from mixpyro.numerics.group_densities import columns_of_groups, marginal_log_densities
from mixpyro.numerics.segments import Segments


def test_the_marginal_density_is_that_of_the_whole_group() -> None:
    sizes, precision = torch.tensor([1, 2, 6]), torch.tensor([0.7, 3.0]).double()
    design = torch.cat([torch.ones(9, 1), torch.randn(9, 2)], 1).double()
    y, coefficients, root = (torch.randn(*shape).double() for shape in ((9,), (2, 3), (2, 3, 4)))
    columns = columns_of_groups(torch.cat([design, y[:, None]], 1).mT, torch.eye(3, 2).double(), Segments(sizes))
    found = marginal_log_densities(columns, coefficients, precision, root)
    for k in range(2):
        for group, (u, target) in enumerate(zip(design.split(sizes.tolist()), y.split(sizes.tolist()), strict=True)):
            covariance = torch.eye(len(u)).double() / precision[k] + u @ root[k] @ root[k].mT @ u.mT
            density = MultivariateNormal(u @ coefficients[k], covariance).log_prob(target)
            torch.testing.assert_close(found[k, group], density)


def test_effects_are_of_combinations_of_the_columns() -> None:
    sizes, selection = torch.tensor([3, 2]), torch.tensor([[0.5], [1.0]]).double()
    rows = torch.cat([torch.ones(1, 5), torch.randn(2, 5)]).double()
    columns = columns_of_groups(rows, selection, Segments(sizes))
    z = selection.mT @ rows[:2]
    for group, (own, whole) in enumerate(zip(z.split([3, 2], 1), rows.split([3, 2], 1), strict=True)):
        torch.testing.assert_close(columns.effects[..., group], own @ own.mT)
        torch.testing.assert_close(columns.crossed[..., group], own @ whole.mT)

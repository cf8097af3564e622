"""Bayesian linear regressions with random effects of groups."""

import torch

from mixpyro import RandomEffectsExperts
from tests.experts.contract import N_FEATURES, ConjugateExpertsContract, K


class TestRandomEffectsExperts(ConjugateExpertsContract):
    """The contract, in which every row is a group of its own."""

    def make(self, n_components: int = K) -> RandomEffectsExperts:
        return RandomEffectsExperts(n_components, N_FEATURES, coefficient_precision=[0.5, 0.1, 2.0])

    def test_the_expected_log_likelihood_is_the_mean_over_the_guide(self) -> None:
        """It is lower, for effects are taken as independent of variances: by little."""
        experts, x, y, _ = self.updated()
        x, y, z = x[:5], y[:5], torch.arange(5) % K
        draws = torch.stack([experts.likelihood(x, experts.guide(x), z).log_prob(y) for _ in range(150)])
        error = draws.std(0) / len(draws) ** 0.5
        excess = draws.mean(0) - experts.expected_log_likelihood(x, y)[torch.arange(5), z]
        assert (excess > -4.5 * error).all()
        assert (excess < 0.5).all()

    def test_the_update_is_the_optimum_of_the_experts_part_of_the_bound(self) -> None:
        """Each update raises it, as effects are integrated out under the posterior before."""
        experts, x, y, r = self.updated()
        values = []
        for _ in range(12):
            values.append(float(experts.partial_bound(x, y, r)))
            experts.update(experts.statistics(x, y, r))
        assert min(torch.tensor(values).diff()) > -1e-9
        assert values[-1] > values[0]


class TestRandomSlopes(TestRandomEffectsExperts):
    """The contract again, of two effects without the intercept, and one covariance."""

    def make(self, n_components: int = K) -> RandomEffectsExperts:
        return RandomEffectsExperts(n_components, N_FEATURES, [1, 0], covariance_per_component=False)


class TestInterceptAndSlope(TestRandomEffectsExperts):
    """The contract again, with one noise and a prior mean."""

    def make(self, n_components: int = K) -> RandomEffectsExperts:
        return RandomEffectsExperts(
            n_components, N_FEATURES, [0, "intercept"], coefficient_mean=0.5, noise_per_component=False
        )

"""What every conjugate posterior must do as a value; the test of each kind inherits it."""

from typing import Any

import torch

from mixpyro.numerics import nested

N_RUNS = 3


def assert_close(actual: Any, expected: Any, *, tolerance: float = 1e-12) -> None:
    """Compare two nests of tensors, with one tolerance for relative and absolute differences."""
    for ours, theirs in zip(nested.tensors(actual), nested.tensors(expected), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


class PosteriorContract:
    """Inherited by ``Test<Posterior>``, which gives :meth:`prior`, :meth:`statistics` and :attr:`n_parameters`."""

    n_parameters: int

    def prior(self) -> Any:
        """A prior without leading axes."""
        raise NotImplementedError

    def statistics(self, seed: int) -> Any:
        """Statistics without leading axes."""
        raise NotImplementedError

    def updated(self, prior: Any, statistics: Any) -> Any:
        """The posterior."""
        return prior.updated(statistics)

    def runs(self) -> tuple[list[Any], Any]:
        """Statistics of three runs, one by one and with a leading axis."""
        runs = [self.statistics(seed) for seed in range(N_RUNS)]
        return runs, nested.stack(runs)

    def test_an_update_of_several_runs_is_that_of_each(self) -> None:
        runs, together = self.runs()
        alone = [self.updated(self.prior(), statistics) for statistics in runs]
        posterior = self.updated(self.prior(), together)
        assert type(posterior) is type(alone[0])
        assert_close(posterior, nested.stack(alone))

    def test_the_divergence_of_several_runs_is_that_of_each(self) -> None:
        runs, together = self.runs()
        alone = [self.updated(self.prior(), statistics).kl(self.prior()) for statistics in runs]
        divergences = self.updated(self.prior(), together).kl(self.prior())
        assert divergences.shape == (N_RUNS,)
        assert divergences.dtype == torch.float64
        assert (divergences > 0).all()
        assert_close(divergences, torch.stack(alone))

    def test_statistics_beyond_the_prior_lead_to_the_posterior(self) -> None:
        runs, together = self.runs()
        for statistics in (runs[0], together):
            posterior = self.updated(self.prior(), statistics)
            seen = posterior.statistics_beyond(self.prior())
            assert [part.shape for part in seen] == [part.shape for part in statistics]
            assert_close(self.updated(self.prior(), seen), posterior, tolerance=1e-9)

    def test_two_leading_axes_are_as_one(self) -> None:
        _, together = self.runs()
        posterior = self.updated(self.prior(), together)
        twice = self.updated(self.prior(), nested.apply(lambda part: part.expand(2, *part.shape), together))
        assert_close(twice, nested.apply(lambda part: part.expand(2, *part.shape), posterior))
        assert twice.kl(self.prior()).shape == (2, N_RUNS)

    def test_a_prior_has_no_divergence_from_itself(self) -> None:
        assert abs(self.prior().kl(self.prior())) < 1e-12

    def test_parameters_are_counted(self) -> None:
        assert self.updated(self.prior(), self.statistics(0)).n_parameters == self.n_parameters

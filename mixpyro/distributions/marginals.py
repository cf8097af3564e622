"""Log densities of the outputs that were observed, where others of the same row are missing."""

import functools

import torch
from pyro.distributions import Independent, MultivariateNormal
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.distributions.util import broadcast_shape
from torch import Tensor

from mixpyro import arguments
from mixpyro.distributions.joined_outputs import JoinedOutputs
from mixpyro.distributions.multivariate_normal import multivariate_normal
from mixpyro.distributions.student_t import SharedStudentT
from mixpyro.numerics.incomplete import Incomplete


def log_prob_of_seen(distribution: TorchDistributionMixin, y: Tensor) -> Tensor:
    """Return log p of the outputs that are not NaN in nats, in the batch shape; 0 for a row of NaN alone.

    Args:
        distribution: batch shape [..., N, K] and event shape [P].
        y: [N, 1, P], or [N, P] for a distribution of batch shape [..., N].

    Raises:
        TypeError: if outputs are missing, and the family has no marginal density here.
    """
    if arguments.is_batched(y) or not bool(y.isnan().any()):
        log_prob: Tensor = distribution.log_prob(y)
        return log_prob
    if isinstance(distribution, JoinedOutputs):
        parts = zip(distribution.parts, y.split(distribution.sizes, dim=-1), strict=True)
        return functools.reduce(torch.add, (log_prob_of_seen(part, own) for part, own in parts))
    missing = y.isnan()
    rows = missing.all(-1)
    if torch.equal(rows, missing.any(-1)) and not bool(rows.all()):
        # Some value that is possible in place of those that are missing.
        filled = torch.where(missing, y[~rows][0], y)
        return distribution.log_prob(filled).masked_fill(rows, 0.0)
    if isinstance(distribution, Independent) and distribution.reinterpreted_batch_ndims == 1:
        of_each = distribution.base_dist.log_prob(y.nan_to_num(nan=0.0))
        return torch.where(y.isnan(), 0.0, of_each).sum(-1)
    if not isinstance(distribution, SharedStudentT | MultivariateNormal):
        raise TypeError(f"`y` must have all outputs of a row for a {type(distribution).__name__}; got NaN in some.")
    return _of_patterns(distribution, y)


def _of_patterns(distribution: SharedStudentT | MultivariateNormal, y: Tensor) -> Tensor:
    """Return log p of an elliptical distribution's marginals, one pattern of missing outputs at a time."""
    place = 0 if y.ndim == 3 else -1  # of the axis of rows in the batch
    batch = broadcast_shape(distribution.batch_shape, y.shape[:-1])
    loc = distribution.loc.expand(*batch, -1).movedim(-2 if place else 0, 0)
    root = distribution.scale_tril.expand(*batch, -1, -1).movedim(-3 if place else 0, 0)
    values = y.expand(*batch, -1).movedim(-2 if place else 0, 0)
    rows = y.reshape(len(y), -1)
    known = Incomplete.of((), rows.isnan())
    found = []
    for part in known.parts:
        seen = [output for output in range(rows.shape[1]) if output not in part.missing]
        own = root[part.rows][..., seen, :]
        factor = torch.linalg.cholesky(own @ own.mT)
        where = loc[part.rows][..., seen]
        marginal = (
            SharedStudentT(distribution.df.expand(batch).movedim(place, 0)[part.rows], where, factor)
            if isinstance(distribution, SharedStudentT)
            else multivariate_normal(where, scale_tril=factor)
        )
        found.append(marginal.log_prob(values[part.rows][..., seen]).movedim(0, -1))
    return known.gathered(found).movedim(-1, place)

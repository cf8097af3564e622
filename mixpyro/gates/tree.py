"""A gate whose weights are products of logistic regressions along the branches of a binary tree."""

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import ClassVar

import torch
from jaxtyping import Float
from pyro.distributions import Normal
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor
from torch.nn.functional import logsigmoid

from mixpyro import arguments
from mixpyro.conjugate.normal import NaturalSums, NormalCoefficients
from mixpyro.distributions.multivariate_normal import multivariate_normal
from mixpyro.gates.bayesian_logits import BayesianLogitGate
from mixpyro.numerics import tree_automorphisms, trees
from mixpyro.numerics.cholesky import cholesky
from mixpyro.numerics.logistic_normal import LogisticNormal, logistic_normal
from mixpyro.numerics.predictor_moments import DesignRows
from mixpyro.numerics.trees import Branches, GivenTree
from mixpyro.shapes import Inputs


class TreeGate(BayesianLogitGate):
    """A binary tree of logistic regressions with a Normal posterior of their coefficients; a leaf is a component.

    At every inner node v, σ(βᵥ'u) with u = [1, x] is the probability of the branch on the left, and the weight of a
    component is the product of the probabilities along the path to its leaf. A balanced tree is the hierarchical
    mixture of experts; one with a leaf on the left of every node, such as (0, (1, 2)), is stick-breaking with inputs.

    βᵥ ~ Normal(m₀, 2s² I), where s is ``prior_scale``: log odds are the difference of two scores, each Normal(0, s²),
    as in :class:`~mixpyro.BayesianSoftmaxGate`, which is the same gate for two components. m₀ is zero but for the
    intercept, log(leaves on the left / leaves on the right): at m₀ every component has the weight 1/K. The variational
    posterior is a Normal distribution for every node, with full covariance. Its expectations are by quadrature; the
    responsibilities of the leaves are exact and never factored over nodes.

    Left and right may change places, with the signs of the coefficients. Which components share a branch is a matter of
    the model, unlike for a softmax: with three components or more, two orders of the leaves are two models, with
    different bounds. The starts of :func:`mixpyro.fit` put the components on the leaves in random order, so that
    restarts search over orders as well. Twenty found the best of the three orders of K = 3 wherever it was tried; of
    four components they missed the best tree by one to four nats, and by thirty where sticks were given for data of a
    balanced tree. :func:`mixpyro.rearrange_tree` looks through all trees of a fit's components, and
    :func:`mixpyro.grow_tree` finds K too. On real tables of two inputs a tree and a softmax differ by a nat or so in
    log evidence, in either direction.

    Args:
        tree: nested pairs of the components 0 to K − 1, such as ``((0, 1), 2)``, or K for a balanced tree.
        n_features: D, the number of columns of x; 0 for weights that do not depend on x.
        prior_scale: s, in log odds per unit of x and, for the intercept, at x = 0; from 1e-10 to 1e10.
        name: prefix of the Pyro sites ``<name>.coefficients`` and ``<name>.assignment``.
        device: of the posterior.
        dtype: of the posterior; results have the dtype of x.

    Attributes:
        tree: as nested pairs, (0,) for one component. Nodes are numbered from the root down, a node before those on its
            left and these before those on its right.
        posterior: with the mean [K − 1, 1 + D] and precision [K − 1, 1 + D, 1 + D] of the nodes' coefficients.

    References:
        Jordan, Jacobs (1994), Hierarchical mixtures of experts and the EM algorithm;
        Bishop, Svensén (2003), Bayesian hierarchical mixtures of experts (whose posterior of z is factored over nodes).

    Example:
        >>> gate = TreeGate(((0, 1), 2), n_features=1)
        >>> gate.posterior.mean[:, 0].exp().tolist()
        [2.0, 1.0]
    """

    site_axes: ClassVar[Mapping[str, tuple[str, ...]]] = {"coefficients": ("gate_node", "gate_regressor")}

    def __init__(
        self,
        tree: int | Sequence[GivenTree],
        n_features: int,
        *,
        prior_scale: float = 2.0,
        name: str = "gate",
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        is_number = isinstance(tree, Integral) and not isinstance(tree, bool)
        self.tree = trees.checked_tree(trees.balanced_tree(arguments.size("tree", tree)) if is_number else tree)
        super().__init__(len(trees.leaves_of(self.tree)), name=name)
        self.n_features = arguments.size("n_features", n_features, least=0)
        self.prior_scale = arguments.moderate_number("prior_scale", prior_scale)
        like = torch.zeros((), device=arguments.device(device), dtype=arguments.dtype(dtype))
        self.register_posterior(self.prior, like=like)

    @property
    def prior(self) -> NormalCoefficients:
        """Normal(m₀, 2s² I) for every node, float64."""
        # Before there is a posterior on the CPU, whatever the caller's default device is.
        own = self._buffers.get("posterior_mean")
        branches = trees.branches_of(self.tree, trees.CPU if own is None else own.device)
        intercepts = branches.left.sum(-1).log() - branches.right.sum(-1).log()
        mean = torch.cat([intercepts.unsqueeze(-1), intercepts.new_zeros(len(intercepts), self.n_features)], dim=-1)
        precision = torch.full_like(mean, 0.5 / self.prior_scale**2).diag_embed()
        return NormalCoefficients(mean, precision)

    @property
    def covariance(self) -> Float[Tensor, "V E E"]:
        """Posterior covariance of the coefficients of every node [K − 1, 1 + D, 1 + D]."""
        return self.posterior.covariance

    def _expectations(self, rows: DesignRows, posterior: NormalCoefficients) -> tuple[Tensor, LogisticNormal]:
        """Return the means of the nodes' log odds [..., V, N], and what the quadrature finds of them."""
        means = rows.means(posterior.mean)
        return means, logistic_normal(means, rows.variances(posterior.covariance))

    def expected_log(self, rows: DesignRows, posterior: NormalCoefficients) -> Float[Tensor, "*R K N"]:
        """Return E_q[log π], by log σ(η) = η − softplus(η) and log σ(−η) = −softplus(η).

        Args:
            rows: of the design [1, x].
            posterior: q, with any leading axes of runs.
        """
        means, found = self._expectations(rows, posterior)
        return trees.leaf_log_weights(means - found.log_normaliser, -found.log_normaliser, self._branches(means.device))

    def expansion(
        self, rows: DesignRows, responsibilities: Float[Tensor, "*R K N"], posterior: NormalCoefficients
    ) -> NaturalSums:
        """Return H = Σ b d uu' and Σ (ℓ − b p) u + Hm for every node, by the derivatives of the quadrature.

        ℓ is a row's responsibility of the leaves on the left, b that of all leaves under the node, p = E σ(η), and d is
        E σ'(η).

        Args:
            rows: of the design [1, x].
            responsibilities: float64.
            posterior: q, with any leading axes of runs.
        """
        _, found = self._expectations(rows, posterior)
        branches = self._branches(responsibilities.device)
        left = branches.left @ responsibilities
        under = left + branches.right @ responsibilities
        gradient = (left - under * found.probability) @ rows.columns.mT
        precision = rows.grams(under * found.curvature)
        return NaturalSums(gradient + (precision @ posterior.mean.unsqueeze(-1)).squeeze(-1), precision)

    def weights_of_rows(self, rows: DesignRows, posterior: NormalCoefficients) -> Float[Tensor, "K N"]:
        """Return E_q[π], the product of E σ(±η) along the path, for nodes are independent under q.

        Args:
            rows: of the design [1, x].
            posterior: q.
        """
        _, found = self._expectations(rows, posterior)
        # Not the logarithm of zero, which times zero is no number.
        least = torch.finfo(torch.float64).tiny
        left, right = (p.clamp_min(least).log() for p in (found.probability, 1.0 - found.probability))
        return trees.leaf_log_weights(left, right, self._branches(left.device)).exp()

    def log_weights_at(self, x: Inputs, coefficients: Float[Tensor, "*S V E"]) -> Float[Tensor, "*S N K"]:
        """Return log π of given coefficients, float64.

        Args:
            x: gate inputs [N, D].
            coefficients: of the nodes, one draw or several.
        """
        predictors = coefficients.double() @ self.design(x).mT
        found = trees.leaf_log_weights(logsigmoid(predictors), logsigmoid(-predictors), self._branches(x.device))
        return found.mT

    def weights_distribution(self, posterior: NormalCoefficients, dtype: torch.dtype) -> TorchDistributionMixin:
        """Return the distribution of the coefficients, event shape [K − 1, 1 + D].

        Args:
            posterior: a prior or posterior, without leading axes of runs.
            dtype: of its draws.
        """
        if self.n_components == 1:  # A distribution of nothing is refused.
            return Normal(posterior.mean.to(dtype), 1.0).to_event(2)
        root = cholesky(posterior.covariance)
        return multivariate_normal(posterior.mean.to(dtype), scale_tril=root.to(dtype)).to_event(1)

    def _branches(self, device: torch.device) -> Branches:
        """Return which leaves are under the branches of every node."""
        return trees.branches_of(self.tree, device)

    def prior_in_words(self) -> str:
        """Return the prior of the coefficients in a few words."""
        return f"Normal(m₀, 2 · {self.prior_scale:.6g}²) on each coefficient, m₀ of equal weights"

    def coefficient_names(self, feature_names: Sequence[str]) -> list[str]:
        """Return names such as ``components 0, 1 against 2, intercept``: log odds of left against right at a node.

        Args:
            feature_names: names of the columns of x.
        """
        columns = ["intercept", *feature_names[: self.n_features]]
        return [f"{node}, {column}" for node in trees.node_names(self.tree) for column in columns]

    def relabelled(self, coefficients: Float[Tensor, "*S V E"], order: Sequence[int]) -> Float[Tensor, "*S V E"]:
        """Return the coefficients that give component k the weight that component ``order[k]`` has.

        Args:
            coefficients: of the nodes, one draw or several.
            order: a permutation of the components that maps the tree onto itself, left and right apart.

        Raises:
            ValueError: if it does not.
        """
        found = tree_automorphisms.automorphism(self.tree, order)
        signs = torch.tensor(found.signs, dtype=coefficients.dtype, device=coefficients.device)
        return coefficients[..., list(found.nodes), :] * signs.unsqueeze(-1)

"""The weights of a gate sampled from their exact posterior given responsibilities."""

from pyro.distributions import Dirichlet
from pyro.infer.reparam import ConjugateReparam
from pyro.infer.reparam.reparam import Reparam

from mixpyro import arguments
from mixpyro.part import Part
from mixpyro.shapes import Inputs, Responsibilities


class GateReparameterisation(Part):
    """What ``poutine.reparam`` needs of a gate with latent weights. A subclass gives :meth:`evidence`."""

    # Name of the site of the latent weights, without the prefix; None where there is no such site.
    weights_site: str | None = None

    def reparam(
        self, x: Inputs, responsibilities: Responsibilities, *, n_objects: int | None = None
    ) -> dict[str, Reparam]:
        """Return what ``poutine.reparam`` needs to sample the weights from their exact posterior given q(z).

        The reparameterised model samples the weights from their prior times the evidence of the responsibilities. Its
        guide is :meth:`assignment_guide` with the same responsibilities, in place of :meth:`guide`. One evaluation of
        TraceEnum_ELBO is then the bound at the best q(π), whatever weights it samples, with exact gradients for the
        parameters of the gate's prior.

        Args:
            x: gate inputs [N, D], or [B, D] of a subsample.
            responsibilities: q(z) [N, K], rows that sum to one.
            n_objects: N, where x is a subsample.

        Raises:
            ValueError: if a shape does not fit, or a value is negative or not finite.

        Example:
            >>> import pyro
            >>> import torch
            >>> from pyro import poutine
            >>> from mixpyro import DirichletGate
            >>> gate, x, r = DirichletGate(2), torch.zeros(3, 0), torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.5, 0.5]])
            >>> plate = pyro.plate("objects", 3, dim=-1)
            >>> model = poutine.reparam(lambda: gate.model(x, plate=plate), gate.reparam(x, r))
            >>> elbo = pyro.infer.TraceEnum_ELBO(max_plate_nesting=1)
            >>> [round(elbo.loss(model, lambda: gate.assignment_guide(x, r, plate=plate)), 3) for _ in range(2)]
            [1.405, 1.405]
        """
        checked = arguments.responsibilities(responsibilities, self.n_components, len(x))
        n_objects = len(x) if n_objects is None else arguments.integer("n_objects", n_objects, least=len(x))
        evidence = self.evidence(x, checked, scale=n_objects / len(x))
        return {} if evidence is None else {self.site(str(self.weights_site)): ConjugateReparam(evidence)}

    def evidence(self, x: Inputs, responsibilities: Responsibilities, *, scale: float) -> Dirichlet | None:
        """Return the likelihood of the weights given responsibilities, as a density; None without latent weights.

        Args:
            x: gate inputs [B, D].
            responsibilities: [B, K].
            scale: how many objects each row stands for.
        """
        return None

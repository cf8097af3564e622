"""Whether the tensors of a state have values that a model can have."""

import torch
from torch import Tensor, nn

from mixpyro.part import Part

# Words that the names of tensors end with: those of numbers above zero, and of matrices that are positive definite.
POSITIVE = (
    "column_precision",
    "concentration",
    "shape",
    "rate",
    "degrees",
    "mean_precision",
    "own",
    "rest",
    "column_start",
)
MATRICES = ("precision", "scale")
# Rounding errors that a matrix may have gathered in a fit, in units of its largest diagonal entry and of √eps.
ROUNDING = 10.0


def check(part: nn.Module) -> None:
    """Raise if a tensor of a gate or experts has values that the part cannot have.

    Those of networks may have any, and so may what a user's own class has beside posteriors and priors.

    Args:
        part: a mixture, a gate or experts.

    Raises:
        ValueError: if a number is not finite, a concentration or a rate is not above zero, or a precision or a
            covariance is not positive definite.
    """
    for path, module in part.named_modules():
        if isinstance(module, Part):
            own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
            # What the names of other tensors mean is known of classes of this library alone.
            known = "" if type(module).__module__.startswith("mixpyro.") else ("posterior_", "prior_")
            for name, tensor in own:
                if name.startswith(known) and isinstance(tensor, Tensor) and tensor.is_floating_point():
                    _check(f"{path}.{name}".lstrip("."), tensor.detach())
            _check_rates(module)


def _check(name: str, tensor: Tensor) -> None:
    """Raise if a tensor has values that those of its name cannot have."""
    word = name.rpartition(".")[2].removeprefix("posterior_").removeprefix("prior_").removeprefix("centred_")
    if not tensor.numel():
        return
    least, largest = tensor.aminmax()
    if not bool(least.isfinite() & largest.isfinite()):
        raise ValueError(f"`{name}` must be finite")
    if word == "rank" and not bool(
        (tensor.sort(-1).values == torch.arange(tensor.shape[-1], device=tensor.device).to(tensor)).all()
    ):
        raise ValueError(f"`{name}` must have each number from 0 to {tensor.shape[-1] - 1} once")
    is_matrix = word in MATRICES and tensor.ndim >= 2 and tensor.shape[-1] == tensor.shape[-2]
    if not is_matrix and word in (*POSITIVE, "scale") and float(least) <= 0.0:
        raise ValueError(f"`{name}` must be above zero; got {float(least)}")
    # Variances of as many components as columns look like a matrix.
    may_be_variances = word == "scale" and float(least) > 0.0
    if is_matrix and not may_be_variances and not _is_positive_definite(tensor):
        raise ValueError(f"`{name}` must be positive definite")


def _is_positive_definite(matrices: Tensor) -> bool:
    """Return whether matrices are symmetric and have no eigenvalue below zero by more than rounding."""
    size, double = matrices.shape[-1], matrices.double()
    largest = double.diagonal(dim1=-2, dim2=-1).amax(-1)[..., None, None]
    allowed = ROUNDING * torch.finfo(matrices.dtype).eps ** 0.5 * largest
    if not bool(((double - double.mT).abs() <= allowed).all()):
        return False
    identity = torch.eye(size, dtype=torch.float64, device=matrices.device)
    return not bool(torch.linalg.cholesky_ex(double + allowed * identity).info.any())


def _check_rates(part: Part) -> None:
    """Raise if the rates of a prior, one or one for each output, are not as many as those of the posterior."""
    prior, posterior = (part._buffers.get(f"{name}_rate") for name in ("prior", "posterior"))
    if prior is not None and posterior is not None and prior.numel() > 1 and prior.shape != posterior.shape[1:]:
        raise ValueError(f"`prior_rate` must have shape {list(posterior.shape[1:])}; got {list(prior.shape)}")

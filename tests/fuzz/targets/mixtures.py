"""Methods of a mixture."""

import random
from typing import Any

import torch
from torch import Tensor

from mixpyro import MixtureOfExperts
from tests.fuzz.call import Call
from tests.fuzz.made import problem
from tests.fuzz.right_values import assigned, finite, near, numbers, rows_of_one
from tests.fuzz.targets.fitted import Fitted, K, fitted, rows_of


def _mixture(rng: random.Random) -> Fitted:
    """Return a fit; one in four is of a mixture that has seen no data, of any size."""
    if rng.random() < 0.75:
        return fitted(rng)
    made = problem(rng)
    groups = [number // 2 for number in range(len(made.x))] if made.kinds[1] == "random effects" else None
    return Fitted(_Unfitted(made.mixture), made.x, made.y, groups, made.kinds)  # type: ignore[arg-type]


class _Unfitted:
    """A mixture in the place of a result."""

    def __init__(self, mixture: MixtureOfExperts) -> None:
        self.mixture = mixture


def _rows(made: Fitted, rng: random.Random, *, y: bool = True) -> dict[str, Any]:
    """Return rows by name, in either dtype."""
    found = rows_of(made, rng, y=y, n=len(made.x) if made.groups else None)
    if rng.random() < 0.2:
        return {name: value.float() if isinstance(value, Tensor) else value for name, value in found.items()}
    return found


def _call(method: str, made: Fitted, given: dict[str, Any], **options: Any) -> Call:
    """Return a call of a method of a mixture."""
    mixture = made.result.mixture
    return Call(f"MixtureOfExperts.{method}", getattr(mixture, method), given, owner=mixture, **options)


def _is_plain(given: dict[str, Any]) -> bool:
    """Return whether the rows are two tensors of a usual size, so that other ways to the same numbers can be gone."""
    tensors = [given.get("x"), given.get("y")]
    plain = all(type(t) is Tensor and t.layout == torch.strided and not t.requires_grad for t in tensors)
    plain &= all(t.is_floating_point() for t in tensors if isinstance(t, Tensor))
    return plain and set(given) == {"x", "y"} and all(not t.numel() or float(t.abs().max()) < 1e6 for t in tensors)  # type: ignore[union-attr]


def assign(rng: random.Random) -> Call:
    """Assignments, which are those of the rows in another order and in float32."""
    made = _mixture(rng)
    mixture = made.result.mixture

    def check(result: Any, given: dict[str, Any]) -> list[str]:
        found = assigned(result)
        if _is_plain(given) and len(given["x"]) > 1:
            x, y = given["x"].flip(0), given["y"].flip(0)
            tolerance = 1e-4 if x.dtype == torch.float32 else 1e-9
            other = mixture.assign(x, y)
            found += near("evidence in another order", other.log_evidence.flip(0), result.log_evidence, tolerance)
        return found

    return _call("assign", made, _rows(made, rng), check=check)


def bound(rng: random.Random) -> Call:
    """The bound, which is that of the parts."""
    made = _mixture(rng)
    mixture = made.result.mixture

    def check(result: Any, given: dict[str, Any]) -> list[str]:
        found = finite("bound", result) if result.ndim == 0 else ["the bound is no scalar"]
        if _is_plain(given) and given["x"].dtype == torch.float64:
            joint = mixture.expected_log_joint(given["x"], given["y"]).double()
            expected = joint.logsumexp(-1).sum() - mixture.gate.kl_divergence() - mixture.experts.kl_divergence()
            found += near("bound", result, expected, 1e-9)
        return found

    return _call("bound", made, _rows(made, rng), check=check)


def expected_log_joint(rng: random.Random) -> Call:
    """Expected log joint densities."""
    made = _mixture(rng)
    return _call("expected_log_joint", made, _rows(made, rng), check=lambda r, _: numbers("log joint", r))


def log_prob(rng: random.Random) -> Call:
    """Log densities."""
    made = _mixture(rng)
    method = rng.choice(["log_prob", "log_joint_predictive"])
    return _call(method, made, _rows(made, rng), check=lambda r, _: numbers("log density", r))


def predict(rng: random.Random) -> Call:
    """Means, perhaps with responsibilities of the user's."""
    made = _mixture(rng)
    given = _rows(made, rng, y=False)
    if rng.random() < 0.3:
        k = made.result.mixture.n_components
        given["responsibilities"] = torch.full((len(given["x"]), k), 1.0 / k, dtype=given["x"].dtype)

    def check(result: Any, given: dict[str, Any]) -> list[str]:
        x = given["x"]
        found = numbers("prediction", result)
        is_plain = isinstance(x, Tensor) and x.is_floating_point()  # tables of integers have predictions of float64
        if is_plain and isinstance(result, Tensor) and (len(result) != len(x) or result.dtype != x.dtype):
            found.append(f"prediction of {list(result.shape)} and {result.dtype} for {list(x.shape)} and {x.dtype}")
        return found

    return _call("predict", made, given, check=check)


def predictive(rng: random.Random) -> Call:
    """The predictive distribution."""
    made = _mixture(rng)

    def check(result: Any, given: dict[str, Any]) -> list[str]:
        return rows_of_one("mixing weights", result.mixture_distribution.probs)

    return _call("predictive", made, _rows(made, rng, y=False), check=check)


def log_prob_of_predictive(rng: random.Random) -> Call:
    """Log densities under the predictive distribution of a mixture or of its experts."""
    made = _mixture(rng)
    mixture, of_experts = made.result.mixture, rng.random() < 0.5
    y = made.y.reshape(len(made.y), -1)
    distribution = mixture.experts.predictive(made.x) if of_experts else mixture.predictive(made.x)
    given = {"value": y.unsqueeze(1) if of_experts else y}

    def check(result: Any, given: dict[str, Any]) -> list[str]:
        wanted = torch.Size([len(made.x), mixture.n_components] if of_experts else [len(made.x)])
        found = [] if result.shape[-len(wanted) :] == wanted else [f"densities of {list(result.shape)}"]
        is_finite = bool(given["value"].double().isfinite().all())
        return found + (numbers("log density", result) if is_finite else [])

    name = type(distribution).__name__
    return Call(f"{name}.log_prob", distribution.log_prob, given, owner=mixture, check=check)


def sample_of_predictive(rng: random.Random) -> Call:
    """Draws of the predictive distribution of a mixture or of its experts."""
    made = _mixture(rng)
    of = made.result.mixture.experts if rng.random() < 0.5 else made.result.mixture
    distribution = of.predictive(made.x)

    def check(result: Any, given: dict[str, Any]) -> list[str]:
        if not isinstance(given["sample_shape"], list | tuple):  # as a generator, which has ended
            return []
        shape = torch.Size(given["sample_shape"]) + distribution.batch_shape + distribution.event_shape
        return [] if result.shape == shape else [f"draws of {list(result.shape)} for {list(shape)}"]

    given = {"sample_shape": rng.choice([(), (3,), (2, 3), [2]])}
    name = type(distribution).__name__
    return Call(f"{name}.sample", distribution.sample, given, owner=made.result.mixture, draws=True, check=check)


def quantile(rng: random.Random) -> Call:
    """Quantiles of outputs."""
    made = fitted(rng, banks=("linear", "glm", "student", "poisson", "binomial", "inflated", "random effects"))
    given = _rows(made, rng, y=False)
    given["probabilities"] = rng.choice([torch.tensor([0.1, 0.5, 0.9], dtype=given["x"].dtype), [0.5], 0.5])

    def check(result: Any, given: dict[str, Any]) -> list[str]:
        return numbers("quantile", result)

    return _call("quantile", made, given, check=check)


def kl_divergence(rng: random.Random) -> Call:
    """The divergence of gate and experts."""
    made = _mixture(rng)
    return _call("kl_divergence", made, {}, check=lambda r, _: finite("divergence", r))


def model(rng: random.Random) -> Call:
    """The Pyro model and guide."""
    made = _mixture(rng)
    return _call(rng.choice(["model", "guide"]), made, rows_of(made, rng, n=len(made.x)), draws=True, registers=True)


def hold(rng: random.Random) -> Call:
    """The state of a mixture, taken over again."""
    made = fitted(rng)
    return _call("hold", made, {"state": made.result.mixture.state()}, changes=True)


MAKERS = {
    "MixtureOfExperts.assign": assign,
    "MixtureOfExperts.bound": bound,
    "MixtureOfExperts.expected_log_joint": expected_log_joint,
    "MixtureOfExperts.log_prob": log_prob,
    "MixtureOfExperts.predict": predict,
    "MixtureOfExperts.predictive": predictive,
    "MixtureOfExperts.predictive, log_prob": log_prob_of_predictive,
    "MixtureOfExperts.predictive, sample": sample_of_predictive,
    "MixtureOfExperts.quantile": quantile,
    "MixtureOfExperts.kl_divergence": kl_divergence,
    "MixtureOfExperts.model": model,
    "MixtureOfExperts.hold": hold,
}
assert K

"""Models saved in files, by this version and by earlier ones."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from pyro.distributions import Exponential, Gamma, HalfNormal, InverseGamma, LogNormal
from torch import nn

from mixpyro import (
    BayesianSoftmaxGate,
    DirichletGate,
    GaussianExperts,
    GLMExperts,
    HeterogeneousExperts,
    HeterogeneousOutputs,
    LinearExperts,
    MarginalObjectDirichletGate,
    MixtureOfExperts,
    NeuralExperts,
    NeuralGate,
    ObjectDirichletGate,
    PointMassExperts,
    RandomEffectsExperts,
    RelevanceLinearExperts,
    SharedLinearExperts,
    SoftmaxGate,
    StickBreakingGate,
    TreeGate,
    experts,
    fit,
    gates,
    load,
    save,
)
from mixpyro.conjugate_part import ConjugatePart
from mixpyro.experts import Experts
from mixpyro.experts.families import (
    Binomial,
    Categorical,
    CensoredGaussian,
    Gaussian,
    Multinomial,
    NegativeBinomial,
    Poisson,
    StudentT,
    ZeroTruncatedPoisson,
)
from mixpyro.gates import Gate
from mixpyro.saving import atomic_file
from tests.conftest import DATA
from tests.problems import lines

# Few rows in small components: that is not what these tests ask.
pytestmark = pytest.mark.filterwarnings("ignore:the noise of component")

K = 2


def network() -> nn.Module:
    """Return a small network of one input and K outputs."""
    return nn.Sequential(nn.Linear(1, 3), nn.Tanh(), nn.Linear(3, K)).double()


MIXTURES: dict[str, Callable[[], MixtureOfExperts]] = {
    "dirichlet": lambda: MixtureOfExperts(
        DirichletGate(K, concentration=[1.0, 2.0]),
        LinearExperts(K, 1, coefficient_precision=[1.0, 2.0], noise_rate=0.5),
    ),
    "learnt concentration": lambda: MixtureOfExperts(
        DirichletGate(K, concentration_prior=Gamma(2.0, 1.0)), LinearExperts(K, 1, intercept=False), name="mine"
    ),
    "object": lambda: MixtureOfExperts(
        ObjectDirichletGate(K, concentration=3.0, mean=[1.0, 2.0], learn_mean=True), LinearExperts(K, 1)
    ),
    "marginal": lambda: MixtureOfExperts(MarginalObjectDirichletGate(K, learn_mean=True), LinearExperts(K, 1)),
    "sticks": lambda: MixtureOfExperts(
        StickBreakingGate(K, concentration=Gamma(2.0, 1.0)), LinearExperts(K, 1), name="mine"
    ),
    "bayesian softmax": lambda: MixtureOfExperts(
        BayesianSoftmaxGate(K, 1, prior_scale=3.0, symmetric_prior=False, quadrature=True), LinearExperts(K, 1)
    ),
    "relevance of columns": lambda: MixtureOfExperts(BayesianSoftmaxGate(K, 1, relevance=True), LinearExperts(K, 1)),
    "neural": lambda: MixtureOfExperts(NeuralGate(K, network(), prior_scale=2.0), LinearExperts(K, 1)),
    "softmax": lambda: MixtureOfExperts(
        SoftmaxGate(K, 1, prior_scale=3.0), GLMExperts(K, 1, Gaussian(), prior_scale=9.0)
    ),
}


def fitted(name: str) -> MixtureOfExperts:
    """Return a mixture fitted to 30 rows."""
    x, y, _ = lines(30, K)
    return fit(MIXTURES[name](), x, y, n_restarts=1, max_iterations=3).mixture


@pytest.mark.filterwarnings("ignore:the best run has not converged", "ignore:every run")
@pytest.mark.parametrize("name", MIXTURES)
def test_a_loaded_mixture_equals_the_saved_one(name: str, tmp_path: Path) -> None:
    x, y, _ = lines(30, K)
    mixture = fitted(name)
    save(mixture, tmp_path / "file")
    loaded = load(tmp_path / "file", networks={"gate.network": network()})
    assert repr(loaded) == repr(mixture)
    assert loaded.experts.site("y") == mixture.experts.site("y")
    assert torch.equal(loaded.bound(x, y), mixture.bound(x, y))
    assert torch.equal(loaded.predict(x), mixture.predict(x))
    again = [fit(one, x, y, n_restarts=1, max_iterations=3).trace for one in (loaded, mixture)]
    assert again[0] == again[1]


@pytest.mark.filterwarnings("ignore:the best run has not converged")
@pytest.mark.parametrize("name", ["dirichlet", "object"])
def test_load_converts_the_dtype(name: str, tmp_path: Path) -> None:
    x, y, _ = lines(30, K)
    mixture = fitted(name)
    save(mixture, tmp_path / "file")
    loaded = load(tmp_path / "file", dtype=torch.float32)
    assert {value.dtype for value in loaded.state_dict().values() if value.is_floating_point()} == {torch.float32}
    torch.testing.assert_close(loaded.predict(x.float()), mixture.predict(x).float())
    save(loaded, tmp_path / "file")
    again = load(tmp_path / "file").state_dict()
    assert {value.dtype for value in again.values() if value.is_floating_point()} == {torch.float32}


SAVED_BEFORE: dict[str, dict[str, Any]] = json.loads((DATA / "saved_models" / "expected.json").read_text())


@pytest.mark.parametrize("name", SAVED_BEFORE)
def test_files_of_the_version_before_are_loaded(name: str) -> None:
    """The files were written by the commit that ``tests/data/README.md`` names."""
    networks = {"gate.network": nn.Linear(1, 2).double()} if name == "neural_glm" else None
    mixture = load(DATA / "saved_models" / f"{name}.model", networks=networks)
    before = {key: torch.tensor(value, dtype=torch.float64) for key, value in SAVED_BEFORE[name].items()}
    x, y = before["x"], before["y"]
    close = functools.partial(torch.testing.assert_close, rtol=1e-10, atol=1e-10)
    with torch.no_grad():
        close(mixture.predict(x), before["predict"])
        close(mixture.log_prob(x, y), before["log_prob"])
        close(mixture.assign(x, y, objects=slice(None)).responsibilities, before["responsibilities"])
        close(mixture.kl_divergence(), before["kl_divergence"])


@pytest.mark.cuda
@pytest.mark.filterwarnings("ignore:the best run has not converged")
def test_load_moves_the_model_to_the_device(tmp_path: Path) -> None:
    x, y, _ = lines(30, K)
    mixture = fitted("dirichlet")
    save(mixture.cuda(), tmp_path / "file")
    assert {value.device.type for value in load(tmp_path / "file").state_dict().values()} == {"cpu"}
    loaded = load(tmp_path / "file", device="cuda")
    torch.testing.assert_close(loaded.predict(x.cuda()), mixture.predict(x.cuda()))


PARTS: dict[str, Callable[[], Gate | Experts]] = {
    **{
        type(f).__name__: functools.partial(GLMExperts, K, 1, f)
        for f in (Gaussian(), Poisson(), NegativeBinomial(), Binomial(), Categorical(3), StudentT())
    },
    "multinomial": lambda: GLMExperts(K, 1, Multinomial(3), exposure=True),
    "censored": lambda: GLMExperts(K, 1, CensoredGaussian()),
    "hurdle": lambda: HeterogeneousExperts([PointMassExperts(1), GLMExperts(1, 1, ZeroTruncatedPoisson())]),
    "exposure": lambda: GLMExperts(K, 1, Poisson(), exposure=True),
    "constant gate": lambda: SoftmaxGate(K, 0),
    "tree": lambda: TreeGate(((2, 0), 1), 0, prior_scale=3.0),
    "tree of one leaf": lambda: TreeGate(1, 0),
    "sticks": lambda: StickBreakingGate(K, concentration=Gamma(2.0, 1.0)),
    "Pitman–Yor": lambda: StickBreakingGate(K, concentration=0.3, discount=0.5),
    "shared noise": lambda: LinearExperts(K, 1, 2, noise_per_component=False, noise_per_output=False),
    "relevance": lambda: RelevanceLinearExperts(K, 1, 2, noise_per_output=False),
    "random effects": lambda: RandomEffectsExperts(K, 1, [0, "intercept"], effect_scale=[1.0, 2.0]),
    "full": lambda: GaussianExperts(K, 2),
    "tied": lambda: GaussianExperts(K, 2, covariance="tied", scale=[1.0, 2.0]),
    "shared slope": lambda: SharedLinearExperts(K, 1, 2, shared=[0], noise_per_output=False),
    "shared, no intercept": lambda: SharedLinearExperts(K, 1, shared=[0], coefficient_mean=[1.0, 2.0]),
    "GLM with a shared slope": lambda: GLMExperts(K, 1, Gaussian(), shared=["scale", 0]),
    "GLM shared within sets": lambda: GLMExperts(3, 1, Poisson(), shared=["intercept"], shared_within=[[0, 2], [1]]),
    "spherical": lambda: GaussianExperts(K, 2, covariance="spherical", mean=[1.0, 2.0]),
    "diagonal": lambda: GaussianExperts(K, K, covariance="diagonal"),
    "point mass": lambda: PointMassExperts(K, [3.0, 4.0]),
    "neural": lambda: NeuralExperts(K, 1, [nn.Linear(1, 2).double() for _ in range(K)], Gaussian(), n_outputs=2),
    "heterogeneous": lambda: HeterogeneousExperts([PointMassExperts(1), GLMExperts(1, 1, Poisson(), prior_scale=2.0)]),
    "outputs": lambda: HeterogeneousOutputs([GLMExperts(K, 1, Poisson()), LinearExperts(K, 1)]),
}


@pytest.mark.parametrize("name", PARTS)
def test_a_gate_or_experts_alone_are_saved_and_loaded(name: str, tmp_path: Path) -> None:
    part = PARTS[name]()
    if isinstance(part, Experts):
        x = torch.rand(20, 2 if getattr(part, "exposure", False) else 1).double()
        y = torch.arange(20).double().remainder(3).unsqueeze(1).expand(-1, part.n_outputs)
        y = y.remainder(2) if name == "Binomial" else y
        if name == "multinomial":
            y = y + 1.0
            x = torch.cat([x[:, :1], y.sum(1, keepdim=True)], 1)
        part.centre(x, y)
        if isinstance(part, ConjugatePart):
            part.update(part.statistics(x, y, torch.rand(20, K).double()))
    save(part, tmp_path / "file")
    networks = [nn.Linear(1, 2).double() for _ in range(K)]
    loaded = load(tmp_path / "file", networks={"network": networks})
    assert type(loaded) is type(part)
    assert loaded.state_dict().keys() == part.state_dict().keys()
    if isinstance(part, Experts):
        assert torch.equal(loaded.expected_log_likelihood(x, y), part.expected_log_likelihood(x, y))
    else:
        x = torch.rand(5, 0).double()
        assert torch.equal(loaded.weights(x), part.weights(x))


@pytest.mark.parametrize("package", [experts, gates])
def test_every_gate_and_every_family_of_experts_is_tested_here(package: ModuleType) -> None:
    tried = {type(make()) for make in PARTS.values()}
    tried |= {type(part) for make in MIXTURES.values() for part in (make().gate, make().experts)}
    missing = {getattr(package, name) for name in package.__all__} - tried - {Gate, Experts}
    assert not missing, f"add {missing} to PARTS"


class Forgetful(DirichletGate):
    """A gate that does not keep an argument of its constructor."""

    def __init__(self, n_components: int, temperature: float) -> None:
        super().__init__(n_components)


def test_an_argument_that_is_no_attribute_is_refused_when_saved(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="`Forgetful` must keep its argument `temperature` as an attribute to be saved"):
        save(Forgetful(3, 2.0), tmp_path / "file")
    assert not (tmp_path / "file").exists()


class CustomGate(DirichletGate):
    """A subclass that a user wrote."""


def test_a_custom_class_must_be_named(tmp_path: Path) -> None:
    save(CustomGate(3), tmp_path / "file")
    with pytest.raises(ValueError, match="`kinds` must have the class 'CustomGate' of the file"):
        load(tmp_path / "file")
    assert type(load(tmp_path / "file", kinds=[CustomGate])) is CustomGate


class MaskedGate(DirichletGate):
    """A gate of a user's own with tensors whose names mean something else here."""

    def __init__(self, n_components: int) -> None:
        super().__init__(n_components)
        self.register_buffer("scale", torch.tensor([-1.0, -torch.inf]))
        self.register_buffer("rank", torch.tensor([0.5]))


def test_a_custom_class_may_have_any_values(tmp_path: Path) -> None:
    gate = MaskedGate(3)
    save(gate, tmp_path / "file")
    assert torch.equal(load(tmp_path / "file", kinds=[MaskedGate]).scale, gate.scale)
    gate._buffers["posterior_concentration"].fill_(-1.0)  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="`part` must have values that a model can have"):
        save(gate, tmp_path / "file")


@pytest.mark.usefixtures("bad_arguments")
def test_bad_arguments_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    save(NeuralGate(K, network()), path)
    with pytest.raises(ValueError, match=r"`networks` must have 'network', which the file does not hold; got \[\]"):
        load(path)
    with pytest.raises(ValueError, match=r"`networks` must be those that the model was saved with"):
        load(path, networks={"network": nn.Linear(1, K)})
    with pytest.raises(TypeError, match="`part` must be a gate or experts or a mixture; got Linear"):
        save(nn.Linear(1, 1), path)  # type: ignore[arg-type]
    gate = SoftmaxGate(K, 1)
    gate.prior_scale = object()  # type: ignore[assignment]
    with pytest.raises(TypeError, match="`prior_scale` must be a number, a string, a distribution or a module"):
        save(gate, path)
    assert isinstance(load(path, networks={"network": network()}), NeuralGate)


def test_frozen_parameters_stay_frozen(tmp_path: Path) -> None:
    part = GLMExperts(K, 1, Gaussian())
    part.log_scale.requires_grad_(False)
    save(part, tmp_path / "file")
    loaded = load(tmp_path / "file")
    assert not loaded.log_scale.requires_grad
    assert loaded.coefficients_estimate.requires_grad
    x, y, _ = lines(30, K)
    loaded.maximise(x, y, torch.ones(30, K).double() / K)
    assert torch.equal(loaded.log_scale, part.log_scale)
    loaded.coefficients_estimate.requires_grad_(False)
    before = loaded.coefficients.clone()
    loaded.maximise(x, y, torch.ones(30, K).double())
    assert torch.equal(loaded.coefficients, before)


@pytest.mark.parametrize("prior", [LogNormal(0.0, 1.0), HalfNormal(2.0), InverseGamma(3.0, 1.0), Exponential(0.5)])
def test_priors_of_other_families_are_restored(prior: torch.distributions.Distribution, tmp_path: Path) -> None:
    save(DirichletGate(K, concentration_prior=prior), tmp_path / "file")
    loaded = load(tmp_path / "file").concentration_prior
    values = torch.tensor([0.3, 2.0]).double()
    torch.testing.assert_close(loaded.log_prob(values), prior.log_prob(values))


@pytest.mark.parametrize(
    "model",
    [3, None, {}, {"kind": "Gate", "arguments": {}}, {"kind": []}, {"distribution": "none", "arguments": {}}],
)
def test_a_file_with_other_contents_is_refused(model: object, tmp_path: Path) -> None:
    atomic_file.write(tmp_path / "file", {"model": model, "state": {}, "frozen": []}, kind="model", version=1)
    with pytest.raises(ValueError, match=r"`(path|kinds)` must"):
        load(tmp_path / "file")

"""Several mixtures and gates in one Pyro program, by their names, and compiled ELBOs of them."""

import functools
from collections.abc import Callable

import pyro
import pytest
import torch
from pyro import poutine
from pyro.distributions import Normal
from pyro.infer import MCMC, NUTS, SVI, JitTraceEnum_ELBO, Predictive, TraceEnum_ELBO
from pyro.nn import PyroModule
from pyro.optim import ClippedAdam
from torch import Tensor

from mixpyro import expected_weights
from mixpyro.gates import Gate
from mixpyro.mixture import MixtureOfExperts
from tests.problems import in_plate, inputs, responsibilities
from tests.products import GATES, PAIRS, data, fitted, mixture

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


def elbo(model: Callable[[], object], guide: Callable[[], object]) -> float:
    """The bound of a program by one evaluation of Pyro's ELBO."""
    return -float(TraceEnum_ELBO(max_plate_nesting=1).loss(model, guide))


def brought_up_to_date(model: MixtureOfExperts, x: Tensor, y: Tensor) -> None:
    """Update both parts, so that the ELBO has no noise."""
    for part, rows in ((model.gate, (x,)), (model.experts, (x, y))):
        if hasattr(part, "update"):
            part.update(part.statistics(*rows, model.assign(x, y).responsibilities))


@pytest.mark.parametrize(
    ("gate", "experts"), [("dirichlet", "linear"), ("softmax, prior", "glm"), ("neural", "poisson")]
)
def test_the_elbo_of_three_mixtures_is_the_sum_of_their_bounds(gate: str, experts: str) -> None:
    """The third is an attribute of a PyroModule, which names its sites."""

    class Program(PyroModule):
        def __init__(self) -> None:
            super().__init__("outer")
            self.third = fitted(gate, experts)

    (x, y), program = data(experts), Program()
    models = [fitted(gate, experts, name="a"), fitted(gate, experts, name="b"), program.third]
    rows = [(x, y), (x[:30], y[:30]), (x[5:], y[5:])]
    alone = []
    for one, own in zip(models, rows, strict=True):
        alone.append(elbo(functools.partial(one.model, *own), functools.partial(one.guide, *own)))

    def model() -> None:
        for one, own in zip(models, rows, strict=True):
            one.model(*own)

    def guide() -> None:
        for one, own in zip(models, rows, strict=True):
            one.guide(*own)

    torch.manual_seed(0)
    together = elbo(model, guide)
    bounds = sum(float(one.bound(*own)) for one, own in zip(models, rows, strict=True))
    # The posteriors stand one update behind the responsibilities: draws of them leave a little noise.
    assert together == pytest.approx(bounds, abs=0.05 * abs(bounds) if gate == "dirichlet" else 1e-8)
    assert sum(alone) == pytest.approx(together, abs=0.05 * abs(bounds) if gate == "dirichlet" else 1e-8)
    plates = {name for name in poutine.trace(model).get_trace().nodes if name.endswith("objects")}
    assert plates == {"a.objects", "b.objects", "outer.third.objects"}


def test_a_mixture_without_a_name_has_the_plate_objects() -> None:
    trace = poutine.trace(mixture("dirichlet", "linear").model).get_trace(*data("linear"))
    assert "objects" in trace.nodes


def test_two_mixtures_are_sampled_by_nuts_and_predictive() -> None:
    (x, y), models = data("linear"), [mixture("dirichlet", "linear", name=name) for name in "ab"]

    def model() -> None:
        for one in models:
            one.model(x, y)

    torch.manual_seed(0)
    chain = MCMC(NUTS(model), num_samples=2, warmup_steps=2, disable_progbar=True)
    chain.run()
    draws = chain.get_samples()
    assert {"a.gate.weights", "b.gate.weights", "a.experts.coefficients", "b.experts.coefficients"} <= set(draws)
    predicted = Predictive(lambda: [one.model(x) for one in models], draws)()
    assert predicted["a.experts.y"].shape == predicted["b.experts.y"].shape == (2, len(x), 1)


@pytest.mark.parametrize("gate", GATES)
def test_two_gates_of_different_names_share_a_program(gate: str) -> None:
    gates, x, r = [GATES[gate](), GATES[gate]()], inputs(6), responsibilities(6, 2)

    class Program(PyroModule):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = gates

        def model(self) -> None:
            in_plate(self.first.model)(x), in_plate(self.second.model, "others")(x[:4])

        def guide(self) -> None:
            (
                in_plate(self.first.guide)(x, responsibilities=r),
                in_plate(self.second.guide, "others")(x[:4], responsibilities=r[:4]),
            )

    program = Program()
    with expected_weights(*gates):
        found = elbo(program.model, program.guide)
    expected = 0.0
    for one, rows, weights in ((gates[0], x, r), (gates[1], x[:4], r[:4])):
        found_of_one = (weights * (one.expected_log_weights(rows) - weights.log())).sum() - one.kl_divergence()
        expected += float(found_of_one.detach())
    assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("gate", "experts"), PAIRS)
def test_a_compiled_elbo_of_a_mixture_is_refused(gate: str, experts: str) -> None:
    (x, y), model = data(experts), mixture(gate, experts)
    loss = JitTraceEnum_ELBO(max_plate_nesting=1, ignore_jit_warnings=True)
    with pytest.raises(
        RuntimeError, match=r"`loss` must not be compiled .* Use TraceEnum_ELBO|trained by ConjugateSVI"
    ):
        loss.loss_and_grads(model.model, model.guide, x, y)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("gate", ["dirichlet", "object", "softmax", "softmax, prior", "neural"])
def test_a_compiled_step_is_refused_or_right(gate: str) -> None:
    """Where a gate has a posterior the program is refused; else the loss is that of the plain ELBO, step by step."""
    x, y = data("linear")

    def losses(kind: type[TraceEnum_ELBO], one: Gate) -> list[float]:
        def model(x: Tensor, y: Tensor) -> None:
            plate = pyro.plate("objects", len(x), dim=-1)
            z = one.model(x, plate=plate)
            with plate:
                pyro.sample("y", Normal(torch.tensor([-1.0, 1.0], dtype=x.dtype)[z], 1.0), obs=y)

        pyro.clear_param_store()
        svi = SVI(
            model,
            lambda x, y: in_plate(one.guide)(x),
            ClippedAdam({"lr": 0.1}),
            kind(max_plate_nesting=1, ignore_jit_warnings=True),
        )
        return [float(svi.step(x, y)) for _ in range(3)]

    if gate in ("dirichlet", "object"):
        with pytest.raises(RuntimeError, match=r"`loss` must not be compiled|trained by ConjugateSVI"):
            losses(JitTraceEnum_ELBO, GATES[gate]())
    else:
        assert losses(JitTraceEnum_ELBO, GATES[gate]()) == pytest.approx(losses(TraceEnum_ELBO, GATES[gate]()))

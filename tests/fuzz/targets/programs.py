"""Gates in Pyro programs of the user's."""

import random
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import TraceEnum_ELBO
from pyro.optim import ClippedAdam
from torch import Tensor

import mixpyro
from mixpyro import AutoGate, ConjugateSVI, diagnostics
from mixpyro.gates import Gate
from tests.fuzz.call import Call
from tests.fuzz.made import GATES
from tests.fuzz.targets.fitted import K

N, D = 12, 2


class Program:
    """A mixture of Normals with a gate."""

    def __init__(self, gate: Gate) -> None:
        self.gate = gate

    def __call__(self, x: Tensor, y: Tensor) -> None:
        """Score rows."""
        means = pyro.sample("means", dist.Normal(torch.zeros(K).double(), 5.0).to_event(1))
        plate = pyro.plate("objects", len(x), dim=-1)
        z = self.gate.model(x, plate=plate)
        with plate:
            pyro.sample("y", dist.Normal(means[z], 1.0), obs=y)


class Guide(Program):
    """A point estimate of the means."""

    def __call__(self, x: Tensor, y: Tensor) -> None:
        """Sample the means."""
        location = pyro.param("location", lambda: torch.tensor([-1.0, 1.0]).double())
        pyro.sample("means", dist.Delta(location).to_event(1))


def _rows(rng: random.Random) -> dict[str, Any]:
    """Return x and y of a program."""
    generator = torch.Generator().manual_seed(rng.randrange(10**6))
    return {
        "x": torch.randn(N, D, generator=generator, dtype=torch.float64),
        "y": torch.randn(N, generator=generator, dtype=torch.float64),
    }


def _svi(rng: random.Random) -> ConjugateSVI:
    """Return an SVI that has not begun."""
    pyro.clear_param_store()
    gate = GATES[rng.choice(["dirichlet", "dirichlet, learnt", "sticks", "object", "marginal", "softmax"])](
        K, D, torch.float64
    )
    program = Program(gate)
    return ConjugateSVI(program, Guide(gate), ClippedAdam({"lr": 0.01}), gates=gate)


def conjugate_svi(rng: random.Random) -> Call:
    """The constructor of the SVI."""
    gate = GATES["dirichlet"](K, D, torch.float64)
    given = {"model": Program(gate), "guide": Guide(gate), "optim": ClippedAdam({"lr": 0.01}), "loss": TraceEnum_ELBO()}
    return Call("ConjugateSVI", ConjugateSVI, {**given, "gates": gate, "step_size": 0.5, "collapsed": False})


def svi_step(rng: random.Random) -> Call:
    """A step of the SVI, and its loss."""
    svi = _svi(rng)
    name = rng.choice(["step", "step", "evaluate_loss", "responsibilities"])
    if name != "step":
        torch.manual_seed(0)
        svi.step(**_rows(rng))
    return Call(
        f"ConjugateSVI.{name}", getattr(svi, name), _rows(rng), owner=svi, changes=True, draws=True, registers=True
    )


def auto_gate(rng: random.Random) -> Call:
    """A guide of a gate's weights."""
    pyro.clear_param_store()
    gate = GATES[rng.choice(["dirichlet", "sticks", "object", "bayesian"])](K, D, torch.float64)
    model = Program(gate)
    if rng.random() < 0.4:
        return Call("AutoGate", AutoGate, {"model": model, "gate": gate, "create_plates": None})
    guide = AutoGate(model, gate)
    return Call("AutoGate.__call__", guide, _rows(rng), owner=gate, changes=True, draws=True, registers=True)


def expected_weights(rng: random.Random) -> Call:
    """The context in which weights are expected ones."""
    gate = GATES["dirichlet"](K, D, torch.float64)

    def entered(gate: Any) -> Any:
        with mixpyro.expected_weights(gate) as records:
            return records

    return Call("expected_weights", entered, {"gate": gate})


def program_to_arviz(rng: random.Random) -> Call:
    """Draws of a program as ArviZ data."""
    pyro.clear_param_store()
    gate = GATES[rng.choice(["dirichlet", "softmax"])](K, D, torch.float64)
    x, y = _rows(rng).values()
    samples = {"means": torch.randn(1, 10, K, dtype=torch.float64, generator=torch.Generator().manual_seed(0))}
    samples |= {gate.site("weights"): torch.full((1, 10, K), 1 / K).double()} if gate.weights_site else {}
    given = {"samples": samples, "max_plate_nesting": 1, "n_draws": 10, "seed": 0}
    given |= {"axes": {"means": ("component",)}}
    return Call(
        "program_to_arviz", diagnostics.program_to_arviz, given, registers=True, positional=(Program(gate), x, y)
    )


def program_responsibilities(rng: random.Random) -> Call:
    """Responsibilities of a program."""
    call = program_to_arviz(random.Random(3))
    data = call()
    made = diagnostics.ProgramResponsibilities(data, *call.positional)
    return Call("ProgramResponsibilities.summary", made.summary, {"probability": 0.8}, owner=made)


MAKERS = {
    "ConjugateSVI": conjugate_svi,
    "ConjugateSVI.step": svi_step,
    "AutoGate": auto_gate,
    "expected_weights": expected_weights,
    "program_to_arviz": program_to_arviz,
    "ProgramResponsibilities": program_responsibilities,
}

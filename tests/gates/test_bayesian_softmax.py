"""The gate with a posterior of a multinomial regression's coefficients."""

from mixpyro import BayesianSoftmaxGate
from mixpyro.gates import Gate
from tests.gates.bayesian_contract import BayesianLogitContract
from tests.gates.contract import K


class TestBayesianSoftmaxGate(BayesianLogitContract):
    def make(self, n_components: int = K) -> Gate:
        return BayesianSoftmaxGate(n_components, 2)


class TestByQuadrature(BayesianLogitContract):
    gradient_at_maximum = 1e-2

    def make(self, n_components: int = K) -> Gate:
        return BayesianSoftmaxGate(n_components, 2, quadrature=True)

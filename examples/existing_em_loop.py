"""Does an EM loop written for mixturelib run on the gates of mixpyro?

Question: a loop calls ``E_step``, ``M_step``, ``LogPiExpectation`` and ``PredictPi`` of a hyper model. Does it still
work with the hyper models of mixpyro? Only the import has changed. It was ``from mixturelib.hyper_models import …``.

Data: simulated; two lines through the origin of slopes 1 and −1, the first where |x| < 1, the second elsewhere, with a
gradual transition. Membership depends on x, so a gate that reads x can predict it and the two Dirichlet gates cannot.

Expected answer: slopes near 1 and −1 under every hyper model. On objects not seen before, the network's mean squared
error (MSE) is a fraction of the Dirichlet gates', which can only average the two lines. On the objects of the fit,
``HyperModelGateSparsed`` has a low error too, but only because their weights were computed from their Y.

Source: the data are our own; the methods are those of the documentation of ``mixturelib.hyper_models``.
"""

import argparse
import math

import torch
from torch import Tensor

from mixpyro.hyper_models import HyperExpertNN, HyperModel, HyperModelDirichlet, HyperModelGateSparsed

NO_HYPER_PARAMETERS: dict[str, Tensor] = {}


class LocalLinearModel:
    """Y ~ Normal(X w, variance), fitted by weighted least squares.

    Args:
        slope: initial value of w.
    """

    def __init__(self, slope: float) -> None:
        self.w = torch.tensor([[slope]])
        self.variance = torch.tensor(1.0)

    def log_likelihood(self, X: Tensor, Y: Tensor) -> Tensor:
        """Return the log density of each object [N, 1]."""
        return -0.5 * ((Y - X @ self.w) ** 2 / self.variance + self.variance.log() + math.log(2 * math.pi))

    def fit(self, X: Tensor, Y: Tensor, weights: Tensor) -> None:
        """Fit w and the variance by least squares with weights [N, 1]."""
        self.w = torch.linalg.solve(X.T @ (weights * X), X.T @ (weights * Y))
        squared_error = (weights * (Y - X @ self.w) ** 2).sum()
        self.variance = squared_error / weights.sum()


def main(args: argparse.Namespace) -> None:
    """Run the same loop with each hyper model and print errors and slopes."""
    torch.manual_seed(args.seed)
    X, Y = simulate(args.objects)
    # One more object: HyperModelGateSparsed takes the same number of objects for the objects of the fit.
    X_new, Y_new = simulate(args.objects + 1)
    print(f"{'hyper model':<24}{'MSE seen':>10}{'MSE new':>10}{'slopes':>18}")
    for hyper_model in build_hyper_models():
        models = run_em(hyper_model, X, Y, args.iterations)
        errors = [mean_squared_error(hyper_model, models, *data) for data in ((X, Y), (X_new, Y_new))]
        slopes = "".join(f"{model.w.item():>9.3f}" for model in models)
        print(f"{type(hyper_model).__name__:<24}{errors[0]:>10.4f}{errors[1]:>10.4f}{slopes}")


def simulate(n_objects: int) -> tuple[Tensor, Tensor]:
    """Draw X [N, 1] and Y [N, 1]."""
    X = 4 * torch.rand(n_objects, 1) - 2
    in_first = torch.rand(n_objects, 1) < torch.sigmoid(10 * (1 - X.abs()))
    return X, torch.where(in_first, X, -X) + 0.1 * torch.randn(n_objects, 1)


def build_hyper_models() -> list[HyperModel]:
    """Return one hyper model of each kind, for two local models."""
    return [
        HyperModelDirichlet(output_dim=2),
        HyperModelGateSparsed(output_dim=2, gamma=1.0),
        HyperExpertNN(input_dim=1, hidden_dim=16, output_dim=2, epochs=20),
    ]


def run_em(hyper_model: HyperModel, X: Tensor, Y: Tensor, n_iterations: int) -> list[LocalLinearModel]:
    """Run the old loop: responsibilities, then hyper model, then local models."""
    models = [LocalLinearModel(0.5), LocalLinearModel(-0.5)]
    for _ in range(n_iterations):
        log_joint = hyper_model.LogPiExpectation(X, Y, NO_HYPER_PARAMETERS).detach()
        log_joint += torch.cat([model.log_likelihood(X, Y) for model in models], dim=1)
        Z = torch.softmax(log_joint, dim=1)
        hyper_model.E_step(X, Y, Z, NO_HYPER_PARAMETERS)
        hyper_model.M_step(X, Y, Z, NO_HYPER_PARAMETERS)
        for k, model in enumerate(models):
            model.fit(X, Y, Z[:, k : k + 1])
    return models


def mean_squared_error(hyper_model: HyperModel, models: list[LocalLinearModel], X: Tensor, Y: Tensor) -> float:
    """Return the mean squared error of the prediction Σₖ πₖ X wₖ."""
    pi = hyper_model.PredictPi(X, NO_HYPER_PARAMETERS).detach()
    predictions = torch.cat([X @ model.w for model in models], dim=1)
    prediction = (pi * predictions).sum(dim=1, keepdim=True)
    return ((Y - prediction) ** 2).mean().item()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=500, help="objects to fit to")
    parser.add_argument("--iterations", type=int, default=30, help="iterations of the loop")
    parser.add_argument("--seed", type=int, default=0, help="seed of the data and of the network")
    # The tensors are so small that a second thread would not save time.
    torch.set_num_threads(1)
    main(parser.parse_args())

"""Standard errors and spectra of information matrices."""

import torch

from mixpyro.numerics.information_matrix import spectrum, standard_errors


def information() -> torch.Tensor:
    """A positive definite matrix [4, 4] of parameters in unlike units."""
    root = torch.randn(4, 7).double() * torch.tensor([1.0, 1e4, 1e-4, 1.0]).double().unsqueeze(1)
    return root @ root.mT


def test_standard_errors_are_roots_of_the_inverse_diagonal() -> None:
    matrix, transform = information(), torch.randn(3, 4).double()
    torch.testing.assert_close(standard_errors(matrix), torch.linalg.inv(matrix).diagonal().sqrt())
    expected = (transform @ torch.linalg.inv(matrix) @ transform.mT).diagonal().sqrt()
    torch.testing.assert_close(standard_errors(matrix, transform), expected)


def test_only_parameters_in_a_direction_without_information_have_infinite_errors() -> None:
    matrix = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 4.0]]).double()
    assert standard_errors(matrix).tolist() == [torch.inf, torch.inf, 0.5]


def test_a_parameter_without_information_has_an_infinite_error() -> None:
    assert standard_errors(torch.diag(torch.tensor([4.0, 0.0]).double())).tolist() == [0.5, torch.inf]


def test_the_spectrum_does_not_depend_on_units() -> None:
    matrix, units = information(), torch.tensor([1e3, 1.0, 1e-5, 7.0]).double()
    values, directions = spectrum(matrix)
    scaled, _ = spectrum(units.unsqueeze(1) * matrix * units)
    torch.testing.assert_close(values, scaled)
    torch.testing.assert_close(directions.mT @ matrix @ directions, torch.diag(values), rtol=1e-9, atol=1e-9)

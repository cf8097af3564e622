"""Functions on nested tuples of tensors."""

from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from mixpyro.numerics import nested


class Pair(NamedTuple):
    """Two tensors."""

    mean: Tensor
    precision: Tensor


class Special(Pair):
    """A subclass of a NamedTuple, with a method."""

    def size(self) -> int:
        """Length of the first axis."""
        return len(self.mean)


class Everything(NamedTuple):
    """One part of each kind."""

    pair: Special
    plain: tuple[Tensor, Pair]
    alone: Tensor
    missing: None
    empty: tuple[()]


def pair(n_rows: int) -> Pair:
    return Pair(torch.randn(n_rows, 2).double(), torch.randn(n_rows).double())


def everything(n_rows: int = 4) -> Everything:
    """Nine tensors, of one length of the first axis."""
    special, plain = Special(*pair(n_rows)), (torch.randn(n_rows, 3, 3).double(), pair(n_rows))
    return Everything(special, plain, torch.randn(n_rows, 1).double(), None, ())


def assert_same_kinds(value: Any, expected: Any) -> None:
    """Both have the same types of tuples at every level."""
    assert type(value) is type(expected)
    if isinstance(value, tuple):
        for part, wanted in zip(value, expected, strict=True):
            assert_same_kinds(part, wanted)


def assert_tensors(value: Any, expected: list[Tensor]) -> None:
    """The value has these tensors, in this order."""
    for tensor, wanted in zip(nested.tensors(value), expected, strict=True):
        torch.testing.assert_close(tensor, wanted)


def test_tensors_are_listed_in_the_order_of_the_fields() -> None:
    value = everything()
    expected = [*value.pair, value.plain[0], *value.plain[1], value.alone]
    assert all(tensor is wanted for tensor, wanted in zip(nested.tensors(value), expected, strict=True))
    assert nested.tensors(None) == nested.tensors(()) == []


def test_a_tensor_is_a_nested_value() -> None:
    tensor = torch.arange(3.0)
    assert torch.equal(nested.add(tensor, tensor), 2 * tensor)
    assert torch.equal(nested.select(tensor, 1), tensor[1])
    assert nested.tensors(tensor)[0] is tensor


def test_every_function_keeps_the_types_and_the_empty_parts() -> None:
    first, second = everything(), everything()
    results = [
        nested.add(first, second),
        nested.scale(2.0, first),
        nested.blend((0.5, first), (0.5, second)),
        nested.select(first, 1),
        nested.select(first, [0, 2]),
        nested.stack([first, second]),
        nested.concatenate([first, second]),
        nested.apply(torch.exp, first),
        nested.with_tensors(first, nested.tensors(second)),
    ]
    for result in results:
        assert_same_kinds(result, first)
        assert result.missing is None
        assert result.empty == ()
    assert nested.concatenate([first, second]).pair.size() == 8


def test_sums_and_products() -> None:
    first, second = everything(), everything()
    pairs = list(zip(nested.tensors(first), nested.tensors(second), strict=True))
    assert_tensors(nested.add(first, second), [a + b for a, b in pairs])
    assert_tensors(nested.scale(-3.0, first), [-3.0 * a for a, _ in pairs])
    assert_tensors(nested.scale(torch.tensor(0.5), first), [0.5 * a for a, _ in pairs])
    assert_tensors(nested.blend((2.0, first)), [2.0 * a for a, _ in pairs])
    assert_tensors(
        nested.blend((0.25, first), (-1.0, second), (3.0, first)), [0.25 * a - b + 3.0 * a for a, b in pairs]
    )


def test_a_blend_leaves_out_what_has_weight_zero() -> None:
    first = everything()
    bad = nested.apply(lambda tensor: torch.full_like(tensor, torch.nan), first)
    assert_tensors(nested.blend((0.0, bad), (1.0, first)), nested.tensors(first))
    assert_tensors(nested.blend((0.0, first)), [torch.zeros_like(tensor) for tensor in nested.tensors(first)])


def test_results_share_no_memory_with_the_arguments() -> None:
    value = everything()
    kept = [tensor.clone() for tensor in nested.tensors(value)]
    for result in (nested.add(value, value), nested.scale(1.0, value), nested.blend((1.0, value), (1.0, value))):
        for tensor in nested.tensors(result):
            tensor.zero_()
    assert_tensors(value, kept)


@pytest.mark.parametrize(
    "index",
    [0, -1, slice(1, 3), [2, 0, 2], [], torch.tensor([3, 1]), torch.tensor([True, False, False, True])],
    ids=["int", "negative", "slice", "list", "empty list", "tensor", "mask"],
)
def test_a_selection_indexes_the_first_axis(index: Any) -> None:
    value = everything()
    by_list = torch.tensor(index, dtype=torch.long) if isinstance(index, list) else index
    assert_tensors(nested.select(value, index), [tensor[by_list] for tensor in nested.tensors(value)])


def test_stacked_and_concatenated_values_are_selected_back() -> None:
    values = [everything(3), everything(3), everything(3)]
    for number, value in enumerate(values):
        assert_tensors(nested.select(nested.stack(values), number), nested.tensors(value))
        rows = slice(3 * number, 3 * number + 3)
        assert_tensors(nested.select(nested.concatenate(values), rows), nested.tensors(value))


def test_gradients_go_through() -> None:
    value = nested.apply(lambda tensor: tensor.requires_grad_(), everything())
    total = nested.blend((2.0, nested.select(value, [0])), (1.0, nested.select(value, slice(1, 2))))
    torch.stack([tensor.sum() for tensor in nested.tensors(total)]).sum().backward()
    for tensor in nested.tensors(value):
        assert tensor.grad is not None
        weights = [float(row.unique()) for row in tensor.grad]
        assert weights == [2.0, 1.0, 0.0, 0.0]


def test_tensors_are_replaced_in_order() -> None:
    value = everything()
    numbered = [torch.tensor(float(number)) for number in range(len(nested.tensors(value)))]
    replaced = nested.with_tensors(value, numbered)
    assert [float(tensor) for tensor in nested.tensors(replaced)] == list(range(len(numbered)))
    with pytest.raises(ValueError, match="`replacements` must be 6 tensors, one for each; got 5"):
        nested.with_tensors(value, numbered[1:])


@pytest.mark.parametrize(
    ("first", "second", "kinds"),
    [
        (None, torch.ones(2), "NoneType, Tensor"),
        (torch.ones(2), None, "Tensor, NoneType"),
        ((torch.ones(2),), torch.ones(2), "tuple, Tensor"),
        ((torch.ones(2),), (None,), "Tensor, NoneType"),
        (Pair(torch.ones(2), torch.ones(2)), (torch.ones(2), torch.ones(2)), "Pair, tuple"),
        ((1.0,), (2.0,), "float, float"),
        ([torch.ones(2)], [torch.ones(2)], "list, list"),
    ],
)
@pytest.mark.usefixtures("bad_arguments")
def test_values_of_unlike_structure_are_refused(first: Any, second: Any, kinds: str) -> None:
    with pytest.raises(TypeError, match=f"`values` must be .* of the same structure; got {kinds}."):
        nested.add(first, second)


def test_tuples_of_unlike_length_are_refused() -> None:
    with pytest.raises(ValueError, match="argument 2"):
        nested.add((torch.ones(2), torch.ones(2)), (torch.ones(2),))

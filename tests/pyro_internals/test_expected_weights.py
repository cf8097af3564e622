"""Records of a gate's model calls, and the responsibilities that the gradient of a bound gives."""

import torch

from mixpyro import DirichletGate
from mixpyro.pyro_internals.expected_weights import ModelCalls, expected_weights, record_of

K, N = 3, 8


def bound(calls: ModelCalls, rows: torch.Tensor, log_joint: torch.Tensor) -> torch.Tensor:
    """Compute a mean-field bound of some rows, each with the weight N / B."""
    call = calls.record(torch.zeros(len(rows), 0).double(), rows, N, K)
    return (log_joint[rows] + call.log_weights).logsumexp(-1).sum() * N / len(rows) + call.divergence


def test_the_gradient_of_the_bound_gives_responsibilities_times_the_weight_of_each_object() -> None:
    log_joint, rows = torch.randn(N, K).double(), torch.tensor([5, 2])
    calls = ModelCalls()
    (-bound(calls, rows, log_joint)).backward()
    seen = calls.responsibilities()
    assert seen is not None
    assert (seen.n_objects, seen.is_subsample) == (N, True)
    assert torch.equal(seen.objects, rows)
    torch.testing.assert_close(seen.responsibilities, log_joint[rows].softmax(-1) * N / 2)


def test_a_scale_of_the_whole_bound_changes_nothing() -> None:
    log_joint, rows = torch.randn(N, K).double(), torch.arange(N)
    calls = ModelCalls()
    (-0.01 * bound(calls, rows, log_joint)).backward()
    seen = calls.responsibilities()
    assert seen is not None
    assert not seen.is_subsample
    torch.testing.assert_close(seen.responsibilities, log_joint.softmax(-1))


def test_calls_that_the_loss_does_not_depend_on_give_nothing() -> None:
    calls = ModelCalls()
    calls.record(torch.zeros(2, 0), torch.arange(2), 2, K)
    assert calls.responsibilities() is None


def test_nested_contexts_keep_the_records_of_both_gates() -> None:
    first, second = DirichletGate(2), DirichletGate(2, name="second")
    with expected_weights(first) as outer, expected_weights(second) as inner:
        assert record_of(first) is outer[0]
        assert record_of(second) is inner[0]
    assert record_of(first) is None

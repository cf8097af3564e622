"""Records of a gate in a program, and the responsibilities that the gradient of a bound gives."""

import pytest
import torch
from torch import Tensor

from mixpyro import DirichletGate
from mixpyro.pyro_internals.evidence import Evidence
from mixpyro.pyro_internals.expected_weights import BoundTerms, GateRecord, expected_weights, record_of

K, N = 3, 8


def bound(record: GateRecord, rows: Tensor, log_joint: Tensor, log_weights: Tensor, scale: float = 1.0) -> Tensor:
    """Compute a mean-field bound of some rows under weights that all share, each with a weight of its own."""
    run = record.begin(BoundTerms(log_weights, torch.zeros(()).double()), parts=torch.zeros(1).long())
    zeros = torch.zeros(K, len(rows)).double().requires_grad_()
    run.evidence.append(Evidence(zeros, torch.arange(K).unsqueeze(1), -2, 1, may_be_silent=True))
    return (log_joint[rows].mT + zeros).logsumexp(0).sum() * scale + run.divergence.sum()


def test_the_gradient_of_the_bound_gives_responsibilities_times_the_weight_of_each_object() -> None:
    log_joint, rows, record = torch.randn(N, K).double(), torch.tensor([5, 2]), GateRecord()
    (-bound(record, rows, log_joint, torch.zeros(K).double(), N / 2)).backward()
    assert record.is_subsample
    r = log_joint[rows].softmax(-1)
    torch.testing.assert_close(record.responsibilities()[0], r * N / 2)
    torch.testing.assert_close(record.seen_counts().counts[0], r.sum(0) * N / 2)


def test_a_scale_of_the_whole_bound_changes_nothing() -> None:
    log_joint, record = torch.randn(N, K).double(), GateRecord()
    (-0.01 * bound(record, torch.arange(N), log_joint, torch.zeros(K).double())).backward()
    assert not record.is_subsample
    record.check("gate.assignment")
    torch.testing.assert_close(record.seen_counts().counts[0], log_joint.softmax(-1).sum(0))


def test_a_gate_that_is_scaled_up_is_refused() -> None:
    record = GateRecord()
    (-20.0 * bound(record, torch.arange(N), torch.randn(N, K).double(), torch.zeros(K).double())).backward()
    with pytest.raises(ValueError, match=r"got 'gate.assignment' scaled by 20.*`plate\(size=N, subsample_size=B\)`"):
        record.check("gate.assignment")


def test_objects_whose_likelihood_is_the_same_in_all_components_are_silent() -> None:
    """However small a weight is: what is compared is the likelihood, not q(z)."""
    log_weights = torch.tensor([0.0, -40.0, -3.0]).double()
    likelihood = torch.randn(N, K).double()
    likelihood[3:] = likelihood[3:, :1]
    record = GateRecord()
    (-bound(record, torch.arange(N), likelihood + log_weights, log_weights)).backward()
    q = (likelihood + log_weights).softmax(-1)
    torch.testing.assert_close(record.seen_counts().counts[0], q[:3].sum(0))
    assert record.silent_bound() == pytest.approx(float(5 * log_weights.logsumexp(0)))


def test_parts_of_several_runs_are_put_together() -> None:
    """Two particles, each with a part of its own and one in common."""
    record = GateRecord()
    logits = torch.randn(2, 2, K).double()
    loss = torch.zeros(()).double()
    for own, parts in zip(logits, ([4, 1], [1, 0]), strict=True):
        run = record.begin(BoundTerms(torch.zeros(2, K).double(), torch.zeros(2).double()), parts=torch.tensor(parts))
        zeros = torch.zeros(K, 2).double().requires_grad_()
        index = torch.arange(2) * K + torch.arange(K).unsqueeze(1)
        run.evidence.append(Evidence(zeros, index, -2, 1, may_be_silent=False))
        loss = loss - 0.5 * ((own.mT + zeros).logsumexp(0).sum() + run.divergence.sum())
    loss.backward()
    seen, q = record.seen_counts(), logits.softmax(-1)
    assert seen.parts.tolist() == [0, 1, 4]
    torch.testing.assert_close(seen.counts, torch.stack([q[1, 1], 0.5 * (q[0, 1] + q[1, 0]), q[0, 0]]))


def test_calls_that_the_loss_does_not_depend_on_give_nothing() -> None:
    record = GateRecord()
    bound(record, torch.arange(N), torch.randn(N, K).double(), torch.zeros(K).double())
    assert not record.seen


def test_nested_contexts_keep_the_records_of_both_gates() -> None:
    first, second = DirichletGate(2), DirichletGate(2, name="second")
    with expected_weights(first) as outer, expected_weights(second) as inner:
        assert record_of(first) is outer[0]
        assert record_of(second) is inner[0]
    assert record_of(first) is None

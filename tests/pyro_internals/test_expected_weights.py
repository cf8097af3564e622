"""Records of a gate in a program, and the responsibilities that the gradient of a bound gives."""

import pyro.distributions as dist
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
    run.evidence.append(Evidence(zeros, torch.arange(K).unsqueeze(1), -2, 1, speaks=True))
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


def evidence() -> Evidence:
    """Evidence on assignments of N objects of which nothing is known yet."""
    terms = torch.zeros(K, N).double().requires_grad_()
    return Evidence(terms, torch.arange(K).unsqueeze(1), -2, 1, speaks=False)


def test_objects_speak_where_a_site_depends_on_them_and_is_not_masked() -> None:
    normal, seen = dist.Normal(torch.zeros(K, 1), 1.0).expand([K, N]), torch.arange(N) < 3
    for one, mask, expected in (
        (dist.Normal(torch.zeros(N), 1.0), None, False),
        (dist.Normal(torch.zeros(1, N), 1.0), None, False),
        (normal, False, False),
        (normal.mask(False), None, False),
        (normal, None, True),
        (normal, True, True),
        (normal, seen, seen),
        (normal.mask(seen), None, seen),
        (normal.mask(seen), torch.arange(N) > 0, seen & (torch.arange(N) > 0)),
        (normal, seen.expand(K, N), seen),
        (
            dist.Normal(torch.zeros(K, 1, 1), 1.0).expand([K, N, 2]).mask(torch.stack([seen, ~seen], 1)).to_event(1),
            None,
            N > 0,
        ),
        (dist.Normal(torch.zeros(K, 1, 1), 1.0).expand([K, N, 2]).mask(seen.unsqueeze(1)).to_event(1), None, seen),
    ):
        found = evidence()
        found.note(one, mask)
        assert torch.equal(torch.as_tensor(found.speaks).expand(N), torch.as_tensor(expected).expand(N))
    found.note(normal, ~seen)
    assert torch.as_tensor(found.speaks).all()
    found.note(normal, None)
    assert found.speaks is True


def test_silent_objects_are_left_out_of_counts_and_bound() -> None:
    log_weights = torch.tensor([0.0, -40.0, -3.0]).double()
    likelihood = torch.randn(N, K).double()
    record = GateRecord()
    (-bound(record, torch.arange(N), likelihood + log_weights, log_weights)).backward()
    record.runs[0].evidence[0].speaks = torch.arange(N) < 3
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
        run.evidence.append(Evidence(zeros, index, -2, 1, speaks=True))
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

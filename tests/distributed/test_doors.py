"""What public functions do with process groups and shards that are none."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from mixpyro import DirichletGate, LinearExperts, MixtureOfExperts, StreamingFit, fit
from mixpyro.distributed import ProcessError, Processes, processes_of, shard

pytestmark = pytest.mark.usefixtures("bad_arguments")
ODD = [3, "a", [0], object(), torch.ones(2)]


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    """Initialise the default group with this process alone."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize("odd", [-1, 2.5, "a", True, None, torch.tensor([3]), float("nan"), [3]])
def test_numbers_of_rows_that_are_none_are_refused(odd: object) -> None:
    with pytest.raises((TypeError, ValueError), match="`n_rows` must be"):
        shard(odd)  # type: ignore[arg-type]


@pytest.mark.parametrize("odd", ["meta", "x", 3, None])
def test_devices_that_are_none_are_refused(odd: object) -> None:
    with pytest.raises((TypeError, ValueError), match="`device` must be"):
        shard(10, device=odd)  # type: ignore[arg-type]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: type(odd).__name__)
@pytest.mark.usefixtures("one_process")
def test_groups_that_are_none_are_refused_by_name(odd: object) -> None:
    x = torch.linspace(-1.0, 1.0, 20).double().unsqueeze(1)
    mixture = MixtureOfExperts(DirichletGate(1), LinearExperts(1, 1))
    calls: list[Callable[[], object]] = [
        lambda: shard(10, process_group=odd),
        lambda: fit(mixture, x, x[:, 0], process_group=odd, progress=False),
        lambda: StreamingFit(mixture, process_group=odd),
    ]
    for call in calls:
        with pytest.raises(TypeError, match=r"`process_group` must be a group of `torch\.distributed`"):
            call()
    with pytest.raises(TypeError, match=r"`group` must be a group of `torch\.distributed`"):
        processes_of(odd)


@pytest.mark.usefixtures("one_process")
def test_the_default_group_of_one_process_is_none() -> None:
    assert processes_of() is None and processes_of(dist.group.WORLD) is None and shard(7) == slice(0, 7)


def test_a_group_that_has_been_destroyed_is_named(tmp_path: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    processes = Processes()
    dist.destroy_process_group()
    with pytest.raises(ProcessError, match="it has been destroyed"), processes.together():
        pass

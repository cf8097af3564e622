"""The processes of a group that a user gives."""

from typing import Any

from mixpyro.arguments import shown
from mixpyro.distributed.processes import Processes


def processes_of(group: Any = None) -> Processes | None:  # noqa: ANN401 (of torch.distributed)
    """Return the processes of a group; None if there is one alone.

    Args:
        group: of torch.distributed; None for the default group, if `init_process_group` has been called.

    Raises:
        TypeError: if the group is none.
        ValueError: if there are no processes, or this one is not among those of the group.
    """
    return processes_given("group", group)


def processes_given(name: str, group: Any) -> Processes | None:  # noqa: ANN401 (of torch.distributed)
    """Return the processes of a group, for a function with an argument of another name.

    Args:
        name: of the argument, for messages.
        group: as for :func:`processes_of`.

    Raises:
        TypeError: as :func:`processes_of`.
        ValueError: as :func:`processes_of`.
    """
    import torch.distributed as dist

    if not (dist.is_available() and dist.is_initialized()):
        if group is not None:
            raise ValueError(f"`{name}` must be of `torch.distributed`, which is not initialised; got a group.")
        return None
    # Of a group without this process, PyTorch returns a number.
    is_group = isinstance(group, dist.ProcessGroup) or group is None or group is dist.GroupMember.NON_GROUP_MEMBER
    if not is_group:
        raise TypeError(
            f"`{name}` must be a group of `torch.distributed`; got {shown(group)} of {type(group).__name__}."
        )
    if dist.get_rank(group) < 0:
        raise ValueError(f"`{name}` must have this process among its ranks; got a group without it.")
    return Processes(group) if dist.get_world_size(group) > 1 else None


class FoundAtLoading:
    """Processes in the state of an object: copies have the same ones, a pickle those of the default group at loading.

    Args:
        processes: of the object; None for one.
    """

    def __init__(self, processes: Processes | None) -> None:
        self.processes = processes

    @classmethod
    def here(cls) -> "FoundAtLoading":
        """Return the processes of the default group."""
        return cls(processes_of())

    def __deepcopy__(self, memo: object) -> "FoundAtLoading":
        return self

    def __reduce__(self) -> Any:  # noqa: ANN401
        import torch.distributed as dist

        if self.processes is not None and self.processes.group not in (None, dist.group.WORLD):
            raise TypeError(
                "`process_group` must be None, for the default group, of an object that is pickled; got a group of "
                "some of the ranks, which cannot be found again."
            )
        return FoundAtLoading.here, ()

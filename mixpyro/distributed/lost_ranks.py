"""Which ranks of a process group are still there once an exchange has failed."""

import time
import weakref
from typing import Any

from mixpyro.arguments.signals import pass_on

# Seconds that a rank waits for the others to say that they, too, have seen an exchange fail.
PATIENCE = 2.0
# How many calls each group has begun on this rank, so that what ranks say of one failure is not taken for another's.
_N_CALLS: "weakref.WeakKeyDictionary[Any, int]" = weakref.WeakKeyDictionary()


def count_call(group: Any) -> None:  # noqa: ANN401 (of torch.distributed)
    """Count a call that all ranks of a group make.

    Args:
        group: of torch.distributed; None for the default group.
    """
    key = _key_of(group)
    _N_CALLS[key] = _N_CALLS.get(key, 0) + 1


def lost_ranks(group: Any, rank: int, size: int) -> str:  # noqa: ANN401 (of torch.distributed)
    """Return in words which ranks do not say within two seconds that they have seen the exchange fail.

    Args:
        group: of torch.distributed; None for the default group.
        rank: of this process in the group.
        size: number of ranks.
    """
    import torch.distributed as dist

    try:
        store = dist.distributed_c10d._get_default_store()
        name = f"mixpyro/{getattr(group, 'group_name', 'default')}/{_N_CALLS.get(_key_of(group), 0)}"
        store.set(f"{name}/{rank}", "alive")
        until = time.monotonic() + PATIENCE
        silent = [one for one in range(size) if one != rank]
        while silent and time.monotonic() < until:
            time.sleep(0.05)
            silent = [one for one in silent if not store.check([f"{name}/{one}"])]
    except Exception as error:
        pass_on(error)
        return "another rank, with the store of the group"
    if not silent:
        return "another rank"
    return f"rank{'s' if len(silent) > 1 else ''} {', '.join(map(str, silent))}"


def _key_of(group: Any) -> Any:  # noqa: ANN401
    """Return the group that None stands for."""
    import torch.distributed as dist

    return dist.group.WORLD if group is None else group

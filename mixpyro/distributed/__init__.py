"""Fits on many processes: what `torch.distributed` is used for, here and nowhere else."""

from mixpyro.distributed.blocks import shard
from mixpyro.distributed.groups_of_processes import processes_of
from mixpyro.distributed.processes import ProcessError, Processes

__all__ = ["ProcessError", "Processes", "processes_of", "shard"]

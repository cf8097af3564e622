"""Fits on many processes: what `torch.distributed` is used for, here and nowhere else."""

from mixpyro.distributed.blocks import shard
from mixpyro.distributed.processes import ProcessError, Processes, processes_of

__all__ = ["ProcessError", "Processes", "processes_of", "shard"]

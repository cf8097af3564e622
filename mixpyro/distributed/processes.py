"""The processes of a fit: what they tell each other, and how an error on one ends all."""

import pickle
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor

from mixpyro.arguments.signals import pass_on, uninterrupted
from mixpyro.distributed.lost_ranks import count_call, lost_ranks

Result = TypeVar("Result")

# What a header says of the rank that sends it.
GOES_ON, HAS_RAISED = 0, 1
# Bits of a header: a request to stop, of any rank, and that a checkpoint is due, which rank 0 says.
STOP, DUE = 1, 2
# Bytes of the message of an error that the other ranks quote.
LONGEST = 4096


class ProcessError(RuntimeError):
    """A fit on many processes cannot go on: another rank has raised, died, or come to another point."""


class Processes:
    """The ranks of a process group, each with rows of its own, which take the same decisions.

    Every exchange begins with a header: whether the rank goes on, what it is about to send, and how much. So a rank
    that has raised ends all, and ranks at different points of a program do not wait for each other for ever.

    Args:
        group: of torch.distributed; None for the default group.

    Attributes:
        rank: of this process in the group, from 0 on.
        size: number of ranks.
        stop: whether a rank had been asked to stop at an exchange since :meth:`together` began.
        due: whether rank 0 wanted a checkpoint at the last exchange.
        flags: what is called for these two at every exchange.
        n_bytes: bytes that this rank has received, headers too.
        n_exchanges: exchanges so far, headers not counted.
    """

    def __init__(self, group: Any = None) -> None:  # noqa: ANN401 (of torch.distributed)
        import torch.distributed as dist

        self._dist, self.group = dist, group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        is_nccl = "nccl" in str(dist.get_backend(group)).lower()
        self.device = torch.device("cuda", torch.cuda.current_device()) if is_nccl else torch.device("cpu")
        self.stop, self.due = False, False
        self.flags: Callable[[], int] = _no_flags
        self.n_bytes, self.n_exchanges = 0, 0
        self._is_within, self._has_ended = False, False

    def __deepcopy__(self, memo: object) -> "Processes":
        return self

    def __reduce__(self) -> Any:  # noqa: ANN401
        raise TypeError("`Processes` must stay in its process: a group of torch.distributed cannot be pickled.")

    @contextmanager
    def together(self) -> Iterator[None]:
        """Let an error on one rank end the block on all of them.

        Raises:
            ProcessError: on the ranks that have not raised, with the rank that has and what it said.
        """
        if self._is_within:
            yield
            return
        self._is_within, self._has_ended = True, False
        self.stop, self.due, self.flags = False, False, _no_flags
        count_call(self.group)
        try:
            yield
            self._end()
        except BaseException as error:
            if not (self._has_ended or isinstance(error, ProcessError)):
                self._announce(error)
            raise
        finally:
            self._is_within = False

    @uninterrupted
    def gather(self, tensor: Tensor, *, kind: str = "tensor", digest: int = 0) -> list[Tensor]:
        """Return the numbers of every rank's tensor, flat, in the order of the ranks.

        Args:
            tensor: of one dtype on all ranks, of any size on each.
            kind: what is sent, which must be the same on all ranks.
            digest: a number that must be the same on all ranks, as of a state that all shall have.
        """
        headers = self._header(kind, size=tensor.numel(), digest=digest)
        sizes = [header[2] for header in headers]
        flat = tensor.detach().reshape(-1).to(self.device)
        if not max(sizes):
            return [flat.new_empty(0) for _ in sizes]
        padded = flat.new_zeros(max(sizes))
        padded[: len(flat)] = flat
        found = [torch.empty_like(padded) for _ in sizes]
        self._called(lambda: self._dist.all_gather(found, padded, group=self.group))
        self.n_bytes += padded.element_size() * len(padded) * (self.size - 1)
        self.n_exchanges += 1
        return [one[:size].to(tensor.device) for one, size in zip(found, sizes, strict=True)]

    def objects(self, value: Any) -> list[Any]:  # noqa: ANN401
        """Return the values of all ranks, in their order.

        Args:
            value: anything that can be pickled.
        """
        found = self.gather(_bytes(value), kind="objects")
        return [pickle.loads(one.cpu().numpy().tobytes()) for one in found]

    @uninterrupted
    def shared(self, value: Result) -> Result:
        """Return the value of rank 0.

        Args:
            value: anything that can be pickled; read on rank 0 alone.
        """
        sent = _bytes(value if self.rank == 0 else None)
        size = self._header("shared", size=sent.numel())[0][2]
        buffer = (sent if self.rank == 0 else sent.new_empty(size)).to(self.device)
        source = 0 if self.group is None else self._dist.get_global_rank(self.group, 0)
        self._called(lambda: self._dist.broadcast(buffer, source, group=self.group))
        self.n_bytes += size
        self.n_exchanges += 1
        shared: Result = pickle.loads(buffer.cpu().numpy().tobytes())
        return shared

    @uninterrupted
    def any(self, flag: bool) -> bool:
        """Return whether a flag is set on any rank.

        Args:
            flag: of this rank.
        """
        return any(header[2] for header in self._header("any", size=int(flag)))

    @uninterrupted
    def agree(self, value: object) -> None:
        """Raise unless all ranks have found the same; exchange requests to stop.

        Args:
            value: what each rank has computed by itself, equal where its representation is.

        Raises:
            ProcessError: if the values differ.
        """
        self._header("agree", digest=zlib.crc32(repr(value).encode()))

    @uninterrupted
    def numbers(self, number: int) -> list[int]:
        """Return the numbers of all ranks.

        Args:
            number: of this rank, at least 0.
        """
        return [header[2] for header in self._header("numbers", size=number)]

    def same(self, what: dict[str, str]) -> None:
        """Raise unless all ranks say the same.

        Args:
            what: a description of each argument, by its name.

        Raises:
            ValueError: on all ranks, with the arguments that differ.
        """
        said = self.objects(what)
        differing = [name for name in said[0] if len({one.get(name) for one in said}) > 1]
        if differing:
            words = "; ".join(
                f"`{name}` is " + ", ".join(f"{one.get(name)} on rank {rank}" for rank, one in enumerate(said))
                for name in differing
            )
            raise ValueError(f"arguments must be the same on all ranks; got others: {words}.")

    def send(self, tensor: Tensor, *, to: int) -> None:
        """Send a tensor to one rank, which receives it.

        Args:
            tensor: of a shape and dtype that the other knows.
            to: its rank.
        """
        buffer = tensor.detach().to(self.device).contiguous()
        self._called(lambda: self._dist.send(buffer, self._global(to), group=self.group))

    def receive(self, like: Tensor, shape: Sequence[int], *, source: int) -> Tensor:
        """Return what one rank sends.

        Args:
            like: a tensor of its dtype, on the device that it shall be on.
            shape: of it.
            source: the rank that sends.
        """
        buffer = torch.empty(tuple(shape), dtype=like.dtype, device=self.device)
        self._called(lambda: self._dist.recv(buffer, self._global(source), group=self.group))
        self.n_bytes += buffer.element_size() * buffer.numel()
        return buffer.to(like.device)

    def _global(self, rank: int) -> int:
        """Return the number of a rank among all processes."""
        return rank if self.group is None else self._dist.get_global_rank(self.group, rank)

    def _header(self, kind: str, *, size: int = 0, status: int = GOES_ON, digest: int = 0) -> list[list[int]]:
        """Tell all ranks what this one is about to do; return what they say, or raise if one cannot go on."""
        own = torch.tensor([status, zlib.crc32(kind.encode()), size, self.flags(), digest], device=self.device)
        found = [torch.empty_like(own) for _ in range(self.size)]
        self._called(lambda: self._dist.all_gather(found, own, group=self.group))
        self.n_bytes += own.element_size() * len(own) * (self.size - 1)
        headers = [one.tolist() for one in found]
        self.stop = self.stop or any(header[3] & STOP for header in headers)
        self.due = bool(headers[0][3] & DUE)
        if any(header[0] for header in headers):
            self._raise_for([header[0] for header in headers], None)
        if len({header[1] for header in headers}) > 1:
            raise self._error(
                "all ranks must take the same steps; got ranks at different points of the fit. Call it on all ranks, "
                "in the same order, with the same arguments."
            )
        if len({header[4] for header in headers}) > 1:
            raise self._error(
                "all ranks must compute the same numbers; got states that differ. Use processors of one kind, the same "
                "version of torch and the same number of threads on all ranks."
            )
        return headers

    @uninterrupted
    def _end(self) -> None:
        """Hear from all ranks that they have come to the end."""
        self._header("end")
        self._has_ended = True

    @uninterrupted
    def _announce(self, error: BaseException) -> None:
        """Tell all ranks that this one has raised."""
        try:
            own = torch.tensor([HAS_RAISED, 0, 0, 0, 0], device=self.device)
            found = [torch.empty_like(own) for _ in range(self.size)]
            self._called(lambda: self._dist.all_gather(found, own, group=self.group))
            self._raise_for([int(one[0]) for one in found], error)
        except ProcessError:
            error.add_note(f"raised on rank {self.rank} of {self.size}")

    def _raise_for(self, statuses: Sequence[int], error: BaseException | None) -> None:
        """Exchange what the ranks that have raised say, and raise."""
        words = "" if error is None else f"{type(error).__name__}: {error}"
        data = words.encode()[:LONGEST].ljust(LONGEST, b"\0")
        buffer = torch.frombuffer(bytearray(data), dtype=torch.uint8).to(self.device)
        found = [torch.empty_like(buffer) for _ in range(self.size)]
        self._called(lambda: self._dist.all_gather(found, buffer, group=self.group))
        said = [bytes(one.cpu().tolist()).rstrip(b"\0").decode(errors="replace") for one in found]
        lines = [f"rank {rank} raised {said[rank]}" for rank, status in enumerate(statuses) if status]
        raise self._error(f"the fit has ended on all {self.size} ranks: {'; '.join(lines)}")

    def _called(self, function: Callable[[], Any]) -> None:
        """Call a function of torch.distributed; where it fails, say which ranks are still there."""
        try:
            function()
        except RuntimeError as error:
            pass_on(error)
            raise self._error(
                f"rank {self.rank} has lost {lost_ranks(self.group, self.rank, self.size)}, which died, did not make "
                f"the same call, or did not answer within the timeout of the process group "
                f"({str(error).splitlines()[0]}). Start all ranks anew with the same `checkpoint`, as "
                "`torchrun --max-restarts` does: the fit goes on from there."
            ) from error

    def _error(self, words: str) -> ProcessError:
        """Return an error that all ranks raise, so that none needs to be told of it."""
        self._has_ended = True
        return ProcessError(words)


def _no_flags() -> int:
    """Return that there is nothing to tell."""
    return 0


def _bytes(value: Any) -> Tensor:  # noqa: ANN401
    """Return a pickled value as bytes."""
    return torch.frombuffer(bytearray(pickle.dumps(value)), dtype=torch.uint8)

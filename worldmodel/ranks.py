"""Ranks: processes that learn one thing together, each by its share of every batch.

    torchrun --nproc-per-node 2 -m worldmodel train text --corpus FILE --out RUN

Every rank is the whole program with all weights. All draw the same batches from the same streams
of noise; each computes the gradient of its own columns, gradients and figures are summed, and all
take the same step. So what one rank knows they all know, and N ranks learn what one process would.
In one process, rank 0 of 1, nothing here does anything.
"""

import hashlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from types import FrameType
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, distributed as dist, nn
from torch.distributed.rendezvous import rendezvous

from worldmodel import nested, timing
from worldmodel.files import RunError
from worldmodel.noise import OwnNoise, get_states, set_states

PATIENCE = timedelta(days=1)  # for a rank that validates while the others wait; an end is noticed
ASKING = 2.0  # seconds in which ranks that are left notice that another one has ended
LOST = ("connection", "peer", "timed out", "socket")  # of what is said where a rank has ended

T = TypeVar("T")


class LostRankError(RunError):
    """Another rank has ended, so this one cannot go on."""


class Share(NamedTuple):
    """The columns of a block that are a rank's own, from `begin` to `end` of `total`."""

    begin: int
    end: int
    total: int

    @property
    def columns(self) -> slice:
        """Its columns; the first one where it has none, since something has to be computed."""
        return slice(self.begin, self.end) if self.begin < self.end else slice(0, 1)

    @property
    def width(self) -> int:
        """The number of `columns`."""
        return max(1, self.end - self.begin)


class _Place:
    """The place of this process among the ranks, and the block of which it draws noise."""

    rank, size = 0, 1
    tells = os.environ.get("RANK", "0") == "0"  # this rank says why all of them end
    shares: Sequence[Share] = ()  # of the blocks of the batch that is learned from
    block = 0  # the place of the one that noise is drawn for
    is_ending = False  # as another rank has ended


def rank() -> int:
    """The number of this rank, from 0."""
    return _Place.rank


def size() -> int:
    """The number of ranks."""
    return _Place.size


def is_first() -> bool:
    """True for the rank that writes and reports."""
    return _Place.rank == 0


def tells() -> bool:
    """True for the one rank that says why all of them end."""
    return _Place.tells


def is_restarted() -> bool:
    """True where torchrun has started the same command again, after a rank had ended."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


@contextmanager
def joined() -> Iterator[None]:
    """Context manager in which the processes that torchrun has started are ranks: as the
    variables WORLD_SIZE, RANK, LOCAL_RANK, MASTER_ADDR and MASTER_PORT say."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    store, _Place.rank, _Place.size = next(rendezvous("env://"))
    if os.environ.get("LOCAL_WORLD_SIZE") == os.environ["WORLD_SIZE"]:  # the store outlives them
        store = dist.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", ""), store)
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        with _all_there():
            dist.init_process_group(
                _backend(),
                store=store,
                rank=_Place.rank,
                world_size=_Place.size,
                timeout=PATIENCE,
            )
        yield
    except BaseException:
        _Place.is_ending, _Place.tells = True, _is_earliest(store)
        raise
    finally:
        _Place.rank, _Place.size = 0, 1
        if dist.is_initialized():
            dist.destroy_process_group()
        if not _Place.is_ending:
            signal.signal(signal.SIGTERM, before)


def _stop(number: int, frame: FrameType | None) -> None:
    """Ends a rank that is told to end, unless it ends by itself and is about to say why."""
    if not _Place.is_ending:
        raise KeyboardInterrupt


@contextmanager
def alone() -> Iterator[None]:
    """Context manager in which this rank is one process, while the others do not wait for it."""
    place = _Place.rank, _Place.size
    _Place.rank, _Place.size = 0, 1
    try:
        yield
    finally:
        _Place.rank, _Place.size = place


def _backend() -> str:
    """Gloo, and NCCL for GPUs where each rank of this machine has one, which becomes its own."""
    gpus = torch.cuda.device_count()
    if not gpus:
        return "gloo"
    torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % gpus)
    each_has_one = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) <= gpus
    return "cpu:gloo,cuda:nccl" if each_has_one and dist.is_nccl_available() else "gloo"


def _is_earliest(store: dist.Store) -> bool:
    """True if no other rank has ended by an error before."""
    try:
        earliest = store.add("ended", 1) == 1
        if _Place.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
            _let_ask(store)
    except RuntimeError:  # it was with rank 0, which was killed
        return _Place.rank == 1
    return earliest


def _let_ask(store: dist.Store) -> None:
    """Keeps a store, which ends with this process, until all other ranks that are left have asked
    who was the earliest."""
    end = time.monotonic() + ASKING
    while store.add("ended", 0) < _Place.size and time.monotonic() < end:
        time.sleep(0.05)


@contextmanager
def _all_there() -> Iterator[None]:
    """Raises a LostRankError where a rank has ended."""
    try:
        with timing.spent(timing.RANKS):
            yield
    except RuntimeError as error:
        if not any(sign in str(error).lower() for sign in LOST):
            raise
        _Place.is_ending = True
        raise LostRankError(
            "another rank of this run has ended, or was killed, so all of them end: go on from "
            "the last checkpoint by `worldmodel resume RUN` under torchrun, which does so by "
            "itself with --max-restarts"
        ) from error


# What all ranks know.


def wait() -> None:
    """Waits until all ranks are here."""
    any_of(False)


def any_of(flag: Any) -> bool:
    """True if a flag is true on any rank."""
    if _Place.size == 1:
        return bool(flag)
    found = torch.tensor([bool(flag)], dtype=torch.uint8)
    with _all_there():
        dist.all_reduce(found, dist.ReduceOp.MAX)
    return bool(found)


def of_first(function: Callable[[], T]) -> T:
    """The result of a function, for JSON, that rank 0 alone calls."""
    if _Place.size == 1:
        return function()
    text = b""
    if is_first():
        with alone():
            text = json.dumps(function()).encode()
    length = torch.tensor([len(text)])
    with _all_there():
        dist.broadcast(length, 0)
    held = torch.empty(int(length), dtype=torch.uint8)
    if is_first():
        held = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    with _all_there():
        dist.broadcast(held, 0)
    found: T = json.loads(held.numpy().tobytes())
    return found


def first_then_others(function: Callable[[], T]) -> T:
    """The result of a function that rank 0 calls first, and the others when it is done."""
    if is_first():
        found = function()
        wait()
        return found
    wait()
    return function()


def gathered(rows: Tensor) -> Tensor:
    """The rows [n, ...] of all ranks, of any number, in the order of ranks; without a history."""
    if _Place.size == 1:
        return rows
    rows = rows.detach()
    counts = [torch.zeros(1, dtype=torch.int64) for _ in range(_Place.size)]
    with _all_there():
        dist.all_gather(counts, torch.tensor([len(rows)]))
    numbers = [int(count) for count in counts]
    padded = rows.new_zeros(max(numbers), *rows.shape[1:])
    padded[: len(rows)] = rows
    plain = padded.contiguous().flatten().view(torch.uint8)  # a type that all backends know
    parts = [torch.empty_like(plain) for _ in numbers]
    with _all_there():
        dist.all_gather(parts, plain)
    found = [part.view(rows.dtype).view(padded.shape) for part in parts]
    return torch.cat([part[:count] for part, count in zip(found, numbers, strict=True)])


def agree_on_noise() -> None:
    """Takes the random states of rank 0, which has drawn alone."""
    if _Place.size > 1:
        states = get_states()
        with _all_there():
            for state in states:
                dist.broadcast(state, 0)
        set_states(states)


def check_alike(content: Any, what: str) -> None:
    """Raises a RunError unless all ranks have the same content: tensors and plain values in
    dicts, lists and tuples. Only digests are exchanged."""
    if _Place.size == 1:
        return
    digest = hashlib.sha256()
    _feed(digest, content)
    found = gathered(torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)[None])
    different = [number for number, other in enumerate(found) if (other != found[0]).any()]
    if different:
        raise RunError(
            f"{what} of rank {different[0]} differ from those of rank 0: do all ranks have the "
            "same kind of processor, and the same versions of the package and of PyTorch? Go on "
            "from the last checkpoint by `worldmodel resume RUN`"
        )


def _feed(digest: Any, content: Any) -> None:
    if isinstance(content, Mapping):
        for key, part in content.items():
            digest.update(str(key).encode())
            _feed(digest, part)
    elif isinstance(content, list | tuple):
        for part in content:
            _feed(digest, part)
    elif isinstance(content, Tensor):
        plain = content.detach().cpu().contiguous().flatten()
        digest.update(plain.view(torch.uint8).numpy())
    else:
        digest.update(repr(content).encode())


# A batch, and what is drawn for it.


def share_of(total: int) -> Share:
    """This rank's share of some columns; ranks have as many as each other, or one more."""
    begin, end = (total * (_Place.rank + more) // _Place.size for more in (0, 1))
    return Share(begin, end, total)


@contextmanager
def sharing(batch: Any) -> Iterator[tuple[Any, int]]:
    """Context manager with a rank's own part of a batch and the number of its rows, for
    `averaged`.

    batch: blocks of sequences [T, B, ...] are the same on all ranks, and each takes some columns
    and draws noise for these (see `drawn`); anything else is the rank's own already, and so is
    its noise.
    """
    if _Place.size == 1:
        yield batch, 1
    elif isinstance(batch, list) and all(hasattr(block, "loss_mask") for block in batch):
        own = own_blocks(batch)
        _Place.shares = [share_of(block.loss_mask.shape[1]) for block in batch]
        _Place.block = 0
        try:
            yield own, sum(int(block.loss_mask.sum()) for block in own)
        finally:
            _Place.shares = ()
    else:
        with own_noise():
            yield batch, len(nested.leaves(batch)[0])


def own_blocks(batch: list[Any]) -> list[Any]:
    """This rank's columns of blocks of sequences; of a block without any, one that is not
    scored."""
    return batch if _Place.size == 1 else [_own_columns(block) for block in batch]


def _own_columns(block: Any) -> Any:
    share = share_of(block.loss_mask.shape[1])
    own = nested.index(block, (slice(None), share.columns))
    if share.begin < share.end:
        return own
    return own._replace(loss_mask=torch.zeros_like(own.loss_mask))


def in_turn(blocks: Sequence[T]) -> Iterator[T]:
    """The blocks of a batch, one after another; noise is drawn for the one that came last."""
    for place, block in enumerate(blocks):
        _Place.block = place
        yield block


def drawn(draw: Callable[[Tensor], Tensor], like: Tensor) -> Tensor:
    """draw(like), where what is drawn for one column [..., B, n] or K * B of them, copy after
    copy, depends on no other column: the noise of this rank's columns out of that of all."""
    if not _Place.shares:
        return draw(like)
    share = _Place.shares[_Place.block]
    copies, rest = divmod(like.shape[-2], share.width)
    if rest:
        raise ValueError(
            f"noise {list(like.shape)} is drawn for another block than that of {share.width} "
            "columns: an objective goes through the blocks of its batch by `ranks.in_turn`"
        )
    whole = like.new_ones(*like.shape[:-2], copies, share.total, like.shape[-1])
    whole[..., share.columns, :] = like.detach().unflatten(-2, (copies, share.width))
    found = draw(whole.flatten(-3, -2)).unflatten(-2, (copies, share.total))
    return found[..., share.columns, :].flatten(-3, -2)


def any_column(flags: Tensor) -> bool:
    """True if a flag is true, in any column of the block that noise is drawn for."""
    return any_of(flags.any()) if _Place.shares else bool(flags.any())


def own_noise() -> Any:
    """A context manager in which each rank draws noise of its own, from a seed out of the noise
    that all have."""
    if _Place.size == 1:
        return nullcontext()
    return OwnNoise(int(torch.randint(2**62, ())) + _Place.rank)()


def averaged(
    rows: int, parameters: Sequence[nn.Parameter], figures: Mapping[str, Any]
) -> dict[str, Any]:
    """Figures, the means over the rows of all ranks; so become the gradients of parameters.

    rows: those that this rank's figures are the means of.
    """
    if _Place.size == 1:
        return dict(figures)
    like = parameters[0]
    numbers = [torch.as_tensor(figure).detach().to(like) for figure in figures.values()]
    gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
    own = torch.cat(
        [*(gradient.flatten().to(like) for gradient in gradients), torch.stack(numbers)]
    )
    there = [float(parameter.grad is not None) for parameter in parameters]
    counts = like.new_tensor([*there, rows])
    sums = torch.cat([own * rows if rows else torch.zeros_like(own), counts])
    with _all_there():
        dist.all_reduce(sums)
    own, counts = sums.split([len(own), len(counts)])
    means = own / counts[-1].clamp(min=1)
    *found, figured = means.split([*(part.numel() for part in gradients), len(numbers)])
    for parameter, gradient, number in zip(parameters, found, counts[:-1].tolist(), strict=True):
        parameter.grad = gradient.view_as(parameter).to(parameter) if number else None
    return dict(zip(figures, figured, strict=True))


def mean(values: Tensor, rows: int) -> Tensor:
    """The mean of values [n] of all ranks, as a figure beside means over `rows`, by which
    `averaged` weighs it."""
    if _Place.size == 1:
        return values.mean()
    totals = torch.tensor([len(values), rows])
    with _all_there():
        dist.all_reduce(totals)
    number, total = totals.tolist()
    return values.sum() * (total / max(1, number * rows))


# States of columns, which checkpoints hold whole.


def whole(state: Any, total: int) -> Any:
    """The state of all `total` columns, leaves [K * total, ...], from that of each rank's."""
    if _Place.size == 1 or not total:
        return state
    share = share_of(total)

    def joint(leaf: Tensor) -> Tensor:
        own = leaf.unflatten(0, (-1, share.width)).transpose(0, 1)  # [b, K, ...]
        return gathered(own[: share.end - share.begin]).transpose(0, 1).flatten(0, 1)

    return nested.map(joint, state)


def part(state: Any, total: int) -> Any:
    """The state of this rank's columns, from that of all."""
    if _Place.size == 1 or not total:
        return state
    columns = share_of(total).columns

    def own(leaf: Tensor) -> Tensor:
        return leaf.unflatten(0, (-1, total))[:, columns].flatten(0, 1)

    return nested.map(own, state)

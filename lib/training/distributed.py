"""One run trained by several processes, a share of every batch in each, as one process would train it.

With W processes, each beside its own GPU or core, and P parts of a batch (`Run.parts`):

- P = 1: ε is of the whole batch. DistributedDataParallel averages the gradients of both passes over the processes, and
  batch norms normalize by the statistics of the whole batch.
- P = kW: ε is of each device. A process climbs by the gradients of its own k parts, which are not exchanged; only those
  at w + ε are averaged. That is m-SAM with m = batch_size/P. Batch norms normalize by the part, and their running
  statistics become those of one process that takes the parts in turn.

The shares are consecutive pieces of the batch that the run's seed draws, so the result is that of
`lib.training.loop.Loop` to rounding, and the run's key is the same. `Leading` is the engine of process 0, which alone
decides, checkpoints and records; the others `follow` it.
"""

import contextlib

import torch
import torch.distributed as dist
from torch import nn

from lib import data
from lib.core import own
from lib.core.ambient import exactly
from lib.training.loop import Loop, summary


class Distributed(Loop):
    """The share that this process has in training a run. All processes must call the same methods.

    Raises ValueError for a run that is not trained so.
    """

    name = "distributed"

    def __init__(self, runs, device: torch.device):
        super().__init__(runs, device)
        self.rank, count = dist.get_rank(), self.processes()
        _check(self.run, count, self.data)
        self.pieces = max(self.run.parts, count)  # of a batch; each process has equally many, one after the other
        if self.run.parts == 1:
            share_batch_norms(self.model)
        self.norms = [m for m in self.model.modules() if isinstance(m, nn.BatchNorm2d)]
        if data.streamed(self.run.dataset) and device.type == "cuda":
            self.data.processes = max(1, self.data.processes // min(count, torch.cuda.device_count()))
        places = [device] if device.type == "cuda" else None
        self.wrapped = nn.parallel.DistributedDataParallel(self.model, device_ids=places, broadcast_buffers=False)
        self.advance, self.passes = self._step, 0  # in a graph, the processes could not wait for each other

    @staticmethod
    def processes() -> int:
        """How many train together."""
        return dist.get_world_size()

    def train(self, epoch: int) -> None:
        super().train(epoch)
        dist.all_reduce(self.total)
        dist.all_reduce(self.hits)

    def batches(self, epoch: int):
        return self.data.epoch(self.run.seed, epoch, share=self._share)

    def _share(self, batch: torch.Tensor) -> torch.Tensor:
        each = self.pieces // self.processes()
        return torch.cat(batch.tensor_split(self.pieces)[self.rank * each : (self.rank + 1) * each])

    def step(self, step: int, x: torch.Tensor, y: torch.Tensor) -> None:
        start = step % self.data.steps_per_epoch * self.run.batch_size
        self.samples = min(self.run.batch_size, self.data.n - start)  # in the whole batch
        super().step(step, x, y)

    def _step(self, x: torch.Tensor, y: torch.Tensor) -> None:
        parts = self.run.parts // self.processes() or 1
        climbing = any(group["rho"] > 0 for group in self.optimizer.param_groups)
        self.passes_each, self.passes = 1 + climbing * self.run.ascent_steps, 0
        in_turn = self.run.parts > 1 and self.norms
        before = self._statistics() if in_turn else None
        self.optimizer.step(self._closures(x, y, parts))
        if in_turn:
            moving = 1 if self.run.batch_norm_passes == "first" else self.passes_each
            self._take_in_turn(before, parts * moving)

    def _differentiate(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.passes += 1
        alone = self.run.parts > 1 and self.passes % self.passes_each != 0  # by this gradient only this process climbs
        # The mean over the processes of what they send is the mean over the batch, or over its parts.
        weight = self.processes() * len(y) / self.samples if self.run.parts == 1 else 1.0
        with self.wrapped.no_sync() if alone else contextlib.nullcontext():
            output = self.wrapped(x)
            loss = self._loss(output, y)
            objective = loss * weight
            if self.run.decay_in_ascent:  # before it is averaged, as every process has an ε of its own
                objective = objective + self.run.weight_decay / 2 * sum(p.square().sum() for p in self.parameters)
            objective.backward()
        return output, loss

    def _statistics(self) -> torch.Tensor:
        return torch.cat([b for norm in self.norms for b in (norm.running_mean, norm.running_var)])

    @torch.no_grad()
    def _take_in_turn(self, before: torch.Tensor, updates: int) -> None:
        """Set the running statistics to those after the updates of all processes, so many each, one after the other.

        One update is r ← (1 − m)r + m·s, so those of a process are r ← (1 − m)^updates·r + c, of which c is known from
        where they took this process.
        """
        rate = torch.cat([torch.full_like(n.running_mean.repeat(2), n.momentum) for n in self.norms])
        kept, mine = (1 - rate) ** updates, self._statistics()
        reached = [torch.empty_like(mine) for _ in range(self.processes())]
        dist.all_gather(reached, mine)
        after = before
        for one in reached:
            after = kept * after + (one - kept * before)
        parts = after.split([norm.num_features for norm in self.norms for _ in range(2)])
        for norm, mean, variance in zip(self.norms, parts[::2], parts[1::2], strict=True):
            norm.running_mean.copy_(mean)
            norm.running_var.copy_(variance)
            norm.num_batches_tracked += updates * (self.processes() - 1)

    @torch.no_grad()
    def evaluate(self, split: str) -> list[dict]:
        values, hits = self._evaluated(self.data.chunks(split, part=(self.rank, self.processes())))
        count = len(getattr(self.data, split)[1])
        return [summary(self._whole(values, count), None if hits is None else self._whole(hits, count))]

    def _whole(self, mine: torch.Tensor, count: int) -> torch.Tensor:
        """The values of all `count` samples, of which those of this process stand in their place."""
        result = mine.new_zeros(count)
        first = count * self.rank // self.processes()
        result[first : first + len(mine)] = mine
        dist.all_reduce(result)
        return result


class Leading(Distributed):
    """The engine of process 0: what is asked of it is asked of all."""

    def __init__(self, runs, device: torch.device, *, plain: bool = False):
        if len(runs) > 1:
            raise ValueError(
                f"{len(runs)} runs of {runs[0].model} of width {runs[0].width:g} train faster as one group in one "
                "process: run them without torchrun"
            )
        if plain:
            raise ValueError("the self-check failed on this machine (docs/onednn.md): run it without torchrun")
        _tell("begin", list(runs))
        super().__init__(runs, device)

    def epoch(self, epoch: int):
        _tell("epoch", epoch)
        return super().epoch(epoch)

    def evaluate(self, split: str) -> list[dict]:
        _tell("evaluate", split)
        return super().evaluate(split)

    def load_state_dict(self, state: dict) -> None:
        _tell("load_state_dict", torch.utils._pytree.tree_map_only(torch.Tensor, torch.Tensor.cpu, state))
        super().load_state_dict(state)


def _tell(*message) -> None:
    """Send this from process 0 to the others."""
    dist.broadcast_object_list([message], src=0, device=torch.device("cpu"))


def dismiss() -> None:
    """From process 0: the others may go."""
    _tell("end")


def follow(device: torch.device) -> None:
    """Do what process 0 does, until it dismisses this one."""
    while True:
        heard = [None]
        dist.broadcast_object_list(heard, src=0, device=torch.device("cpu"))
        name, *given = heard[0]
        if name == "end":
            return
        with exactly(device):
            if name == "begin":
                engine = Distributed(*given, device)
            else:
                getattr(engine, name)(*given)


def _check(run, processes: int, batches) -> None:
    """Raise ValueError, naming field, value and remedy, for a run that so many processes do not train together."""
    if run.parts % processes and run.parts != 1:
        raise ValueError(
            f"parts = {run.parts}: must be 1, for ε of the whole batch, or a multiple of the {processes} processes, "
            "for ε of each device"
        )
    for name, usual in (("ascent_batch", "same"), ("perturbation", "gradient"), ("linearize", "none")):
        if getattr(run, name) != usual:
            raise ValueError(f"{name} = {getattr(run, name)!r}: is trained by one process; run it without torchrun")
    if own.is_own(run.model):
        raise ValueError(f"model = {run.model!r}: a model of your own is trained by one process, without torchrun")
    least = min(run.batch_size, batches.n % run.batch_size or run.batch_size, batches.n)
    for count, what in ((least, "the smallest batch has"), (len(batches.test[1]), "the test set has")):
        if count < max(run.parts, processes):
            raise ValueError(f"{what} {count} samples, for {max(run.parts, processes)} parts: take fewer processes")


# ------------------------------------------------------------------------------------- batch norm of the whole batch


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm by the mean and variance of what all processes see, which torch's SyncBatchNorm gives on GPUs only."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        variance, mean = torch.var_mean(x, (0, 2, 3), correction=0)
        mine = torch.cat([mean, variance, mean.new_tensor([x.numel() // x.shape[1]])])
        means, variances, counts = _Gather.apply(mine).split([len(mean), len(mean), 1], 1)
        n = counts.sum()
        mean = (counts * means).sum(0) / n
        variance = (counts * (variances + (means - mean).square())).sum(0) / n
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * n / (n - 1), self.momentum)
        scale = self.weight * (variance + self.eps).rsqrt()
        shift = self.bias - mean * scale
        return torch.addcmul(shift[:, None, None], x, scale[:, None, None])


class _Gather(torch.autograd.Function):
    """The vectors of all processes, one a row; the gradient of each is the sum of what all have for it."""

    @staticmethod
    def forward(ctx, mine):
        rows = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
        dist.all_gather(rows, mine)
        return torch.stack(rows)

    @staticmethod
    def backward(ctx, gradient):
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[dist.get_rank()]


def share_batch_norms(model: nn.Module) -> None:
    """Make every batch norm of the model one of the whole batch; weights and statistics stay where they are."""
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm2d

"""One training run from its specification to its record: the reference that every faster engine must agree with.

`Loop` trains one run of any network with autograd and `lib.sam.SAM`, step by step.
"""

import contextlib
from collections.abc import Sequence

import torch
from torch import nn

from lib import data
from lib.core import losses
from lib.models import masking
from lib.runs import Run
from lib.sam import SAM
from lib.training import cuda_graph, perturbation
from lib.training.batches import Batches, StreamedBatches
from lib.training.schedule import climb_scale, learning_rate

CONVOLUTIONAL = ("resnet18", "resnet50", "preact_resnet18", "preact_resnet34", "vgg11")
WIDE = 8  # filters from which on these are faster on a CPU, by a third or more, with channels last


class Loop:
    """One run, any network: autograd and the SAM optimizer, a step at a time."""

    name = "loop"
    channels_last = True  # where that is faster

    def __init__(self, runs: Sequence[Run], device: torch.device):
        (self.run,) = self.runs = list(runs)
        run, self.device = self.run, device
        self.data = (StreamedBatches if data.streamed(run.dataset) else Batches)(run, device)
        self.model, masks = self.data.network(run)
        if self.channels_last and device.type == "cpu" and run.model in CONVOLUTIONAL and run.width >= WIDE:
            self.model.to(memory_format=torch.channels_last)
        parameters = dict(self.model.named_parameters())
        self.parameters = [p for p in parameters.values() if p.requires_grad]
        self.masked = [(parameters[name], mask) for name, mask in masks.items()]
        self.kept, self.digests = [masking.kept(masks)], [masking.digest(masks)]
        self.optimizer = SAM(
            self.model.parameters(),
            torch.optim.SGD,
            rho=run.rho,
            normalized=run.normalized,
            clip=run.clip,
            steps=run.ascent_steps,
            model=self.model if run.batch_norm_passes == "first" else None,
            lr=run.lr,
            momentum=run.momentum,
            weight_decay=0.0 if run.decay_in_ascent else run.weight_decay,
        )
        self.previous = None  # the batch before
        self.advance, self.rate = self._step, None
        if device.type == "cuda":  # where a graph is recorded, which can read a rate only from a tensor
            self.rate = torch.zeros((), device=device)
            for group in self.optimizer.param_groups:
                group.update(lr=self.rate, fused=True)
            if perturbation.steady(run):
                self.advance = cuda_graph.Replayed(self._step)
        self.total = torch.zeros((), dtype=torch.float64, device=device)
        self.hits = torch.zeros((), dtype=torch.int64, device=device)

    def epoch(self, epoch: int) -> list[tuple[float, float | None]]:
        """Train one epoch; for each run the mean loss and the accuracy at w."""
        self.train(epoch)
        regression = self.data.train[1].is_floating_point()
        return [(self.total.item() / self.data.n, None if regression else self.hits.item() / self.data.n)]

    def train(self, epoch: int) -> None:
        """Take the steps of an epoch; `total` and `hits` are then its sums of losses and of hits at w."""
        self.model.train()
        self.total.zero_()
        self.hits.zero_()
        for i, (x, y) in enumerate(self.batches(epoch)):
            self.step(epoch * self.data.steps_per_epoch + i, x, y)

    def batches(self, epoch: int):
        """Yield the batches of an epoch."""
        if self.run.ascent_batch == "other":
            self.previous = self.data.before(self.run.seed, epoch)
        return self.data.epoch(self.run.seed, epoch)

    def step(self, step: int, x: torch.Tensor, y: torch.Tensor) -> None:
        """Step number `step`, on the batch (x, y), adding its loss and its hits at w to `total` and `hits`."""
        rate = learning_rate(self.run, step, self.data.steps_per_epoch)
        scale = climb_scale(self.run, step, self.data.steps_per_epoch)
        self.optimizer.step_size = self.run.ascent_step * scale or None
        for group in self.optimizer.param_groups:
            group["rho"] = self.run.rho * scale
            if self.rate is None:
                group["lr"] = rate
        if self.rate is not None:
            self.rate.fill_(rate)
        if scale and perturbation.climbs_elsewhere(self.run):
            self._step_apart(step, x, y)
        else:
            self.advance(x, y)
        if self.run.ascent_batch == "other":
            self.previous = x, y

    def _step(self, x: torch.Tensor, y: torch.Tensor) -> None:
        self.optimizer.step(self._closures(x, y, min(self.run.parts, len(y))))

    def _step_apart(self, step: int, x: torch.Tensor, y: torch.Tensor) -> None:
        """Climb by something else than the batch (x, y), whose loss at w takes a pass of its own."""
        if self.run.perturbation == "random":
            noise = perturbation.draw(self.run.seed, step, self.parameters)
            closures, ascent = self._closure(x, y, counted=False), lambda: self._climb_by(noise)
        else:
            other = self.previous or (x, y)
            parts = min(self.run.parts, len(y), len(other[1]))
            closures, ascent = (self._closures(*batch, parts, counted=False) for batch in ((x, y), other))
        first, still = self.run.batch_norm_passes == "first", _still(self.model)
        with contextlib.nullcontext() if first else still, torch.no_grad():
            output = self.model(x)
            self._count(output, y, self._loss(output, y))
        with still if first else contextlib.nullcontext():
            self.optimizer.step(closures, ascent=ascent)

    def _climb_by(self, noise: list[torch.Tensor]) -> torch.Tensor:
        for p, one in zip(self.parameters, noise, strict=True):
            p.grad = one
        self._mask_gradients()
        return torch.zeros(())

    def _mask_gradients(self) -> None:
        for weight, mask in self.masked:
            if weight.grad is not None:  # of a module that the pass calls
                weight.grad.mul_(mask)

    def _closures(self, x: torch.Tensor, y: torch.Tensor, parts: int, counted: bool = True):
        """A closure for `SAM.step`, or one for each part of the batch."""
        pairs = zip(x.tensor_split(parts), y.tensor_split(parts), strict=True)
        closures = [self._closure(*pair, counted) for pair in pairs]
        return closures if parts > 1 else closures[0]

    def _closure(self, x: torch.Tensor, y: torch.Tensor, counted: bool = True):
        """What `SAM.step` takes for these samples; if they are counted, the first call adds their losses and hits."""
        first = counted

        def closure():
            nonlocal first
            self.optimizer.zero_grad()
            output, loss = self._differentiate(x, y)
            self._mask_gradients()
            if first:
                first = False
                self._count(output, y, loss)
            return loss

        return closure

    def _differentiate(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The output and the mean loss of these samples, whose gradient, with the decay, is left in the parameters."""
        output = self.model(x)
        loss = self._loss(output, y)
        loss.backward()
        if self.run.decay_in_ascent:
            for p in (p for p in self.parameters if p.grad is not None):
                p.grad.add_(p.detach(), alpha=self.run.weight_decay)
        return output, loss

    def _loss(self, output: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return losses.per_sample(self.run.loss, output, self.data.loss_target(y)).mean()

    def _count(self, output: torch.Tensor, y: torch.Tensor, loss: torch.Tensor) -> None:
        self.total += loss.detach().double() * len(y)
        if not y.is_floating_point():
            self.hits += (output.argmax(1) == y).sum()

    @torch.no_grad()
    def evaluate(self, split: str) -> list[dict]:
        """Loss and accuracies over a whole split, in evaluation mode."""
        return [summary(*self._evaluated(self.data.chunks(split)))]

    def _evaluated(self, chunks) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The loss of each sample and whether it is classified rightly, None for regression."""
        self.model.eval()
        values, hits = [], []
        for x, y in chunks:
            output = self.model(x)
            values.append(losses.per_sample(self.run.loss, output, self.data.loss_target(y)).double())
            hits += [] if y.is_floating_point() else [(output.argmax(1) == y).double()]
        return torch.cat(values), torch.cat(hits) if hits else None

    def network(self, member: int) -> nn.Module:
        """The run's network as it is now."""
        return self.model

    def state_dict(self) -> dict:
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.rate is not None:
            for group in self.optimizer.param_groups:
                group["lr"] = self.rate


class PlainLoop(Loop):
    """The plainest engine there is, for where another one fails: all tensors are contiguous."""

    name = "plain loop"
    channels_last = False


@contextlib.contextmanager
def _still(model: nn.Module):
    """Afterwards the buffers of the model, such as running statistics, are as they were."""
    before = [b.clone() for b in model.buffers()]
    yield
    with torch.no_grad():
        for b, value in zip(model.buffers(), before, strict=True):
            b.copy_(value)


def summary(losses: torch.Tensor, hits: torch.Tensor | None) -> dict:
    """Mean loss, accuracy, and accuracy on even and on odd indices (None for regression), from N values each."""
    rates = [None] * 3 if hits is None else [h.mean().item() for h in (hits, hits[::2], hits[1::2])]
    return {"loss": losses.mean().item()} | dict(zip(("accuracy", "accuracy_even", "accuracy_odd"), rates, strict=True))

"""Several runs of one convolutional network as one network: every layer has a group of channels for each run.

A convolution with `groups` = R acts on R runs side by side, and batch norm has its statistics for each channel, so each
run keeps exactly its own. The loss is the sum of the runs' losses, of which each weight sees its own run's only. SAM
climbs in a second network of the members with ρ > 0 whose batch norm keeps no statistics: they move in the first pass.
"""

import copy
from collections.abc import Sequence

import torch
from torch import nn

from lib.core import losses
from lib.models import masking
from lib.runs import Run
from lib.training.batches import Batches
from lib.training.loop import summary
from lib.training.schedule import learning_rate


class GroupedLinear(nn.Module):
    """R linear layers side by side: B×(R·inputs) to B×R×outputs."""

    def __init__(self, layers: Sequence[nn.Linear]):
        super().__init__()
        self.weight = nn.Parameter(torch.stack([layer.weight.detach() for layer in layers]))
        self.bias = nn.Parameter(torch.stack([layer.bias.detach() for layer in layers]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        members = len(self.weight)
        rows = x.view(len(x), members, -1).transpose(0, 1)
        return torch.baddbmm(self.bias.unsqueeze(1), rows, self.weight.mT).transpose(0, 1)


def merge(modules: Sequence[nn.Module], momentum: float | None = None) -> nn.Module:
    """One network that does what each of `modules`, which are alike, does to its group of channels.

    momentum: of the running statistics of batch norm, by default the modules' own.

    >>> two = merge([nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)])
    >>> two.in_channels, two.groups
    (6, 2)
    """
    first, members = modules[0], len(modules)
    if isinstance(first, nn.Linear):
        return GroupedLinear(modules)
    if isinstance(first, nn.Conv2d):
        merged = type(first)(
            members * first.in_channels,
            members * first.out_channels,
            first.kernel_size,
            first.stride,
            first.padding,
            groups=members,
            bias=first.bias is not None,
        )
    elif isinstance(first, nn.BatchNorm2d):
        rate = first.momentum if momentum is None else momentum
        merged = nn.BatchNorm2d(members * first.num_features, first.eps, rate)
    elif isinstance(first, nn.GroupNorm):
        merged = nn.GroupNorm(members * first.num_groups, members * first.num_channels, first.eps)
    else:
        merged = copy.deepcopy(first)
        for name, _ in first.named_children():
            setattr(merged, name, merge([getattr(module, name) for module in modules], momentum))
        return merged
    values = {name: [module.state_dict()[name] for module in modules] for name in first.state_dict()}
    state = {name: torch.cat(value) if value[0].dim() else value[0] for name, value in values.items()}
    merged.to(first.weight.device, first.weight.dtype).load_state_dict(state)
    return merged


def _each(tensor: torch.Tensor, members: int) -> torch.Tensor:
    """A parameter of a merged network, or its gradient, as a view of members × what is one member's."""
    return tensor.unflatten(0, (members, -1))


def _stacked_masks(built) -> dict[str, torch.Tensor]:
    """members × weight's shape, of each weight that some member has a mask for."""
    masks = {}
    for name, p in built[0][0].named_parameters():
        parts = [mask.get(name, torch.ones_like(p, dtype=torch.bool)) for _, mask in built]
        if any(name in mask for _, mask in built):
            masks[name] = torch.stack(parts)
    return masks


class Grouped:
    """An engine for R runs of one convolutional network, those with ρ = 0 first.

    >>> runs = [Run(dataset="digits", model="vgg11", width=1, seed=seed, n_train=4, batch_size=4) for seed in (0, 1)]
    >>> group = Grouped(runs, torch.device("cpu"))
    >>> len(group.epoch(0))  # of each run, its loss and accuracy
    2
    """

    name = "grouped"

    def __init__(self, runs: Sequence[Run], device: torch.device):
        self.runs, self.device, self.run = list(runs), device, runs[0]
        if [r.rho > 0 for r in runs] != sorted(r.rho > 0 for r in runs):
            raise ValueError("the runs of a group must have those with rho = 0 first")
        self.data = Batches(self.run, device)
        self.seeds = list(dict.fromkeys(r.seed for r in runs))
        self.seed_of_member = torch.tensor([self.seeds.index(r.seed) for r in runs], device=device)
        self.sam = slice(sum(r.rho == 0 for r in runs), len(runs))
        built = [self.data.network(r) for r in runs]
        self.net = self._merged([model for model, _ in built])
        self.climbed = self._merged([m for m, _ in built[self.sam]], momentum=0.0) if built[self.sam] else None
        self.masks = _stacked_masks(built)
        self.kept, self.digests = ([tell(mask) for _, mask in built] for tell in (masking.kept, masking.digest))
        self.rho = torch.tensor([r.rho for r in runs[self.sam]], device=device, dtype=torch.float64)
        self.normalized = torch.tensor([r.normalized for r in runs[self.sam]], device=device)
        self.optimizer = torch.optim.SGD(
            self.net.parameters(), lr=self.run.lr, momentum=self.run.momentum, weight_decay=self.run.weight_decay
        )
        self.total = torch.zeros(len(runs), dtype=torch.float64, device=device)
        self.hits = torch.zeros(len(runs), dtype=torch.int64, device=device)

    def _merged(self, modules, momentum=None) -> nn.Module:
        return merge(modules, momentum).to(memory_format=torch.channels_last)

    def epoch(self, epoch: int) -> list[tuple[float, float | None]]:
        """Train one epoch; for each run the mean loss and the accuracy at w."""
        self.net.train()
        self.total.zero_()
        self.hits.zero_()
        for i, (x, y) in enumerate(self.batches(epoch)):
            self.step(epoch * self.data.steps_per_epoch + i, x, y)
        return list(zip((self.total / self.data.n).tolist(), (self.hits.double() / self.data.n).tolist(), strict=True))

    def batches(self, epoch: int):
        """Yield x (S×B×C×H×W) and y (S×B), one batch for each of the S seeds of the members."""
        for parts in zip(*(self.data.epoch(seed, epoch) for seed in self.seeds), strict=True):
            yield tuple(torch.stack(part) for part in zip(*parts, strict=True))

    def step(self, step: int, x: torch.Tensor, y: torch.Tensor) -> None:
        """Step number `step` of every member on its batch, adding its loss and hits at w to `total` and `hits`."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.run, step, self.data.steps_per_epoch)
        self.optimizer.zero_grad()
        y = y[self.seed_of_member]
        output, values = self._descend(self.net, x, y, slice(0, len(self.runs)))
        self.total += values.detach().double() * y.shape[1]
        self.hits += (output.argmax(-1) == y).sum(1)
        if self.climbed:
            self._climb()
            self.climbed.train()
            self.climbed.zero_grad()
            self._descend(self.climbed, x, y, self.sam)
            for p, e in zip(self.net.parameters(), self.climbed.parameters(), strict=True):
                _each(p.grad, len(self.runs))[self.sam] = _each(e.grad, len(self.rho))
        self.optimizer.step()

    def _descend(self, net: nn.Module, x, y, who: slice) -> tuple[torch.Tensor, torch.Tensor]:
        """The outputs R×B×K of the members `who`, and each one's mean loss; their gradients are in `net`, masked."""
        output = net(
            x[self.seed_of_member[who]].transpose(0, 1).flatten(1, 2).contiguous(memory_format=torch.channels_last)
        )
        output = output.transpose(0, 1)
        values = torch.stack(
            [
                losses.per_sample(self.run.loss, o, self.data.loss_target(t)).mean()
                for o, t in zip(output, y[who], strict=True)
            ]
        )
        values.sum().backward()
        for name, p in net.named_parameters():
            if name in self.masks:
                p.grad.mul_(self.masks[name][who].view_as(p))
        return output.detach(), values

    @torch.no_grad()
    def _climb(self) -> None:
        """Put w + ε of each SAM member in the second network: ε = ρg/‖g‖, or ρg, the norm over all its layers."""
        split = [[_each(t, len(self.runs))[self.sam] for t in (p, p.grad)] for p in self.net.parameters()]
        norm = sum(g.double().square().flatten(1).sum(1) for _, g in split).sqrt()
        scale = torch.where(self.normalized, torch.where(norm > 0, self.rho / norm, 0), self.rho)
        for e, (w, g) in zip(self.climbed.parameters(), split, strict=True):
            s = scale.to(g.dtype).view(-1, *[1] * (g.dim() - 1))
            torch.addcmul(w, g, s, out=_each(e.detach(), len(scale)))

    @torch.no_grad()
    def evaluate(self, split: str) -> list[dict]:
        """Loss and accuracies of each run over a whole split, in evaluation mode."""
        self.net.eval()
        values, hits = [], []
        for x, y in self.data.chunks(split):
            output = self.net(x.repeat(1, len(self.runs), 1, 1)).transpose(0, 1)
            target = self.data.loss_target(y)
            values.append(torch.stack([losses.per_sample(self.run.loss, o, target).double() for o in output]))
            hits.append((output.argmax(-1) == y).double())
        return [summary(v, h) for v, h in zip(torch.cat(values, 1), torch.cat(hits, 1), strict=True)]

    @torch.no_grad()
    def network(self, member: int) -> nn.Module:
        """The network of that member as it is now."""
        model, _ = self.data.network(self.runs[member])
        merged = self.net.state_dict()
        state = {
            name: _each(merged[name], len(self.runs))[member].reshape(value.shape) if value.dim() else merged[name]
            for name, value in model.state_dict().items()
        }
        model.load_state_dict(state)
        return model

    def state_dict(self) -> dict:
        return {"net": self.net.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])

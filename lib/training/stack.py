"""Many runs as one program: stacked parameters, one batched step for all, the backward pass written by hand.

The members of a stack share everything but optimizer, ρ, normalization, seed and mask. Each layer of all R members is
one tensor, weights R×out×in and biases R×out, so that one batched product serves all:

    forward    Z_l = A_{l−1} W_lᵀ + b_l,   A_l = max(Z_l, 0)
    backward   ∇W_l = D_lᵀ A_{l−1},   ∇b_l = Σ_samples D_l,   D_{l−1} = (D_l W_l) ⊙ [A_{l−1} > 0]

with D_L the gradient of the loss in the outputs. Members with ρ = 0 stand first and take no second pass. Every member
has the initialization and the data order of its own seed, so it does not depend on who trains beside it.

What SAM needs not form of the gradient at w, `lib.training.stack_passes` says. Of the other ways to climb
(`lib.runs.climbing`) `stack_parts` has m-SAM and `stack_climbs` those in several steps, by another batch, at random or
with weight decay.
"""

import functools
import itertools
from collections.abc import Sequence

import torch
from torch import nn

from lib import models
from lib.core import losses
from lib.models import masking
from lib.runs import Run
from lib.training import cuda_graph, perturbation
from lib.training.batches import Batches
from lib.training.loop import summary
from lib.training.schedule import climb_scale, learning_rate
from lib.training.stack_climbs import Climbs, forms_every_gradient
from lib.training.stack_parts import Parts
from lib.training.stack_passes import Parameters, Pass, unformed


class Stack:
    """An engine for R runs of one fully connected network, those with ρ = 0 first.

    >>> runs = [Run(dataset="digits", width=0.03, seed=seed, n_train=64, batch_size=32) for seed in (0, 1)]
    >>> stack = Stack(runs, torch.device("cpu"))
    >>> len(stack.epoch(0))  # of each run, its loss and accuracy
    2
    """

    name = "stack"

    def __init__(self, runs: Sequence[Run], device: torch.device):
        self.runs, self.device = list(runs), device
        run = self.run = runs[0]
        if [r.rho > 0 for r in runs] != sorted(r.rho > 0 for r in runs):
            raise ValueError("the runs of a stack must have those with rho = 0 first")
        self.data = Batches(run, device)
        self.dtype = self.data.dtype
        units = models.layer_sizes(run.model, run.width, self.data.in_shape, self.data.classes)
        self.relu = self.bias = run.model != "linear2"
        self.seeds = list(dict.fromkeys(r.seed for r in runs))
        sam = slice(sum(r.rho == 0 for r in runs), len(runs))
        self.rho = torch.tensor([r.rho for r in runs[sam]], device=device, dtype=torch.float64)
        self.full_rho, self.scale, self.number = self.rho.clone(), 1.0, 0  # of the step that is taken
        self.normalized = torch.tensor([r.normalized for r in runs[sam]], device=device)
        shapes = []
        for before, after in itertools.pairwise(units):
            shapes += [(len(runs), after, before)] + [(len(runs), after)] * self.bias
        buffers = functools.partial(Parameters, shapes, self.dtype, device)
        self.weights, self.gradients = buffers(), buffers()
        self.momentum = buffers() if run.momentum else None
        self.masks = buffers() if any(r.masked for r in runs) else None
        simple = not (self.masks or forms_every_gradient(run))
        whole, last = min(run.batch_size, self.data.n), self.data.n % run.batch_size
        sizes = {whole, last or whole}
        self.parts = Parts(run.parts, sizes, self.dtype, device) if simple and run.parts > 1 else None  # one by one
        self.unformed = unformed(units, run.batch_size, run.parts) if simple else []
        self.sum = buffers() if run.parts > 1 and not self.parts else None
        empty = [i * (1 + self.bias) for i in self.unformed]
        self.formed = [i for i in range(len(shapes)) if i not in empty]
        every = slice(0, len(runs))
        if self.rho.numel():
            self.perturbed = self.weights if self.parts else Parameters(shapes, self.dtype, device, without=empty)
        else:
            self.perturbed = None
        self._initialize()
        self.at_w = Pass(self, self.weights, every, descend=slice(0, sam.start))
        self.alone = Pass(self, self.weights, every, descend=every) if run.switch else self.at_w  # no member climbs
        self.at_perturbed = Pass(self, self.perturbed, sam, descend=sam) if self.perturbed else None
        self.climbs = Climbs(self, shapes) if self.perturbed and forms_every_gradient(run) else None
        self.total = torch.zeros(len(runs), dtype=torch.float64, device=device)
        self.hits = torch.zeros(len(runs), dtype=torch.int64, device=device)
        # A tensor, so that a graph can read it; the fused step of a GPU takes it in single precision whatever w is in.
        self.rate = torch.zeros((), dtype=torch.float32 if device.type == "cuda" else self.dtype, device=device)
        self.optimizer = self._optimizer()
        recorded = device.type == "cuda" and perturbation.steady(run)
        self.advance = cuda_graph.Replayed(self._step) if recorded else self._step
        self.previous = None  # the batches before

    def _initialize(self) -> None:
        if self.masks:
            self.masks.flat.fill_(1)
        self.kept, self.digests = [], []
        for i, run in enumerate(self.runs):
            model, masks = self.data.network(run)
            self.kept.append(masking.kept(masks))
            self.digests.append(masking.digest(masks))
            for at, (name, p) in enumerate(model.named_parameters()):
                self.weights.layers[at][i].copy_(p.detach())
                if name in masks:
                    self.masks.layers[at][i].copy_(masks[name])

    def _optimizer(self) -> torch.optim.SGD:
        """SGD for all layers of all members at once, on the buffers themselves."""
        weights = nn.Parameter(self.weights.flat)
        weights.grad = self.gradients.flat  # contiguous, as the fused step on a CPU needs it to be right
        decay = 0.0 if self.run.decay_in_ascent else self.run.weight_decay
        settings = dict(momentum=self.run.momentum, weight_decay=decay, fused=True)
        optimizer = torch.optim.SGD([weights], lr=self.rate, **settings)
        if self.momentum:
            optimizer.state[weights]["momentum_buffer"] = self.momentum.flat
        return optimizer

    def epoch(self, epoch: int) -> list[tuple[float, float | None]]:
        """Train one epoch; for each run the mean loss and the accuracy at w."""
        self.total.zero_()
        self.hits.zero_()
        for i, (x, y) in enumerate(self.batches(epoch)):
            self.step(epoch * self.data.steps_per_epoch + i, x, y)
        rates = [None] * len(self.runs) if self._regression else (self.hits.double() / self.data.n).tolist()
        return list(zip((self.total / self.data.n).tolist(), rates, strict=True))

    @property
    def _regression(self):
        return self.data.train[1].is_floating_point()

    def batches(self, epoch: int):
        """Yield x (S×B×D) and y (S×B or S×B×K), one batch for each of the S seeds of the members."""
        if self.run.ascent_batch == "other":
            self.previous = self._rows(self._order(epoch - 1)[-1]) if epoch else None
        yield from map(self._rows, self._order(epoch))

    def _order(self, epoch: int) -> tuple[torch.Tensor, ...]:
        """The numbers S×B of the samples in each batch of an epoch."""
        return torch.stack([self.data.order(seed, epoch) for seed in self.seeds]).split(self.run.batch_size, dim=1)

    def _rows(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x, y = self.data.train[0].flatten(1), self.data.train[1]
        return tuple(part.index_select(0, index.flatten()).view(*index.shape, *part.shape[1:]) for part in (x, y))

    def step(self, step: int, x: torch.Tensor, y: torch.Tensor) -> None:
        """Step number `step` of every member on its batch, adding its loss and hits at w to `total` and `hits`."""
        self.rate.fill_(learning_rate(self.run, step, self.data.steps_per_epoch))
        self.number, self.scale = step, climb_scale(self.runs[-1], step, self.data.steps_per_epoch)
        if self.run.rho_schedule == "lr":
            torch.mul(self.full_rho, self.scale, out=self.rho)
        self.advance(x, y)
        if self.run.ascent_batch == "other":
            self.previous = x, y

    def _step(self, x: torch.Tensor, y: torch.Tensor) -> None:
        other = (self.previous or (x, y)) if self.run.ascent_batch == "other" else (x, y)
        parts = min(self.run.parts, x.shape[1], other[0].shape[1])
        if parts == 1 or self.parts:
            self._gradient(x, y, other)
        else:  # each part climbs by itself
            self.sum.flat.zero_()
            batches = zip(*(part.tensor_split(parts, 1) for part in (x, y, *other)), strict=True)
            for x_part, y_part, *other_part in batches:
                self._gradient(x_part, y_part, other_part)
                self.sum.flat += self.gradients.flat
            torch.div(self.sum.flat, parts, out=self.gradients.flat)
        self.optimizer.step()

    def _gradient(self, x: torch.Tensor, y: torch.Tensor, other: tuple) -> None:
        """The gradient of each member, at its perturbed weights if it is of SAM, into `gradients`.

        other: the batch by which the members climb.
        """
        climbing = self.at_perturbed and self.scale > 0
        at_w = self.at_w if climbing else self.alone
        z, labels = at_w.first(x), y[at_w.seed_of_member]
        loss_gradient = functools.partial(self.loss_gradient, y=labels, total=self.total)
        if climbing and perturbation.climbs_elsewhere(self.run) and len(self.rho) == len(self.runs):
            activations = at_w.forward(z)
            loss_gradient(activations[-1])
        else:
            activations, signals = at_w.gradient(x, z, loss_gradient)
        if not self._regression:
            self.hits += (activations[-1].argmax(-1) == labels).sum(1)
        if self.run.decay_in_ascent:
            self.gradients.flat.add_(self.weights.flat, alpha=self.run.weight_decay)
        if not climbing:
            return
        if self.climbs:
            self.climbs.gradient(x, y, other if self.run.ascent_batch == "other" else None)
            return
        who, columns = self.at_perturbed.who, self.at_perturbed.columns
        factors = {i: (signals[i][who], activations[i - 1][who]) for i in self.unformed if i}
        z, d = z[:, -columns:], signals[0][:, -columns:]
        if self.parts:
            z, climb = self.parts.climb(self, x, z, d, factors)
        else:
            z, climb = self._climb_whole(x, z, d, factors)
        self.at_perturbed.gradient(x, z, functools.partial(self.loss_gradient, y=labels[who]), climb)

    def _climb_whole(self, x: torch.Tensor, z: torch.Tensor, d: torch.Tensor, factors: dict) -> tuple:
        """The first layer's outputs at w + ε, from those at w and their gradient d, and (sD_l, A_{l−1}) of the other
        layers whose gradient is not formed."""
        moved, square = self._first_layer(x, d) if 0 in self.unformed else (None, 0)
        scale = self._climb(square, factors)
        if moved is None:
            z = self.at_perturbed.first(x)
        else:
            z = torch.addcmul(z, moved, scale.repeat_interleave(len(moved[0]) // len(scale)))
        return z, {i: (scale.view(-1, 1, 1) * d, a) for i, (d, a) in factors.items()}

    def _first_layer(self, x: torch.Tensor, d: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """For ε = g of the first layer, how far its outputs move (B×columns), and ‖G₁‖² of each SAM member."""
        gram, moved, members = torch.bmm(x, x.mT), torch.empty_like(d), self.at_perturbed
        for seed, part in members.segments:
            torch.mm(gram[seed], d[:, part], out=moved[:, part])
        square = (moved * d).view(len(d), len(self.rho), -1).sum((0, 2), dtype=torch.float64)
        if members.db:
            moved += members.db[0].flatten()
        return moved, square

    def _climb(self, square: torch.Tensor | float, factors: dict[int, tuple]) -> torch.Tensor:
        """Perturb the layers whose gradient is formed; return ε/g of each SAM member, ρ/‖g‖, or ρ if not normalized.

        The norm is over all layers. square: what the first one adds to ‖g‖² where its gradient is not formed; factors:
        D_l and A_{l−1} of the other layers where it is not.
        """
        for d, a in factors.values():
            square = square + (torch.bmm(a, a.mT) * torch.bmm(d, d.mT)).sum((1, 2), dtype=torch.float64)
        own = (self.at_perturbed.layers, self.at_perturbed.own(self.weights), self.at_perturbed.gradients)
        formed = [[layers[i] for layers in own] for i in self.formed]
        norm = (square + sum(_squares(g.flatten(1)).double() for _, _, g in formed)).sqrt()
        scale = self.scale_of(norm, self.rho, self.normalized)
        for e, w, g in formed:
            torch.addcmul(w, g, scale.view(-1, *[1] * (g.dim() - 1)), out=e)
        return scale

    def scale_of(self, norm: torch.Tensor, rho: torch.Tensor, normalized: torch.Tensor) -> torch.Tensor:
        """ε/g: ρ/‖g‖, or ρ if not normalized, which clipping bounds by ρ/‖g‖."""
        free = torch.where(norm > 1, rho / norm, rho) if self.run.clip else rho
        return torch.where(normalized, torch.where(norm > 0, rho / norm, 0), free).to(self.dtype)

    @torch.no_grad()
    def evaluate(self, split: str) -> list[dict]:
        """Loss and accuracies of each run over a whole split."""
        values, hits = [], []
        for x, y in self.data.chunks(split):
            output = self.at_w.forward(self.at_w.first(x.flatten(1).expand(len(self.seeds), -1, -1)))[-1]
            target = self.data.loss_target(y)
            values.append(torch.stack([losses.per_sample(self.run.loss, o, target).double() for o in output]))
            hits += [] if self._regression else [(output.argmax(-1) == y).double()]
        hits = torch.cat(hits, 1) if hits else [None] * len(self.runs)
        return [summary(v, h) for v, h in zip(torch.cat(values, 1), hits, strict=True)]

    @torch.no_grad()
    def network(self, member: int) -> nn.Module:
        """The network of that member as it is now."""
        model = models.build(
            self.run.model, width=self.run.width, in_shape=self.data.in_shape, classes=self.data.classes, seed=0
        ).to(self.device, self.dtype)
        for p, layer in zip(model.parameters(), self.weights.layers, strict=True):
            p.copy_(layer[member])
        return model

    def state_dict(self) -> dict:
        return {"weights": self.weights.flat} | ({"momentum": self.momentum.flat} if self.momentum else {})

    def load_state_dict(self, state: dict) -> None:
        self.weights.flat.copy_(state["weights"])
        if self.momentum:
            self.momentum.flat.copy_(state["momentum"])

    def loss_gradient(self, output: torch.Tensor, y: torch.Tensor, total: torch.Tensor | None = None) -> torch.Tensor:
        """The gradient, in the outputs r×B×K, of each member's mean loss, and in `total`, if given, the sums added."""
        size, run = output.shape[1], self.run
        if run.loss == "cross_entropy":
            # Over the leading dimension torch's softmax of ten classes is over ten times as fast as over the last.
            logs = output.permute(2, 0, 1).contiguous().log_softmax(0)
            label = y.unsqueeze(0)
            if total is not None:
                total -= logs.gather(0, label).squeeze(0).double().sum(1)
            d = logs.exp_().scatter_add_(0, label, logs.new_full((), -1.0).expand(label.shape))
            d = d.permute(1, 2, 0).contiguous().div_(size)
        else:
            d = output - self.data.loss_target(y)
            factor = 0.5 if run.loss == "mse" else 1.0
            if total is not None:
                total += factor * d.square().sum((1, 2)).double()
            d.mul_(2 * factor / size)
        return d.mul_(self.parts.weights(size)[1]) if self.parts else d


def _squares(g: torch.Tensor) -> torch.Tensor:
    """‖g_r‖² of each row. On a CPU long rows take a quarter of the time one by one."""
    if g.is_cuda or g.shape[1] < 4096:
        return torch.linalg.vecdot(g, g)
    return torch.stack([torch.dot(row, row) for row in g])

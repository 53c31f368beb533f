"""Many runs as one program: stacked parameters, one batched step for all, the backward pass written by hand.

The members of a stack share everything but optimizer, ρ, normalization, seed and mask. Each layer of all R members is
one tensor, weights R×out×in and biases R×1×out, so that one batched product serves all:

    forward    Z_l = A_{l−1} W_lᵀ + b_l,   A_l = max(Z_l, 0)
    backward   ∇W_l = D_lᵀ A_{l−1},   ∇b_l = Σ_samples D_l,   D_{l−1} = (D_l W_l) ⊙ [A_{l−1} > 0]

with D_L the gradient of the loss in the outputs. Members with ρ = 0 stand first and take no second pass. Every member
has the initialization and the data order of its own seed, so it does not depend on who trains beside it.
"""

import math
from collections.abc import Sequence

import torch

from lib import data, graphs, losses, models
from lib.runs import Run
from lib.train import Batches, Loop, learning_rate, summary

STACKABLE = ("linear2", "mlp")

# How many runs of one architecture are worth stacking, by the number of parameters of one. On a CPU the products of a
# small network leave time for nothing but launching them; from about 300–100 on they fill a core by themselves. Runs
# of one seed share their batches there. On a GPU all that fits goes together. Measured by benchmarks/engine.py.
CPU_MEMBERS = ((5_000, 9), (400_000, 3))
GPU_MEMBERS = 64


def members(run: Run, device: torch.device) -> int:
    """How many runs such as this one are trained in one stack: a function of the model, its width and the device."""
    if not stackable(run):
        return 1
    if device.type != "cpu":
        return GPU_MEMBERS
    return next((most for size, most in CPU_MEMBERS if parameters(run) <= size), 1)


def partition(runs: Sequence[Run], device: torch.device) -> list[list[Run]]:
    """The runs in groups that train together, each sorted as `Stack` needs it; a function of the arguments alone."""
    alike: dict[tuple, list[Run]] = {}
    for run in runs:
        shared = run.but(optimizer="sgd", rho=0.0, normalized=True, seed=0, sparsity=0.0, pruner="random")
        seed = run.seed if device.type == "cpu" and run.model != "linear2" else None
        alike.setdefault((shared, seed), []).append(run)
    groups = []
    for same in alike.values():
        most = members(same[0], device)
        count = -(-len(same) // most)
        ordered = sorted(same, key=lambda run: (run.rho > 0, run.seed, run.rho, run.normalized, run.key))
        groups += [ordered[i::count] for i in range(count)]  # dealt out, so that each has its share of second passes
    return groups


def engine(runs: Sequence[Run], device: torch.device):
    """The engine that trains these runs, a group made by `partition`."""
    return Stack(runs, device) if stackable(runs[0]) else Loop(runs, device)


def stackable(run: Run) -> bool:
    """Whether `Stack` can train the run: a fully connected network, on data that is not augmented."""
    return run.model in STACKABLE and not data.augmented(run.dataset)


def parameters(run: Run) -> int:
    """The number of trainable parameters of the run's network, without building it in memory."""
    classes, in_shape = data.shapes(run.dataset)
    with torch.device("meta"):
        model = models.build(run.model, width=run.width, in_shape=in_shape, classes=classes, seed=0)
    return models.count_parameters(model)


class Stack:
    """An engine for R runs of one fully connected network, ρ = 0 first."""

    name = "stack"

    def __init__(self, runs: Sequence[Run], device: torch.device):
        self.runs, self.device = list(runs), device
        run = self.run = runs[0]
        if [r.rho > 0 for r in runs] != sorted(r.rho > 0 for r in runs):
            raise ValueError("the runs of a stack must have those with rho = 0 first")
        self.data = Batches(run, device)
        self.dtype = self.data.dtype
        self.sizes = models.layer_sizes(run.model, run.width, self.data.in_shape, self.data.classes)
        self.relu = self.bias = run.model == "mlp"
        self.seeds = list(dict.fromkeys(r.seed for r in runs))
        self.seed_of_run = torch.tensor([self.seeds.index(r.seed) for r in runs], device=device)
        self.sam = slice(sum(r.rho == 0 for r in runs), len(runs))
        self.rho = torch.tensor([r.rho for r in runs], device=device, dtype=torch.float64)[self.sam]
        self.normalized = torch.tensor([r.normalized for r in runs], device=device)[self.sam]
        shapes = []
        for before, after in zip(self.sizes[:-1], self.sizes[1:], strict=True):
            shapes += [(len(runs), after, before)] + [(len(runs), 1, after)] * self.bias
        self.weights, self.gradients = (Parameters(shapes, self.dtype, device) for _ in range(2))
        self.perturbed = Parameters(shapes, self.dtype, device) if self.rho.numel() else None
        # One fused pass over everything; the kernel needs the gradient to be contiguous, as one buffer is.
        self.weights.flat.grad = self.gradients.flat
        # A graph reads its learning rate from the device, in float32, too coarse for runs in float64.
        self.replayed = device.type == "cuda" and self.dtype == torch.float32
        self.optimizer = torch.optim.SGD(
            [self.weights.flat],
            lr=torch.tensor(run.lr, device=device) if self.replayed else run.lr,
            momentum=run.momentum,
            weight_decay=run.weight_decay,
            fused=True,
        )
        self._advance = graphs.Replayed(self._step) if self.replayed else self._step
        zeros = (torch.zeros(len(runs), dtype=dtype, device=device) for dtype in (torch.float64, torch.int64))
        self.total, self.hits = zeros
        self.masks = Parameters(shapes, self.dtype, device) if any(r.sparsity for r in runs) else None
        if self.masks:
            self.masks.flat.fill_(1)
        for i, r in enumerate(runs):
            model, masks = self.data.network(r)
            for at, (name, p) in enumerate(model.named_parameters()):
                shape = self.weights.layers[at][i].shape
                self.weights.layers[at][i].copy_(p.detach().reshape(shape))
                if name in masks:
                    self.masks.layers[at][i].copy_(masks[name].reshape(shape))

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
        """Yield x (B×D for one seed, else R×B×D) and y (R×B or R×B×K)."""
        x, y = self.data.train[0].flatten(1), self.data.train[1]
        order = torch.stack([self.data.order(seed, epoch) for seed in self.seeds])
        for index in order.split(self.run.batch_size, dim=1):
            if len(self.seeds) == 1:
                yield x[index[0]], y[index[0]].expand(len(self.runs), *y[index[0]].shape)
            else:
                index = index[self.seed_of_run]
                yield x[index], y[index]

    def step(self, step: int, x: torch.Tensor, y: torch.Tensor) -> None:
        """Step number `step` of every member on its batch, adding its loss and hits at w to `total` and `hits`."""
        rate = learning_rate(self.run, step, self.data.steps_per_epoch)
        group = self.optimizer.param_groups[0]
        group["lr"] = group["lr"].fill_(rate) if self.replayed else rate
        self._advance(x, y)

    def _step(self, x: torch.Tensor, y: torch.Tensor) -> None:
        sam = self.sam
        sums, right = self._gradient(self.weights, x, y, slice(0, len(self.runs)))
        self.total += sums
        if right is not None:
            self.hits += right
        if self.perturbed:
            scale = self._scale().to(self.dtype).view(-1, 1, 1)
            for e, w, g in zip(self.perturbed.layers, self.weights.layers, self.gradients.layers, strict=True):
                torch.addcmul(w[sam], g[sam], scale, out=e[sam])
            self._gradient(self.perturbed, x if x.dim() == 2 else x[sam], y[sam], sam)
        self.optimizer.step()

    def _scale(self) -> torch.Tensor:
        """ε/g of each SAM member: ρ/‖g‖, or ρ if not normalized; the norm is over all its layers."""
        flat = [g[self.sam].flatten(1) for g in self.gradients.layers]
        norm = torch.stack([torch.linalg.vecdot(g, g).double() for g in flat]).sum(0).sqrt()
        return torch.where(self.normalized, torch.where(norm > 0, self.rho / norm, 0), self.rho)

    def _gradient(self, parameters: "Parameters", x, y, who: slice):
        """Fill `self.gradients` of the members `who` at `parameters`; the sums of losses and hits over the batch."""
        layers = [layer[who] for layer in parameters.layers]
        gradients = [layer[who] for layer in self.gradients.layers]
        activations = self._forward(layers, x)
        sums, hits, d = self._loss(activations[-1], y)
        for i in reversed(range(len(self.sizes) - 1)):
            at = i * (1 + self.bias)
            if self.bias:
                torch.sum(d, 1, keepdim=True, out=gradients[at + 1])
            a = activations[i]
            if a.dim() == 2:  # one seed: the batch is shared, and one product serves all members
                torch.mm(d.transpose(0, 1).flatten(1).T, a, out=gradients[at].flatten(0, 1))
            else:
                torch.bmm(d.mT, a, out=gradients[at])
            if i:
                d = torch.bmm(d, layers[at])
                if self.relu:
                    d = torch.ops.aten.threshold_backward(d, a, 0)
        if self.masks:
            for gradient, mask in zip(gradients, self.masks.layers, strict=True):
                gradient.mul_(mask[who])
        return sums, hits

    def _forward(self, layers: list[torch.Tensor], x: torch.Tensor) -> list[torch.Tensor]:
        """The input and the activations R×B×units of each layer, the outputs last."""
        activations = [x]
        step = 1 + self.bias
        for at in range(0, len(layers), step):
            w, a = layers[at], activations[-1]
            if a.dim() == 2:
                rows = w.flatten(0, 1).T
                z = torch.addmm(layers[at + 1].flatten(), a, rows) if self.bias else a @ rows
                z = z.view(len(a), *w.shape[:2]).transpose(0, 1)
            else:
                z = torch.baddbmm(layers[at + 1], a, w.mT) if self.bias else torch.bmm(a, w.mT)
            activations.append(z.relu_() if self.relu and at + step < len(layers) else z)
        return activations

    def _loss(self, output: torch.Tensor, y: torch.Tensor):
        """Sums over the batch of the losses and the hits of each member, and the gradient of its mean loss in the
        outputs, R×B×K."""
        size = output.shape[1]
        hits = None if self._regression else (output.argmax(-1) == y).sum(1)
        if self.run.loss == "cross_entropy":
            logs = output.log_softmax(-1)
            own = logs.gather(-1, y.unsqueeze(-1)).squeeze(-1)
            d = logs.exp_().scatter_add_(-1, y.unsqueeze(-1), logs.new_full((), -1.0).expand(*y.shape, 1))
            return -own.double().sum(1), hits, d.div_(size)
        d = output - self.data.loss_target(y)
        factor = 0.5 if self.run.loss == "mse" else 1.0
        return factor * d.square().sum((1, 2)).double(), hits, d.mul_(2 * factor / size)

    def evaluate(self, split: str) -> list[dict]:
        """Loss and accuracies of each run over a whole split."""
        values, hits = [], []
        for x, y in self.data.chunks(split):
            output = self._forward(self.weights.layers, x.flatten(1))[-1]
            repeated = y.expand(len(self.runs), *y.shape)
            target = self.data.loss_target(y)
            values.append(torch.stack([losses.per_sample(self.run.loss, o, target).double() for o in output]))
            hits += [] if self._regression else [(output.argmax(-1) == repeated).double()]
        hits = torch.cat(hits, 1) if hits else [None] * len(self.runs)
        return [summary(v, h) for v, h in zip(torch.cat(values, 1), hits, strict=True)]

    def state_dict(self) -> dict:
        return {"weights": self.weights.flat, "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.weights.flat.copy_(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.replayed:  # a graph recorded before would go on with the state that this replaces
            self._advance = graphs.Replayed(self._step)


class Parameters:
    """One buffer for all layers of all members: `flat` for elementwise work, `layers` as views of it."""

    def __init__(self, shapes: Sequence[tuple[int, ...]], dtype: torch.dtype, device: torch.device):
        sizes = [math.prod(shape) for shape in shapes]
        self.flat = torch.zeros(sum(sizes), dtype=dtype, device=device)
        self.layers = [part.view(shape) for part, shape in zip(self.flat.split(sizes), shapes, strict=True)]

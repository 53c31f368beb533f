"""Many runs as one program: stacked parameters, one batched step for all, the backward pass written by hand.

The members of a stack share everything but optimizer, ρ, normalization, seed and mask. Each layer of all R members is
one tensor, weights R×out×in and biases R×out, so that one batched product serves all:

    forward    Z_l = A_{l−1} W_lᵀ + b_l,   A_l = max(Z_l, 0)
    backward   ∇W_l = D_lᵀ A_{l−1},   ∇b_l = Σ_samples D_l,   D_{l−1} = (D_l W_l) ⊙ [A_{l−1} > 0]

with D_L the gradient of the loss in the outputs. Members with ρ = 0 stand first and take no second pass. Every member
has the initialization and the data order of its own seed, so it does not depend on who trains beside it.
"""

import functools
import itertools
import math
from collections.abc import Sequence

import torch

from lib import data, graphs, losses, models
from lib.runs import Run
from lib.train import Batches, Loop, learning_rate, summary

STACKABLE = ("linear2", "mlp")

# How many runs of one architecture are worth stacking, by the number of parameters of one. On a CPU the products of a
# small network leave time for little but launching them; from about 300–100 on they fill a core by themselves. On a
# GPU all that fits goes together. Measured by benchmarks/engine.py.
CPU_MEMBERS = ((100_000, 9), (400_000, 3))
GPU_MEMBERS = 64
CACHED = 1 << 16  # numbers that an update handles at a time


def members(run: Run, device: torch.device) -> int:
    """How many runs such as this one are trained in one stack: a function of the model, its width and the device."""
    if not stackable(run):
        return 1
    if device.type != "cpu":
        return GPU_MEMBERS
    return next((most for size, most in CPU_MEMBERS if parameters(run) <= size), 1)


def partition(runs: Sequence[Run], device: torch.device) -> list[list[Run]]:
    """The runs in groups that train together, each sorted as `Stack` needs it; a function of the arguments alone."""
    alike: dict[Run, list[Run]] = {}
    for run in runs:
        shared = run.but(optimizer="sgd", rho=0.0, normalized=True, seed=0, sparsity=0.0, pruner="random")
        alike.setdefault(shared, []).append(run)
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
    """An engine for R runs of one fully connected network, those with ρ = 0 first."""

    name = "stack"

    def __init__(self, runs: Sequence[Run], device: torch.device):
        self.runs, self.device = list(runs), device
        run = self.run = runs[0]
        if [r.rho > 0 for r in runs] != sorted(r.rho > 0 for r in runs):
            raise ValueError("the runs of a stack must have those with rho = 0 first")
        self.data = Batches(run, device)
        self.dtype = self.data.dtype
        sizes = models.layer_sizes(run.model, run.width, self.data.in_shape, self.data.classes)
        self.relu = self.bias = run.model == "mlp"
        self.seeds = list(dict.fromkeys(r.seed for r in runs))
        sam = slice(sum(r.rho == 0 for r in runs), len(runs))
        self.rho = torch.tensor([r.rho for r in runs[sam]], device=device, dtype=torch.float64)
        self.normalized = torch.tensor([r.normalized for r in runs[sam]], device=device)
        shapes = []
        for before, after in itertools.pairwise(sizes):
            shapes += [(len(runs), after, before)] + [(len(runs), after)] * self.bias
        buffers = functools.partial(Parameters, shapes, self.dtype, device)
        self.weights, self.gradients = buffers(), buffers()
        self.momentum = buffers() if run.momentum else None
        self.perturbed = buffers() if self.rho.numel() else None
        self.masks = buffers() if any(r.sparsity for r in runs) else None
        self._initialize()
        self.at_w = Pass(self, self.weights, slice(0, len(runs)))
        self.at_perturbed = Pass(self, self.perturbed, sam) if self.perturbed else None
        self.total = torch.zeros(len(runs), dtype=torch.float64, device=device)
        self.hits = torch.zeros(len(runs), dtype=torch.int64, device=device)
        self.rate = torch.zeros((), dtype=self.dtype, device=device)  # a tensor, so that a graph can read it
        self.advance = graphs.Replayed(self._step) if device.type == "cuda" else self._step

    def _initialize(self) -> None:
        if self.masks:
            self.masks.flat.fill_(1)
        for i, run in enumerate(self.runs):
            model, masks = self.data.network(run)
            for at, (name, p) in enumerate(model.named_parameters()):
                self.weights.layers[at][i].copy_(p.detach())
                if name in masks:
                    self.masks.layers[at][i].copy_(masks[name])

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
        x, y = self.data.train[0].flatten(1), self.data.train[1]
        order = torch.stack([self.data.order(seed, epoch) for seed in self.seeds])
        for index in order.split(self.run.batch_size, dim=1):
            rows = index.flatten()
            yield tuple(part.index_select(0, rows).view(*index.shape, *part.shape[1:]) for part in (x, y))

    def step(self, step: int, x: torch.Tensor, y: torch.Tensor) -> None:
        """Step number `step` of every member on its batch, adding its loss and hits at w to `total` and `hits`."""
        self.rate.fill_(learning_rate(self.run, step, self.data.steps_per_epoch))
        self.advance(x, y)

    def _step(self, x: torch.Tensor, y: torch.Tensor) -> None:
        output = self.at_w.gradient(x, y, total=self.total)
        if not self._regression:
            self.hits += (output.argmax(-1) == y[self.at_w.seed_of_member]).sum(1)
        if self.at_perturbed:
            scale = self._scale()
            for e, w, g in zip(
                self.at_perturbed.layers, self.at_perturbed.own(self.weights), self.at_perturbed.gradients, strict=True
            ):
                torch.addcmul(w, g, scale.view(-1, *[1] * (g.dim() - 1)), out=e)
            self.at_perturbed.gradient(x, y)
        self._update()

    def _scale(self) -> torch.Tensor:
        """ε/g of each SAM member: ρ/‖g‖, or ρ if not normalized; the norm is over all its layers."""
        squares = torch.stack([_squares(g.flatten(1)).double() for g in self.at_perturbed.gradients])
        norm = squares.sum(0).sqrt()
        scale = torch.where(self.normalized, torch.where(norm > 0, self.rho / norm, 0), self.rho)
        return scale.to(self.dtype)

    def _update(self) -> None:
        """torch.optim.SGD's step for all layers of all members, a piece at a time that stays in a CPU's cache."""
        piece = CACHED if self.device.type == "cpu" else self.weights.flat.numel()
        parts = (self.weights, self.gradients, self.momentum or self.gradients)
        for w, g, m in zip(*(part.flat.split(piece) for part in parts), strict=True):
            if self.run.weight_decay:
                g.add_(w, alpha=self.run.weight_decay)
            if self.momentum:
                torch.add(g, m, alpha=self.run.momentum, out=m)
            w.addcmul_(m, self.rate, value=-1)

    @torch.no_grad()
    def evaluate(self, split: str) -> list[dict]:
        """Loss and accuracies of each run over a whole split."""
        values, hits = [], []
        for x, y in self.data.chunks(split):
            output = self.at_w.forward(x.flatten(1).expand(len(self.seeds), -1, -1))[-1]
            target = self.data.loss_target(y)
            values.append(torch.stack([losses.per_sample(self.run.loss, o, target).double() for o in output]))
            hits += [] if self._regression else [(output.argmax(-1) == y).double()]
        hits = torch.cat(hits, 1) if hits else [None] * len(self.runs)
        return [summary(v, h) for v, h in zip(torch.cat(values, 1), hits, strict=True)]

    def state_dict(self) -> dict:
        return {"weights": self.weights.flat} | ({"momentum": self.momentum.flat} if self.momentum else {})

    def load_state_dict(self, state: dict) -> None:
        self.weights.flat.copy_(state["weights"])
        if self.momentum:
            self.momentum.flat.copy_(state["momentum"])


class Pass:
    """The forward and backward pass of the members `who` of a stack at some weights, on views that are made once.

    The first layer is the largest, and members of one seed see the same batch in it: they share one product.
    """

    def __init__(self, stack: Stack, weights: "Parameters", who: slice):
        self.stack, self.who = stack, who
        self.layers, self.gradients = self.own(weights), self.own(stack.gradients)
        self.masks = self.own(stack.masks) if stack.masks else []
        stride = 1 + stack.bias
        self.w, self.dw = self.layers[::stride], self.gradients[::stride]
        self.b, self.db = (self.layers[1::2], self.gradients[1::2]) if stack.bias else ([], [])
        seeds = [stack.seeds.index(run.seed) for run in stack.runs[who]]
        self.seed_of_member = torch.tensor(seeds, device=stack.device)
        hidden, at = self.w[0].shape[1], 0
        self.segments = []  # (seed, columns of the first layer of all members) of neighbours with one seed
        for seed, members in itertools.groupby(seeds):
            end = at + hidden * len(list(members))
            self.segments.append((seed, slice(at, end)))
            at = end

    def own(self, parameters: "Parameters") -> list[torch.Tensor]:
        return [layer[self.who] for layer in parameters.layers]

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The activations r×B×units of each layer, outputs last, for x (S×B×D)."""
        r, hidden, _ = self.w[0].shape
        rows, z = self.w[0].flatten(0, 1), x.new_empty(x.shape[1], r * hidden)
        for seed, part in self.segments:
            if self.b:
                torch.addmm(self.b[0].flatten()[part], x[seed], rows[part].T, out=z[:, part])
            else:
                torch.mm(x[seed], rows[part].T, out=z[:, part])
        activations = [self._members(z.relu_() if self.stack.relu else z, r)]
        for i, w in enumerate(self.w[1:], 1):
            a = activations[-1]
            z = torch.baddbmm(self.b[i].unsqueeze(1), a, w.mT) if self.b else torch.bmm(a, w.mT)
            activations.append(z.relu_() if self.stack.relu and i < len(self.w) - 1 else z)
        return activations

    def gradient(self, x: torch.Tensor, y: torch.Tensor, total: torch.Tensor | None = None) -> torch.Tensor:
        """Fill the members' gradients of the mean loss over the batch; return the outputs r×B×K.

        total: to which the sums of the losses over the batch are added, if given.
        """
        activations = self.forward(x)
        d = self._loss_gradient(activations[-1], y[self.seed_of_member], total)
        for i in range(len(self.w) - 1, 0, -1):
            if self.b:
                torch.sum(d, 1, out=self.db[i])
            torch.bmm(d.mT, activations[i - 1], out=self.dw[i])
            d = torch.bmm(d, self.w[i])
            if self.stack.relu and i > 1:
                d = torch.ops.aten.threshold_backward(d, activations[i - 1], 0)
        r, hidden, _ = self.w[0].shape
        flat = x.new_empty(x.shape[1], r * hidden)
        if self.stack.relu:
            torch.ops.aten.threshold_backward.grad_input(d, activations[0], 0, grad_input=self._members(flat, r))
        else:
            self._members(flat, r).copy_(d)
        if self.b:
            torch.sum(flat, 0, out=self.db[0].flatten())
        rows = self.dw[0].flatten(0, 1)
        for seed, part in self.segments:
            torch.mm(flat[:, part].T, x[seed], out=rows[part])
        for gradient, mask in zip(self.gradients, self.masks, strict=bool(self.masks)):
            gradient.mul_(mask)
        return activations[-1]

    @staticmethod
    def _members(flat: torch.Tensor, r: int) -> torch.Tensor:
        """B×(r·units) as r×B×units, without a copy."""
        return flat.view(len(flat), r, -1).transpose(0, 1)

    def _loss_gradient(self, output: torch.Tensor, y: torch.Tensor, total: torch.Tensor | None) -> torch.Tensor:
        """The gradient, in the outputs r×B×K, of each member's mean loss."""
        size, run = output.shape[1], self.stack.run
        if run.loss == "cross_entropy":
            # Over the leading dimension torch's softmax of ten classes is over ten times as fast as over the last.
            logs = output.permute(2, 0, 1).contiguous().log_softmax(0)
            label = y.unsqueeze(0)
            if total is not None:
                total -= logs.gather(0, label).squeeze(0).double().sum(1)
            d = logs.exp_().scatter_add_(0, label, logs.new_full((), -1.0).expand(label.shape))
            return d.permute(1, 2, 0).contiguous().div_(size)
        d = output - self.stack.data.loss_target(y)
        factor = 0.5 if run.loss == "mse" else 1.0
        if total is not None:
            total += factor * d.square().sum((1, 2)).double()
        return d.mul_(2 * factor / size)


def _squares(g: torch.Tensor) -> torch.Tensor:
    """‖g_r‖² of each row. On a CPU long rows take a quarter of the time one by one."""
    if g.is_cuda or g.shape[1] < 4096:
        return torch.linalg.vecdot(g, g)
    return torch.stack([torch.dot(row, row) for row in g])


class Parameters:
    """One buffer for all layers of all members: `flat` for elementwise work, `layers` as views of it."""

    def __init__(self, shapes: Sequence[tuple[int, ...]], dtype: torch.dtype, device: torch.device):
        sizes = [math.prod(shape) for shape in shapes]
        self.flat = torch.zeros(sum(sizes), dtype=dtype, device=device)
        self.layers = [part.view(shape) for part, shape in zip(self.flat.split(sizes), shapes, strict=True)]

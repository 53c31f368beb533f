"""A run's data on a device, batch by batch in the order of its seed, and its network as it starts.

Data that fit are standardized once, or padded once and augmented a batch at a time (`Batches`); images that do not are
decoded as they are needed (`StreamedBatches`).
"""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from lib import data, models
from lib.core import losses
from lib.core.seeds import generator
from lib.data import augment, streaming
from lib.models import linearize, masking, pruning
from lib.runs import Run, compatible

EVALUATION_BATCH = 2000
Share = Callable[[torch.Tensor], torch.Tensor]  # of a batch, or of its indices, those that one process has


class Batches:
    """A run's data on a device: standardized once, or padded once and augmented a batch at a time.

    train, test, validation: pairs of inputs and labels (or regression targets), in the run's precision; validation is
        the last `n_validation` training samples as they are, without label noise. digest: of the data.
    Raises DataUnavailable where they are not those of the run's digest.
    """

    def __init__(self, run: Run, device: torch.device):
        train, test = data.load(run.dataset, "train"), data.load(run.dataset, "test")
        n = self._describe(run, device, train, tuple(train.x.shape[1:]))
        self.augmented = data.augmented(run.dataset)
        self.test = self._place(test.x), self._targets(test.y)
        self.validation = self._place(train.x[self.held_out]), self._targets(train.y[self.held_out])
        if self.augmented:
            self.padded, self._raw = augment.pad(train.x[:n].to(device)), train.x[:n]
            self.train = None, self._training_targets(train.y[:n])
        else:
            self.train = self._place(train.x[:n]), self._training_targets(train.y[:n])

    def _describe(self, run: Run, device: torch.device, train, in_shape: tuple[int, ...]) -> int:
        """Take down what is known before any input is read; how many samples to train on."""
        self.run, self.device, self.dtype = run, device, getattr(torch, run.precision)
        self.digest = data.digest(run.dataset)
        if run.digest not in ("", self.digest):
            raise data.DataUnavailable(
                f"{run.dataset}: holds other data (digest {self.digest}) than the run is of ({run.digest}); leave the "
                "run's digest empty to train on what is there"
            )
        compatible.check_data(run, len(train.y), in_shape)
        n = run.n_train or len(train.y) - run.n_validation
        self.held_out = slice(len(train.y) - run.n_validation, len(train.y))
        self.n, self.classes, self.in_shape = n, train.classes, in_shape
        self.steps_per_epoch = -(-n // run.batch_size)
        return n

    def _place(self, x):
        """Raw inputs as networks see them."""
        x = x.to(self.device)
        return data.standardize(x, self.run.dataset, self.dtype) if self.run.standardize else data.scale(x, self.dtype)

    def _targets(self, y):
        return y.to(self.device, self.dtype if y.is_floating_point() else torch.int64)

    def _training_targets(self, y):
        return self._targets(data.noisy(y, self.run.label_noise, self.classes) if self.run.label_noise else y)

    def loss_target(self, y: torch.Tensor) -> torch.Tensor:
        """What the run's loss compares the output with (`losses.target`), divided by its α (Appendix C)."""
        target = losses.target(self.run.loss, y, self.classes, self.dtype)
        return target if self.run.alpha == 1 else target / self.run.alpha

    def network(self, run: Run) -> tuple[nn.Module, dict[str, torch.Tensor]]:
        """The run's network at initialization, on the device, and its mask; what the mask removes is 0."""
        shape = dict(width=run.width, in_shape=self.in_shape, classes=self.classes)
        model = models.build(run.model, **shape, seed=run.seed, **run.options)
        model = model.to(self.device, self.dtype)
        masks = pruning.masks_of(run, model, self)
        return linearize.wrap(masking.apply(model, masks), run.linearize), masks

    def balanced(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The first `count`/classes training samples of each class, as evaluated. ValueError for regression."""
        if self.train[1].is_floating_point():
            raise ValueError(f"dataset = {self.run.dataset!r}: has no classes to take samples of; measure a classifier")
        return self._evaluated(self._first_of_each(count))

    def first(self, count: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The first `count` training samples, as they are evaluated. ValueError for regression."""
        if self.train[1].is_floating_point():
            raise ValueError(f"dataset = {self.run.dataset!r}: has no classes; measure a classifier")
        return self._evaluated(torch.arange(min(count, self.n)))

    def first_batch(self, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The samples of the first batch that `seed` trains on, as they are evaluated."""
        return self._evaluated(self.order(seed, 0)[: self.run.batch_size].cpu())

    def _evaluated(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self._place(self._raw[index]) if self.train[0] is None else self.train[0][index.to(self.device)]
        return x, self.train[1][index.to(self.device)]

    def _first_of_each(self, count: int) -> torch.Tensor:
        y = self.train[1].cpu()
        return torch.cat([(y == label).nonzero().flatten()[: count // self.classes] for label in range(self.classes)])

    def epoch(self, seed: int, epoch: int, first: int = 0, share: Share = lambda batch: batch):
        """Yield the batches (x, y) of an epoch from number `first`, in the order, and augmented, as `seed` has them; of
        each the share."""
        order = self.order(seed, epoch)
        if self.augmented:
            draws = augment.draw(self.n, generator(seed, "augmentation", epoch))
            offsets, flips = (d.to(self.device) for d in draws)
        for start in range(first * self.run.batch_size, self.n, self.run.batch_size):
            index = order[start : start + self.run.batch_size]
            if self.augmented:
                batch = slice(start, start + len(index))
                x = self._place(augment.apply(self.padded, index, offsets[batch], flips[batch]))
            else:
                x = self.train[0][index]
            yield share(x), share(self.train[1][index])

    def before(self, seed: int, epoch: int) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The last batch of the epoch before, None before the first."""
        return next(self.epoch(seed, epoch - 1, first=self.steps_per_epoch - 1)) if epoch else None

    def order(self, seed: int, epoch: int) -> torch.Tensor:
        """The permutation of the training samples in which `seed` sees them in `epoch`."""
        return torch.randperm(self.n, generator=generator(seed, "order", epoch)).to(self.device)

    def chunks(self, split: str, part: tuple[int, int] = (0, 1)):
        """Yield the samples of a split as they are evaluated: in order, not augmented. part: number and count of the
        consecutive parts of the split, of which one is asked for."""
        x, y = getattr(self, split)
        for chunk in _within(len(y), *part).split(EVALUATION_BATCH):
            chunk = slice(int(chunk[0]), int(chunk[-1]) + 1)
            yield (self._place(self._raw[chunk]) if x is None else x[chunk]), y[chunk]


class StreamedBatches(Batches):
    """A run's data where no memory holds it: batches of images that are decoded as they are needed
    (`lib.data.streaming`).

    processes: how many decode, by default `streaming.workers`.
    """

    def __init__(self, run: Run, device: torch.device, processes: int | None = None):
        self.images = {split: streaming.listing(run.dataset, split) for split in data.SPLITS}
        train, test = self.images["train"], self.images["test"]
        n = self._describe(run, device, train, streaming.SHAPE)
        self.train, self.test = (None, self._training_targets(train.y[:n])), (None, self._targets(test.y))
        self.validation = None, self._targets(train.y[self.held_out])
        self.processes = streaming.workers(device) if processes is None else processes

    def _evaluated(self, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return next(self._stream("train", [index])), self.train[1][index.to(self.device)]

    def epoch(self, seed: int, epoch: int, first: int = 0, share: Share = lambda batch: batch):
        batches = [share(index) for index in self.order(seed, epoch).split(self.run.batch_size)[first:]]
        images = self._stream("train", batches, seed=seed, epoch=epoch)
        yield from zip(images, (self.train[1][index] for index in batches), strict=True)

    def chunks(self, split: str, part: tuple[int, int] = (0, 1)):
        y = getattr(self, split)[1]
        # As many as to train on: EVALUATION_BATCH images of this size, with their activations, fill most GPUs.
        start = self.held_out.start if split == "validation" else 0
        batches = _within(len(y), *part).split(self.run.batch_size)
        images = self._stream("test" if split == "test" else "train", [start + index for index in batches])
        yield from zip(images, (y[index.to(self.device)] for index in batches), strict=True)

    def _stream(self, split: str, batches: Sequence[torch.Tensor], **drawn: int):
        for x in streaming.stream(self.images[split], batches, self.device, processes=self.processes, **drawn):
            yield self._place(x)


def _within(n: int, part: int, count: int) -> torch.Tensor:
    """The indices of the consecutive part number `part` of `count` of n samples."""
    return torch.arange(n * part // count, n * (part + 1) // count)

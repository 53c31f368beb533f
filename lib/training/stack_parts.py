"""m-SAM of a stack as one batched product for all parts of a batch (`lib.training.stack_passes` has the equations)."""

from collections.abc import Iterable

import torch


class Parts:
    """The parts of a batch, cut as `tensor_split` does.

    parts: how many; of a batch with fewer samples as many as there are samples. sizes: of the batches that there are.
    """

    def __init__(self, parts: int, sizes: Iterable[int], dtype: torch.dtype, device: torch.device):
        self.parts, self.dtype, self.device, self._known = parts, dtype, device, {}
        for size in sizes:
            self.weights(size)

    def weights(self, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """E_ij = 1 where samples i and j of a batch of that size are of one part (B×B), and the weights (B×1) by which
        the mean over samples is the mean over the parts of their means.

        >>> same, weight = Parts(2, [3], torch.float32, torch.device("cpu")).weights(3)
        >>> same.tolist(), weight.flatten().tolist()
        ([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]], [0.75, 0.75, 1.5])
        """
        if size not in self._known:
            parts = torch.arange(size).tensor_split(min(self.parts, size))
            number = torch.cat([torch.full((len(part),), i) for i, part in enumerate(parts)])
            weight = torch.cat([torch.full((len(part), 1), size / len(parts) / len(part)) for part in parts])
            same = number.unsqueeze(0) == number.unsqueeze(1)
            self._known[size] = same.to(self.device, self.dtype), weight.to(self.device, self.dtype)
        return self._known[size]

    def climb(self, stack, x: torch.Tensor, z: torch.Tensor, d: torch.Tensor, factors: dict[int, tuple]) -> tuple:
        """What `Stack._climb_whole` gives, where every part has its own ε: s is a number for each sample."""
        members, (same, _), count = stack.at_perturbed, self.weights(x.shape[1]), min(self.parts, x.shape[1])
        members.same = same
        signals = {0: members.split(d) * count} | {i: d * count for i, (d, _) in factors.items()}
        grams = {0: members.gram(x, x)[members.seed_of_member]}
        grams |= {i: members.gram(a, a) for i, (_, a) in factors.items()}
        rows = sum((grams[i] * torch.bmm(d, d.mT)).sum(2, dtype=torch.float64) for i, d in signals.items())
        norm = (rows @ same.double()).clamp(min=0).sqrt()  # of the part of each sample
        scale = stack.scale_of(norm, stack.rho.unsqueeze(1), stack.normalized.unsqueeze(1)).unsqueeze(2)
        moved = torch.bmm(grams[0], scale * signals[0]).transpose(0, 1).flatten(1)
        return z + moved, {i: (scale * signals[i], a) for i, (_, a) in factors.items()}

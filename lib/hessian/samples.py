"""What a Hessian is of: samples in memory, in a tensor, a tuple or a dictionary, or batches that are read again and
again.

A *tree* is a tensor or any nesting of tuples and dictionaries of them, whose first dimension counts samples.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch.utils import _pytree as pytree  # the nesting that torch.func takes; torch has no public name for it


def arguments(x) -> tuple[tuple, dict]:
    """What a module is called with: a tuple's entries one by one, a dictionary's by their names."""
    if isinstance(x, dict):
        return (), x
    return (x if isinstance(x, tuple) else (x,)), {}


def plain(x):
    """x with other mappings as dictionaries and lists of tensors as tuples, so that it is a tree."""
    listed = isinstance(x, list) and any(isinstance(t, torch.Tensor) for t in x)
    return dict(x) if isinstance(x, Mapping) else tuple(x) if listed else x


def leaves(tree) -> list:
    """The tensors of a tree."""
    return pytree.tree_leaves(tree)


def mapped(function: Callable, tree):
    """The tree of function(tensor)."""
    return pytree.tree_map(function, tree)


class Samples:
    """N samples in memory: trees x and y."""

    def __init__(self, x, y):
        self.x, self.y, self.n = x, y, len(leaves(x)[0])

    def first(self, count: int) -> tuple:
        """(x, y) of the first samples, as many as there are up to `count`."""
        return mapped(lambda t: t[:count], (self.x, self.y))

    def split(self, size: int) -> Iterator[tuple]:
        """(x, y) of at most `size` samples, one after the other."""
        for start in range(0, self.n, size):
            yield mapped(lambda t: t[start : start + size], (self.x, self.y))  # noqa: B023


class Batches:
    """Samples that come in batches (x, y) from a DataLoader or another iterable, read anew for every product.

    prepare: what is done with each batch before it is used. `first` is kept from the batch that comes first.
    Raises ValueError for an iterator, which could be read but once, for no batches, for a batch that is no pair, and
    where a second pass gives other batches than the first.
    """

    def __init__(self, batches: Iterable, prepare: Callable):
        if iter(batches) is batches:
            raise ValueError("x is an iterator, which ends after one pass: give a list of batches or a DataLoader")
        self._batches, self._prepare = batches, prepare
        first, self.n, self._head = [], 0, None
        for batch in self._prepared():
            first.append(_digest(batch))
            self.n += len(leaves(batch)[0])
            self._head = self._head or Samples(*batch)
        if not first:
            raise ValueError("x has no batches: give one or more")
        if [_digest(batch) for batch in self._prepared()] != first:
            raise ValueError(
                "x gives other batches in a second pass, so that the loss is random: shuffle=False, and no random "
                "augmentation"
            )

    def _prepared(self):
        for i, batch in enumerate(self._batches):
            if not isinstance(batch, tuple | list) or len(batch) != 2:
                raise ValueError(f"batch {i} of x is a {type(batch).__name__}: must be a pair (inputs, targets)")
            yield self._prepare(*map(plain, batch))

    def first(self, count: int) -> tuple:
        return self._head.first(count)

    def split(self, size: int) -> Iterator[tuple]:
        for batch in self._prepared():
            yield from Samples(*batch).split(size)


def _digest(batch) -> bytes:
    state = hashlib.sha256()
    for t in leaves(batch):
        state.update(f"{t.dtype} {tuple(t.shape)}".encode())
        state.update(t.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return state.digest()

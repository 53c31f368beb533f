"""Sparse regression without noise: the problems on which "Towards Understanding SAM" compares 1-SAM, n-SAM and GD."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SparseRegression:
    """Problems stacked over data seeds. X: (seeds, n, d), Gaussian; target: (seeds, d), with `support` positive entries
    and length 1; y = X target; X_test: (seeds, 1000, d).

    >>> problems = SparseRegression.draw([0, 1], n=20, d=30, support=3)
    >>> problems.X.shape, (problems.target > 0).sum(1).tolist()
    ((2, 20, 30), [3, 3])
    """

    X: np.ndarray
    y: np.ndarray
    target: np.ndarray
    X_test: np.ndarray

    @classmethod
    def draw(cls, seeds, *, n: int = 20, d: int = 30, support: int = 3) -> "SparseRegression":
        """One problem a data seed, in the order in which the released code draws; seed 0 is its only one. ValueError if
        no seed is given or the support does not fit."""
        seeds = list(seeds)
        if not seeds or not 1 <= support <= d:
            raise ValueError(f"seeds = {seeds}, support = {support}: needs a seed, and a support from 1 to d = {d}")
        return cls(*map(np.stack, zip(*(cls._one(seed, n, d, support) for seed in seeds), strict=True)))

    @staticmethod
    def _one(seed: int, n: int, d: int, support: int):
        random = np.random.RandomState(seed)
        X, X_test = (random.multivariate_normal(np.zeros(d), np.eye(d), size) for size in (n, 1000))
        target = random.randn(d)
        target[support:] = 0
        target = np.abs(target) / np.linalg.norm(target)
        return X, X @ target, target, X_test

    def test_loss(self, beta: np.ndarray) -> np.ndarray:
        """Half the mean squared error on X_test, (seeds, runs); beta: (seeds, runs, d)."""
        return (((beta - self.target[:, None]) @ self.X_test.mT) ** 2).mean(-1) / 2

    def __getitem__(self, part: slice) -> "SparseRegression":
        """Some of the seeds."""
        return SparseRegression(self.X[part], self.y[part], self.target[part], self.X_test[part])

    def __len__(self) -> int:
        return len(self.X)

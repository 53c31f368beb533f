"""Training of a masked ReLU network with SAM written out in NumPy, float64, for tests to compare engines with.

It calls nothing of `lib`: gradients are by hand, and every option of how SAM climbs is a line of `trained`.
"""

import hashlib
import math

import numpy as np
import torch


def loss_and_gradients(w, masks, x, y):
    """Of the mean cross-entropy of a masked ReLU network, by hand; w: kernels and biases in turn."""
    kernels, biases = [k * m for k, m in zip(w[::2], masks, strict=True)], w[1::2]
    activations = [x]
    for i, (kernel, bias) in enumerate(zip(kernels, biases, strict=True)):
        z = activations[-1] @ kernel.T + bias
        activations.append(np.maximum(z, 0) if i < 2 else z)
    shifted = activations[-1] - activations[-1].max(1, keepdims=True)
    p = np.exp(shifted) / np.exp(shifted).sum(1, keepdims=True)
    d, gradients = (p - np.eye(10)[y]) / len(y), []
    for i in reversed(range(3)):
        gradients = [d.T @ activations[i] * masks[i], d.sum(0), *gradients]
        d = (d @ kernels[i]) * (activations[i] > 0)
    return -np.log(p[np.arange(len(y)), y]).mean(), gradients


def noise(seed, step, masks, sizes):
    """Standard normal numbers for every weight, from the hash of their purpose."""
    digest = hashlib.sha256(f"{seed}:perturbation:{step}".encode()).digest()
    drawn = torch.randn(sum(sizes), generator=torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1))
    drawn = np.split(drawn.double().numpy(), np.cumsum(sizes)[:-1])
    drawn[::2] = [part * mask.ravel() for part, mask in zip(drawn[::2], masks, strict=True)]
    return np.concatenate(drawn)


def trained(run, start, masks, x, y, orders):
    """(weights, mean loss at w of each epoch) of training along `orders`, one permutation an epoch."""
    shapes, sizes = [p.shape for p in start], [p.size for p in start]

    def split(flat):
        return [part.reshape(shape) for part, shape in zip(np.split(flat, np.cumsum(sizes)[:-1]), shapes, strict=True)]

    def gradient(flat, rows):
        g = np.concatenate([part.ravel() for part in loss_and_gradients(split(flat), masks, x[rows], y[rows])[1]])
        return g + run.weight_decay * flat if run.decay_in_ascent else g

    def climbed(flat, rows, radius, drawn):
        """w + ε for one part of the batch."""
        offset = np.zeros_like(flat)
        share = run.ascent_step / run.rho if run.ascent_step else 1 / run.ascent_steps
        for _ in range(run.ascent_steps):
            g = gradient(flat + offset, rows) if drawn is None else drawn
            offset = offset + share * radius * (g / np.linalg.norm(g) if run.normalized else g)
            length = np.linalg.norm(offset)
            if length > radius and (run.clip or run.normalized):
                offset = offset * radius / length
        return flat + offset

    w = np.concatenate([p.ravel() for p in start])
    momentum, losses, step, before = np.zeros_like(w), [], 0, None
    per_epoch = math.ceil(len(y) / run.batch_size)
    boundaries = [int(run.epochs * share * per_epoch) for share in (0.25, 0.5, 0.75)]
    for epoch, order in enumerate(orders):
        total = 0.0
        climbs = run.rho > 0 and (run.optimizer == "sam") != (0 < run.switch * run.epochs <= epoch)
        for i in range(per_epoch):
            batch = order[i * run.batch_size : (i + 1) * run.batch_size]
            total += len(batch) * loss_and_gradients(split(w), masks, x[batch], y[batch])[0]
            rate = run.lr * 0.1 ** sum(step >= boundary for boundary in boundaries)
            drawn, other, radius = None, batch, None
            if climbs:
                radius = run.rho * (rate / run.lr if run.rho_schedule == "lr" else 1)
                drawn = noise(run.seed, step, masks, sizes) if run.perturbation == "random" else None
                other = batch if before is None or run.ascent_batch == "same" else before
            count = min(run.parts, len(batch), len(other))
            pairs = zip(np.array_split(batch, count), np.array_split(other, count), strict=True)
            g = (
                sum(gradient(climbed(w, uphill, radius, drawn) if climbs else w, rows) for rows, uphill in pairs)
                / count
            )
            if not run.decay_in_ascent:
                g = g + run.weight_decay * w
            momentum = run.momentum * momentum + g
            w, before, step = w - rate * momentum, batch, step + 1
        losses.append(total / len(y))
    return split(w), losses

"""Random numbers that depend on a run's seed and their purpose alone.

Every generator is derived afresh from (seed, purpose, …), on the CPU. So all optimizers and all ρ of one seed start
from the same weights and see the same batches, a run is the same whoever trains beside it, and a resumed epoch
draws what it would have drawn: no generator state is ever saved.
"""

import hashlib

import torch


def derive(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed from `seed` and a purpose such as ("order", epoch); different purposes are independent."""
    text = ":".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator seeded by `derive(seed, *purpose)`."""
    return torch.Generator().manual_seed(derive(seed, *purpose))

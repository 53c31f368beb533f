"""Random numbers that depend on a run's seed and their purpose alone.

Every generator is derived afresh from (seed, purpose, …), on the CPU. So all optimizers and all ρ of one seed start
from the same weights and see the same batches, a run is the same whoever trains beside it, and a resumed epoch
draws what it would have drawn: no generator state is ever saved.
"""

import contextlib
import hashlib
import threading

import torch


def derive(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed from `seed` and a purpose such as ("order", epoch); different purposes are independent."""
    text = ":".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A CPU generator seeded by `derive(seed, *purpose)`."""
    return torch.Generator().manual_seed(derive(seed, *purpose))


_GLOBAL_STATE = threading.Lock()  # there is one global generator, whichever thread draws


@contextlib.contextmanager
def seeded(seed: int):
    """Within this context the global generator, from which torch's initializers and torchvision's transforms draw,
    starts from `seed`; afterwards it is as it was."""
    with _GLOBAL_STATE, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield

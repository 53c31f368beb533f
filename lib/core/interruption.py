"""How a long computation is given up from outside: by asking, between its steps, whether it should go on.

Whoever starts the computation says when it must stop (`stopping`), and each of its loops asks once an iteration
(`check`). Nothing is passed through the functions between the two, and where nobody says so, nothing stops.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator

from torch.utils._python_dispatch import TorchDispatchMode

_CONDITIONS: contextvars.ContextVar[tuple[Callable[[], bool], ...]] = contextvars.ContextVar("conditions", default=())


class Interrupted(Exception):
    """The computation was to stop before its end."""


@contextlib.contextmanager
def stopping(when: Callable[[], bool]) -> Iterator[None]:
    """Within this context, and in this thread alone, `check` raises Interrupted once `when()` is true; so does entering
    it. Contexts nest: the conditions of the outer ones hold in the inner one too."""
    token = _CONDITIONS.set((*_CONDITIONS.get(), when))
    try:
        check()
        yield
    finally:
        _CONDITIONS.reset(token)


def check() -> None:
    """Raise Interrupted if a surrounding `stopping` says so."""
    if any(when() for when in _CONDITIONS.get()):
        raise Interrupted


class BetweenOperations(TorchDispatchMode):
    """A context in which each of torch's operations asks first (`check`), also those of a backward pass on a CPU: for
    what may take long without a loop, as a step of a wide network does. An operation takes some microseconds longer.

    >>> import torch
    >>> with stopping(lambda: False), BetweenOperations():
    ...     torch.ones(3).sum().item()
    3.0
    """

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        check()
        return function(*args, **(kwargs or {}))

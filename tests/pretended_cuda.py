"""The path of a GPU, tested where there is none: on a CUDA device that is only pretended.

Tensors "on cuda" are CPU tensors whose storage is marked. All arithmetic is real, and what a GPU would refuse raises:
tensors on two devices in one operation, a CPU generator for a tensor on the GPU, NumPy on one, a synchronization or a
copy from the host while a graph is captured, memory that a captured graph needs and that is gone when it is replayed,
and the float32 learning rate that the fused SGD of CUDA insists on. A captured graph is replayed operation by operation
at the same addresses, without the Python that launched it, so that a number that Python changed between two steps, such
as a learning rate, shows as a difference from the CPU.

It knows nothing of streams, of kernels that round otherwise, or of memory running out. That takes a GPU.
"""

import collections
import contextlib
import traceback
from unittest import mock

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map

from lib.data import scaling

CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
aten = torch.ops.aten
FACTORIES = {
    getattr(torch, name)
    for name in (
        "tensor as_tensor zeros ones empty full arange eye rand randn randint randperm linspace scalar_tensor".split()
    )
}
WAITS = {
    aten._local_scalar_dense.default,
    aten.nonzero.default,
    aten.equal.default,
    aten.masked_select.default,
    aten.is_nonzero.default,
    aten.repeat_interleave.Tensor,
    aten._unique2.default,
}
INDEXING = {aten.index.Tensor, aten.index_put_.default, aten._unsafe_index.Tensor, aten.index_put.default}
RUNNING = {aten.native_batch_norm.default, aten.cudnn_batch_norm.default}  # write statistics, which no schema tells
COPIES = {aten.copy_.default, aten._to_copy.default, aten._foreach_copy_.default}


class Refused(RuntimeError):
    """What a CUDA device would refuse."""


def _key(t):
    return t.untyped_storage()._cdata


class PretendCUDA:
    """A context manager. `events` counts what makes the host wait for the device, by what and where in lib/."""

    def __init__(self):
        self.marked, self.wild, self.events, self.tape = {}, {}, collections.Counter(), None
        self.launches = 0

    # ---- which storages are "on the GPU"
    def on(self, t):
        with torch._C.DisableTorchFunction():
            if t.device.type != "cpu":
                return False
        ref = self.marked.get(_key(t))
        return ref is not None and not ref.expired()

    def mark(self, t, where=None):
        with _disable_current_modes():
            (self.marked if where is None else where)[_key(t)] = StorageWeakRef(t.untyped_storage())
        return t

    def anywhere(self, t):
        """Whether torch itself made it, inside an operation: where that is on a real GPU is not known here."""
        ref = self.wild.get(_key(t))
        return ref is not None and not ref.expired()

    @contextlib.contextmanager
    def on_named_device(self):
        """Within this context what is made from nothing is on the device that Python names."""
        before, self.named = self.named, True
        try:
            yield
        finally:
            self.named = before

    def wait(self, what):
        where = [f for f in traceback.extract_stack() if "/lib/" in f.filename and "site-packages" not in f.filename]
        where = f"{where[-1].filename.rsplit('/', 1)[-1]}:{where[-1].lineno}" if where else "?"
        if self.tape is not None:
            raise Refused(f"{what} at {where}: operation not permitted when stream is capturing")
        self.events[what, where] += 1

    def __enter__(self):
        self.stack = contextlib.ExitStack()
        scaling._statistics.cache_clear()
        self.stack.callback(scaling._statistics.cache_clear)

        def patch(*what):
            self.stack.enter_context(mock.patch.object(*what))

        patch(torch.cuda, "synchronize", lambda *_: None)
        patch(torch.cuda, "is_available", lambda: True)
        patch(torch.cuda, "device_count", lambda: 1)
        patch(torch.cuda, "device", contextlib.nullcontext)
        patch(torch.cuda, "empty_cache", lambda: None)
        patch(torch.backends.cudnn, "version", lambda: None)
        patch(torch.cuda, "get_device_name", lambda *_: "a pretended GPU")
        patch(torch.cuda, "CUDAGraph", lambda: Graph(self))
        patch(torch.cuda, "graph", lambda graph, **_: graph)
        load = torch.load
        patch(
            torch,
            "load",
            lambda f, map_location=None, **k: self._loaded(load(f, map_location="cpu", **k), map_location),
        )
        self.stack.enter_context(_Dispatch(self))
        self.stack.enter_context(_Functions(self))
        return self

    def __exit__(self, *a):
        return self.stack.__exit__(*a)

    def _loaded(self, state, where):
        cuda = where is not None and torch.device(where).type == "cuda"
        return tree_map(lambda t: self.mark(t) if cuda and isinstance(t, torch.Tensor) else t, state)


class _Functions(TorchFunctionMode):
    """What names devices: factories, `to`, `device`, NumPy, lists."""

    def __init__(self, cuda):
        super().__init__()
        self.cuda = cuda

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, cuda = dict(kwargs or {}), self.cuda
        name = getattr(func, "__name__", "")
        if func == torch.Tensor.device.__get__:
            with torch._C.DisableTorchFunction():
                result = func(*args)
                return CUDA if cuda.on(args[0]) else result
        if func == torch.Tensor.is_cuda.__get__:
            return cuda.on(args[0])
        if func == torch.Tensor.is_cpu.__get__:
            return args[0].device.type == "cpu" and not cuda.on(args[0])
        if func in (torch.Tensor.numpy, torch.Tensor.__array__) and cuda.on(args[0]):
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu()")
        if func is torch.Tensor.tolist and cuda.on(args[0]):
            cuda.wait("tolist")
        if func is torch.Tensor.cpu:
            return self._to(args[0], CPU, None, False)
        if func is torch.Tensor.cuda:
            return self._to(args[0], CUDA, None, False)
        if func is torch.Tensor.to:
            tensor, rest = args[0], list(args[1:])
            if (rest and isinstance(rest[0], torch.Tensor)) or isinstance(kwargs.get("other"), torch.Tensor):
                other = rest[0] if rest else kwargs["other"]
                return self._to(tensor, CUDA if cuda.on(other) else other.device, other.dtype, False)
            device, dtype, _, memory_format = torch._C._nn._parse_to(
                *rest, **{k: v for k, v in kwargs.items() if k != "copy"}
            )
            if device is None or device.type not in ("cpu", "cuda"):
                return func(*args, **kwargs)
            return self._to(tensor, device, dtype, kwargs.get("copy", False), memory_format)
        if func == torch.Tensor.__deepcopy__ and cuda.on(args[0]):  # copies storages, behind all operations
            return cuda.mark(func(*args, **kwargs))
        if name == "one_hot" and cuda.on(args[0]):  # on a GPU it checks no values, and makes its zeros there
            y, classes = args if len(args) == 2 else (args[0], kwargs["num_classes"])
            return cuda.mark(torch.zeros(*y.shape, classes, dtype=torch.int64)).scatter_(-1, y.unsqueeze(-1), 1)
        device = kwargs.get("device")
        if device is not None and (func in FACTORIES or name.startswith("new_") or name.endswith("_like")):
            device = torch.device(device)
            if device.type == "cuda":
                generator = kwargs.get("generator")
                if generator is not None:
                    raise Refused("Expected a 'cuda' device type for generator but found 'cpu'")
                kwargs["device"] = CPU
                if func in (torch.tensor, torch.as_tensor):
                    cuda.wait("copy of host data")
                with cuda.on_named_device():
                    return cuda.mark(
                        func(*args, **kwargs).clone() if func is torch.as_tensor else func(*args, **kwargs)
                    )
        with cuda.on_named_device() if func in FACTORIES else contextlib.nullcontext():
            return func(*args, **kwargs)

    def _to(self, t, device, dtype, copy, memory_format=None):
        here = self.cuda.on(t)
        there = device.type == "cuda"
        extra = {} if memory_format is None else {"memory_format": memory_format}
        if here == there:
            return t.to(CPU, dtype or t.dtype, copy=copy, **extra)
        self.cuda.wait("copy to the device" if there else "copy to the host")
        with self.cuda_moving():
            moved = t.to(CPU, dtype or t.dtype, copy=True, **extra)
        self.cuda.marked.pop(_key(moved), None)
        return self.cuda.mark(moved) if there else moved

    @contextlib.contextmanager
    def cuda_moving(self):
        self.cuda.moving = True
        try:
            yield
        finally:
            self.cuda.moving = False


PretendCUDA.moving = PretendCUDA.named = False


class _Dispatch(TorchDispatchMode):
    """What every operation must keep to, and what a graph records."""

    def __init__(self, cuda):
        super().__init__()
        self.cuda = cuda

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunction():
            return self._run(func, args, kwargs or {}, self.cuda)

    def _run(self, func, args, kwargs, cuda):
        tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor) and t.device.type == "cpu"]
        ours = [cuda.on(t) for t in tensors]
        if any(ours) and not cuda.moving:
            cuda.launches += 1
            strangers = [
                t
                for t, our in zip(tensors, ours, strict=True)
                if not our and t.dim() and t.numel() and not cuda.anywhere(t)
            ]
            if strangers and func in INDEXING:
                if not ours[0]:
                    raise Refused(
                        f"{func}: indices should be either on cpu or on the same device as the indexed tensor (cpu)"
                    )
                cuda.wait("indices from the host")
            elif strangers and func in COPIES:
                cuda.wait("copy between host and device")
            elif strangers:
                raise Refused(f"{func}: Expected all tensors to be on the same device, but found cuda:0 and cpu")
            if func in WAITS or (
                func in INDEXING and any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])
            ):
                cuda.wait(str(func))
            if func is aten._fused_sgd_.tensor_lr:  # FusedSgdKernel.cu: lr.data_ptr<float>()
                lr = kwargs["lr"]
                if cuda.on(lr) and lr.dtype != torch.float32:
                    raise Refused(
                        f"{func}: lr: expected scalar type Float but found {str(lr.dtype).removeprefix('torch.')}"
                    )
        if cuda.tape is not None:
            cuda.tape.before(func, args, kwargs)
        out = func(*args, **kwargs)
        wild = not any(ours) and not cuda.named and all(map(cuda.anywhere, tensors))
        if (any(ours) or wild) and not cuda.moving:
            inputs = {_key(t) for t in tensors}
            for t in tree_flatten(out)[0]:
                if isinstance(t, torch.Tensor) and t.device.type == "cpu" and _key(t) not in inputs:
                    cuda.wild.pop(_key(t), None)
                    cuda.mark(t, cuda.wild if wild else None)
        if cuda.tape is not None:
            cuda.tape.after(func, args, kwargs, out)
        return out


class Graph:
    """Stands in for torch.cuda.CUDAGraph, and for the context torch.cuda.graph."""

    def __init__(self, cuda):
        self.cuda, self.nodes, self.own, self.saved, self.outside = cuda, [], {}, {}, {}

    def __enter__(self):
        self.cuda.tape = self

    def __exit__(self, *error):
        self.cuda.tape = None
        with _disable_current_modes():
            for storage, old in self.saved.values():  # capturing runs nothing
                storage.copy_(old)
        self.saved = {}
        return False

    def before(self, func, args, kwargs):
        written = list(args[3:5]) if func in RUNNING else []
        given = zip(args, func._schema.arguments, strict=False)
        written += [a for a, s in given if s.alias_info and s.alias_info.is_write]
        written += [
            kwargs[s.name]
            for s in func._schema.arguments
            if s.name in kwargs and s.alias_info and s.alias_info.is_write
        ]
        with _disable_current_modes():
            for t in tree_flatten(written)[0]:
                if isinstance(t, torch.Tensor) and _key(t) not in self.own and _key(t) not in self.saved:
                    self.saved[_key(t)] = t.untyped_storage(), t.untyped_storage().clone()

    def after(self, func, args, kwargs, out):
        with _disable_current_modes():
            fresh = []
            inputs = {_key(t) for t in tree_flatten((args, kwargs))[0] if isinstance(t, torch.Tensor)}
            for t in tree_flatten(out)[0]:
                if isinstance(t, torch.Tensor) and _key(t) not in inputs and _key(t) not in self.own:
                    self.own[_key(t)] = t.untyped_storage()  # the graph's private pool
                fresh.append(isinstance(t, torch.Tensor) and _key(t) not in inputs)
            self.nodes.append(
                (func, tree_map(self._held, args), tree_map(self._held, kwargs), tree_map(self._held, out), fresh)
            )

    def _held(self, t):
        if not isinstance(t, torch.Tensor):
            return t
        if _key(t) in self.own:
            return t.detach()
        self.outside[_key(t)] = tuple(t.shape)
        return _Outside(StorageWeakRef(t.untyped_storage()), t.dtype, t.storage_offset(), tuple(t.shape), t.stride())

    def replay(self):
        with _disable_current_modes(), torch.no_grad():
            for func, args, kwargs, out, fresh in self.nodes:
                got = func(*tree_map(_tensor, args), **tree_map(_tensor, kwargs))
                for new, old, own in zip(tree_flatten(got)[0], tree_flatten(out)[0], fresh, strict=True):
                    if own and not new._is_zerotensor():  # a tangent of nothing, which has no memory
                        _tensor(old).copy_(new)


class _Outside:
    """A tensor that a graph reads or writes but does not own: only its address is known."""

    def __init__(self, ref, dtype, offset, shape, stride):
        self.ref, self.dtype, self.offset, self.shape, self.stride = ref, dtype, offset, shape, stride

    def tensor(self):
        if self.ref.expired():
            raise Refused("a graph is replayed that reads or writes memory which is gone")
        storage = torch.UntypedStorage._new_with_weak_ptr(self.ref.cdata)
        return torch.empty(0, dtype=self.dtype).set_(storage, self.offset, self.shape, self.stride)


def _tensor(t):
    return t.tensor() if isinstance(t, _Outside) else t

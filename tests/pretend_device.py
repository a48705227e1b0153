"""A pretend accelerator: finds mixed devices and counts what the host waits for, on a CPU.

Within ``PretendDevice``, tensors can be on the device ``lazy``. They hold a CPU tensor, which
operators run on, so that results equal the CPU's. As on a GPU, operators refuse tensors of both
devices, and the host waits for an operator that returns a value to it, or whose output has a size
that depends on values.
"""

import traceback

import torch
import torchvision  # noqa: F401  # registers torch.ops.torchvision
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

DEVICE = torch.device("lazy")  # autograd and autocast treat it like the CPU
aten = torch.ops.aten
READS = {
    aten._local_scalar_dense,
    aten._unique2,
    aten.equal,
    aten.masked_select,
    aten.nonzero,
    aten.repeat_interleave,
    aten.unique_consecutive,
    aten.unique_dim,
    torch.ops.torchvision.nms,
}
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
COPIES = {aten._to_copy, aten.copy_}


class PretendTensor(torch.Tensor):
    """A tensor on the pretend device."""

    @staticmethod
    def __new__(cls, held: torch.Tensor):
        tensor = torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )
        tensor.held = held
        return tensor

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise RuntimeError(f"{func} ran outside of PretendDevice")

    __torch_function__ = torch._C._disabled_torch_function_impl


class PretendDevice(TorchDispatchMode):
    """Runs operators of the pretend device.

    Attributes:
        reads: for each time that the host waited, the operator and the line of code.
    """

    def __init__(self):
        super().__init__()
        self.reads: list[str] = []
        self.functions = _Functions()

    def __enter__(self):
        self.functions.__enter__()
        return super().__enter__()

    def __exit__(self, *exception):
        super().__exit__(*exception)
        self.functions.__exit__(*exception)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        ours = [x for x in tensors if isinstance(x, PretendTensor)]
        on_device = bool(ours)
        if ours:
            self._check(func, args, tensors)
        if kwargs.get("device") is not None:
            on_device = torch.device(kwargs["device"]).type == DEVICE.type
            kwargs = {**kwargs, "device": torch.device("cpu")}
        if func._overloadpacket is aten.copy_:
            on_device = isinstance(args[0], PretendTensor)
        if ours and (func._overloadpacket in READS or not on_device or _by_mask(func, args)):
            self._read(func)
        args, kwargs = tree_map_only(PretendTensor, lambda x: x.held, (args, kwargs))
        result = func(*args, **kwargs)
        if not on_device:
            return result
        given = {id(x.held): x for x in ours}  # in-place operators return their argument
        return tree_map_only(
            torch.Tensor, lambda x: given[id(x)] if id(x) in given else PretendTensor(x), result
        )

    def _check(self, func, args, tensors) -> None:
        """Raises if tensors are on both devices, with the exceptions that CUDA makes."""
        if func._overloadpacket in COPIES:
            return
        if func._overloadpacket in INDEXING and isinstance(args[0], PretendTensor):
            tensors = [x for x in tensors if x.dtype not in (torch.int64, torch.bool)]
        sizable = [x for x in tensors if x.dim() > 0]
        if len({isinstance(x, PretendTensor) for x in sizable}) > 1:
            raise RuntimeError(f"{func} got tensors of two devices")

    def _read(self, func) -> None:
        frames = [f for f in traceback.extract_stack() if "/torch" not in f.filename]
        frame = next(f for f in reversed(frames) if f.filename != __file__)
        self.reads.append(f"{func} {frame.filename}:{frame.lineno} {frame.line}")


class _Functions(TorchFunctionMode):
    """Replaces functions that do not get to the dispatcher."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor):
            data, device = args[0], kwargs.pop("device", None)
            if isinstance(data, torch.Tensor):
                return data.to(device=device or data.device, dtype=kwargs.get("dtype"))
            return func(*args, **kwargs).to(device or "cpu")
        if func is torch.Tensor.tolist and isinstance(args[0], PretendTensor):
            return args[0].cpu().tolist()
        return func(*args, **kwargs)


def _by_mask(func, args) -> bool:
    """Whether an operator indexes by a boolean mask of the device, whose size it has to count."""
    if func._overloadpacket not in INDEXING:
        return False
    if len(args) > 2 and args[2].numel() == 1:  # filling by a mask
        return False
    masks = [x for x in args[1] if isinstance(x, PretendTensor) and x.dtype == torch.bool]
    return bool(masks)

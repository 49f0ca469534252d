"""A device that is not the CPU and computes on it: its tensors hold CPU tensors, say that they lie on `gpu:0`, and obey
the rules of a GPU. What mixes devices, draws on it with a generator of the CPU, or turns its tensors to numpy fails
here as it does there, with values that are those of the CPU.

Inside `emulated()` all that torch does in this process is looked at; nothing is compiled and nothing is installed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "gpu"
_setup_privateuseone_for_python_backend(NAME)
DEVICE = torch.device(NAME, 0)

aten = torch.ops.aten
COPIES = {aten._to_copy.default, aten.copy_.default}  # from one device to another
INDEXED = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default}
TO_THE_HOST = {aten._local_scalar_dense.default, aten.equal.default}
FROM_DATA = (torch.tensor, torch.as_tensor, torch.asarray)  # copy to the device below every mode
ITEMS = (Tensor.__getitem__, Tensor.__setitem__)  # and so do these with lists


class Emulated(Tensor):
    """A tensor on the device, over the one on the CPU that holds its values."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> Emulated:
        made = Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )
        made.held = held
        return made

    def __repr__(self, **_: Any) -> str:
        return f"{self.held!r} on {DEVICE}"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return compute(func, args, kwargs or {})

    def tolist(self) -> Any:
        return self.detach().cpu().tolist()


@contextmanager
def emulated() -> Iterator[torch.device]:
    """As long as it lasts there is such a device."""
    with _Operations(), _Factories():
        yield DEVICE


class _Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        return compute(func, args, kwargs or {})


class _Factories(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func is Tensor.new_tensor:
            func, args, kwargs = torch.tensor, args[1:], {"dtype": args[0].dtype, "device": args[0].device} | kwargs
        if func in ITEMS and any(isinstance(one, list) for one in _places(args[1])):
            args = (args[0], tuple(torch.tensor(x) if isinstance(x, list) else x for x in _places(args[1])), *args[2:])
        if func in FROM_DATA and _is_ours(kwargs.get("device")):
            rest = {key: value for key, value in kwargs.items() if key not in ("device", "requires_grad")}
            return func(*args, **rest).to(DEVICE).requires_grad_(kwargs.get("requires_grad", False))
        return func(*args, **kwargs)


def compute(func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Carry out one operation of torch where its tensors lie."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    here, target = any(isinstance(tensor, Emulated) for tensor in tensors), kwargs.get("device")
    if not here and not _is_ours(target):
        return func(*args, **kwargs)
    if func is aten._fused_sdp_choice.default:
        return torch.nn.attention.SDPBackend.MATH.value  # the CPU would name a kernel of its own
    if func not in COPIES:
        _refuse_mixtures(func, args, tensors, here)
    if (drawn := kwargs.get("generator")) is not None:
        raise RuntimeError(f"{func}: Expected a '{NAME}' device type for generator but found '{drawn.device.type}'")
    on_cpu = {} if target is None else {"device": "cpu"}
    inner_args, inner_kwargs = tree_map(lambda x: x.held if isinstance(x, Emulated) else x, (args, kwargs | on_cpu))
    found = func(*inner_args, **inner_kwargs)
    if func is aten.copy_.default:
        return args[0]
    if target is not None and not _is_ours(target):
        return found.clone() if any(found is leaf for leaf in tree_leaves(inner_args)) else found
    if func in TO_THE_HOST:
        return found
    made = tree_map(lambda x: Emulated(x) if isinstance(x, Tensor) else x, found)
    return return_and_correct_aliasing(func, args, kwargs, made)


def _places(index: Any) -> tuple:
    return index if isinstance(index, tuple) else (index,)


def _is_ours(target: Any) -> bool:
    return target is not None and torch.device(target).type == NAME


def _refuse_mixtures(func: Any, args: tuple, tensors: list[Tensor], here: bool) -> None:
    """Numbers without dimensions may lie on the CPU, and so may indices."""
    if func in INDEXED:
        others = [x for x in (args[0], *args[2:3]) if not isinstance(x, Emulated) and (x is args[0] or x.dim())]
    else:
        others = [x for x in tensors if here and not isinstance(x, Emulated) and x.dim()]
    if others:
        raise RuntimeError(
            f"{func}: Expected all tensors to be on the same device, but found at least two devices, {DEVICE} and"
            f" {others[0].device} (of shape {tuple(others[0].shape)})"
        )

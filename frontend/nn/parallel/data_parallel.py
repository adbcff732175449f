"""Data parallelism in one process: a module's replicas each take a part of the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from braze.autograd.modes import is_grad_enabled
from braze.devices import current_gpu, device
from braze.nn.modules.module import Module
from braze.nn.parallel.parallel_apply import parallel_apply
from braze.nn.parallel.places import all_gpus, devices_of
from braze.nn.parallel.replicate import replicate
from braze.nn.parallel.scatter_gather import gather, scatter_kwargs


def _are_gpus(device_ids: Sequence[Any] | None) -> bool:
    """Whether devices are named as GPUs are, or left to be found."""
    return device_ids is None or any(device(item).type != "cpu" for item in device_ids)


def _usable(device_ids: Sequence[Any] | None) -> list[device]:
    """The GPUs that are meant; none where there are none."""
    gpus = all_gpus()
    if not gpus or device_ids is None:
        return gpus
    return [device("cuda", current_gpu()) if str(i) == "cuda" else device(i) for i in device_ids]


def _check_place(module: Module, first: device) -> None:
    """Raises: RuntimeError, unless the module is on the first of several GPUs."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_cuda != (first.type == "cuda") or (
            tensor.is_cuda and tensor.device.index != first.index
        ):
            raise RuntimeError(
                "module must have its parameters and buffers on device "
                f"{first} (device_ids[0]) but found one of them on device: {tensor.device}"
            )


class DataParallel(Module):
    """Runs a module on several devices: the batch is cut into parts, replicas of the module take
    one each, and the results are joined. Gradients add up in the module's parameters.

    Without a GPU it runs the module itself, as in PyTorch, unless `device_ids` names shares of the
    CPU, such as ``["cpu:0", "cpu:1"]``: then replicas compute side by side in threads, each with
    its share of the processors. That is for writing and testing such programs; one module uses all
    processors as well.

    Buffers that the first replica writes stay written (running means); what the others write, and
    attributes that any of them sets, is lost.

    Args:
        module: it and its parameters. device_ids: where its replicas are.
        output_device: where results are joined; the first device by default.
        dim: the batch's dimension.

    Example:
        >>> import braze
        >>> from braze import nn
        >>> net = nn.DataParallel(nn.Linear(4, 2), device_ids=["cpu:0", "cpu:1"])
        >>> net(braze.zeros(6, 4)).shape
        braze.Size([6, 2])
    """

    def __init__(
        self,
        module: Module,
        device_ids: Sequence[Any] | None = None,
        output_device: Any = None,
        dim: int = 0,
    ) -> None:
        super().__init__()
        self.module = module
        self.device_ids: list[device] = []
        if _are_gpus(device_ids):
            device_ids = _usable(device_ids)
        if not device_ids:
            return
        self.dim = dim
        self.device_ids = devices_of(device_ids)
        first = self.device_ids[0] if output_device is None else output_device
        (self.output_device,) = devices_of([first])

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        """The module's result for the whole batch."""
        if not self.device_ids:
            return self.module(*inputs, **kwargs)
        _check_place(self.module, self.device_ids[0])
        parts, named = self.scatter(inputs, kwargs, self.device_ids)
        if not parts:  # called without arguments: by one replica
            parts, named = ((),), ({},)
        if len(self.device_ids) == 1:
            return self.module(*parts[0], **named[0])
        replicas = self.replicate(self.module, self.device_ids[: len(parts)])
        outputs = self.parallel_apply(replicas, parts, named)
        return self.gather(outputs, self.output_device)

    def replicate(self, module: Module, device_ids: Sequence[Any]) -> list[Module]:
        """Replicas for this call."""
        return replicate(module, device_ids, not is_grad_enabled())

    def scatter(
        self, inputs: tuple[Any, ...], kwargs: dict[str, Any] | None, device_ids: Sequence[Any]
    ) -> tuple[tuple[Any, ...], tuple[dict[str, Any], ...]]:
        """The arguments of each replica."""
        return scatter_kwargs(inputs, kwargs, device_ids, dim=self.dim)

    def parallel_apply(self, replicas: Sequence[Module], inputs: Any, kwargs: Any) -> list[Any]:
        """The replicas' results."""
        return parallel_apply(replicas, inputs, kwargs, self.device_ids[: len(replicas)])

    def gather(self, outputs: Any, output_device: Any) -> Any:
        """The results joined."""
        return gather(outputs, output_device, dim=self.dim)


def data_parallel(
    module: Module,
    inputs: Any,
    device_ids: Sequence[Any] | None = None,
    output_device: Any = None,
    dim: int = 0,
    module_kwargs: dict[str, Any] | None = None,
) -> Any:
    """One call of a module on several devices; see `DataParallel`.

    Args:
        inputs: a tuple of arguments, or a single one.

    Raises:
        RuntimeError: there is no GPU, and `device_ids` does not name shares of the CPU.
    """
    if _are_gpus(device_ids):
        device_ids = _usable(device_ids)
    if not device_ids:
        raise RuntimeError(
            "device type could not be determined: there is no GPU; name shares of the CPU, such as "
            'device_ids=["cpu:0", "cpu:1"]'
        )
    devices = devices_of(device_ids)
    given = inputs if isinstance(inputs, tuple) else () if inputs is None else (inputs,)
    parts, named = scatter_kwargs(given, module_kwargs, devices, dim)
    if not parts:
        parts, named = ((),), ({},)
    if len(devices) == 1:
        return module(*parts[0], **named[0])
    used = devices[: len(parts)]
    outputs = parallel_apply(replicate(module, used), parts, named, used)
    return gather(outputs, devices[0] if output_device is None else output_device, dim)

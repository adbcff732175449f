"""How a layer is shared out among ranks, with PyTorch's names.

There are no DTensors: a layer is replaced by one that has this rank's part of the weight, inputs
and outputs are ordinary tensors, and placements say which part of the whole they are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from braze import distributed as dist
from braze.distributed.device_mesh import DeviceMesh
from braze.distributed.groups import ProcessGroup
from braze.distributed.tensor.parallel.layers import (
    ColumnParallelEmbedding,
    ColumnParallelLinear,
    RowParallelLinear,
    VocabParallelEmbedding,
)
from braze.distributed.tensor.parallel.mappings import group_of, reduce_from_ranks
from braze.distributed.tensor.placements import (
    Placement,
    Replicate,
    Shard,
    checked,
    redistributed,
)
from braze.nn.modules.embedding import Embedding
from braze.nn.modules.linear import Linear
from braze.nn.modules.module import Module
from braze.tensors import Tensor

Layouts = Placement | Sequence[Placement | None] | None


class ParallelStyle(ABC):
    """How a module is shared out.

    Attributes:
        src_data_rank: the rank of the mesh whose parameters count; None: each has the same already.
    """

    src_data_rank: int | None = 0

    @abstractmethod
    def _apply(self, module: Module, device_mesh: DeviceMesh) -> Module:
        """The module that is to be in its place, which may be itself."""

    def _shared(self, module: Module, device_mesh: DeviceMesh) -> ProcessGroup:
        """The ranks that share a module out, once they have the same parameters."""
        group = group_of(device_mesh.get_group())
        if self.src_data_rank is not None:
            for tensor in [*module.parameters(), *module.buffers()]:
                dist.broadcast(tensor.detach(), group=group, group_src=self.src_data_rank)
        return group


class _LayerStyle(ParallelStyle):
    """Of a `Linear` or `Embedding`."""

    _default_layouts: tuple[Placement, Placement]

    def __init__(
        self,
        *,
        input_layouts: Placement | None = None,
        output_layouts: Placement | None = None,
        use_local_output: bool = True,
    ) -> None:
        name = type(self).__name__
        given, made = self._default_layouts
        self.input_layouts = checked(input_layouts, given, f"{name}: input_layouts")
        self.output_layouts = checked(output_layouts, made, f"{name}: output_layouts")
        _check_local(name, use_local_output)

    def _around(
        self, layer: Module, group: ProcessGroup, given: Placement, made: Placement
    ) -> Module:
        """A layer that takes inputs and gives outputs of some placement, with what turns them into
        those and from those that are asked for."""
        named = {"input": (self.input_layouts, given)}
        _before(layer, [self.input_layouts], [given], named, group)
        _behind(layer, [made], [self.output_layouts], group)
        return layer


class ColwiseParallel(_LayerStyle):
    """Each rank computes some of the outputs of a `Linear`, or has some columns of an `Embedding`.

    Args:
        input_layouts: what part of the input each rank has; all of it by default.
        output_layouts: what part of the output each is to have; by default those it computes,
            `Shard(-1)`.
        use_local_output: False is refused: outputs are ordinary tensors.

    Raises:
        TypeError: a layout is no `Replicate()` or `Shard(dim)`.
        NotImplementedError: `use_local_output=False`.
    """

    _default_layouts = Replicate(), Shard(-1)

    def _apply(self, module: Module, device_mesh: DeviceMesh) -> Module:
        layer: Module
        if isinstance(module, Linear):
            group = self._shared(module, device_mesh)
            layer = ColumnParallelLinear.of(module, False, group)
        elif isinstance(module, Embedding):
            group = self._shared(module, device_mesh)
            layer = ColumnParallelEmbedding.of(module, False, group)
        else:
            raise NotImplementedError(
                "ColwiseParallel currently only support nn.Linear and nn.Embedding! Given "
                f"{type(module).__name__}"
            )
        return self._around(layer, group, Replicate(), Shard(-1))


class RowwiseParallel(_LayerStyle):
    """Each rank has the weights of some inputs of a `Linear`, or some rows of an `Embedding`; their
    results are added up.

    Args:
        input_layouts: what part of the input each rank has; by default what a `ColwiseParallel`
            layer gives, `Shard(-1)`. Indices of an embedding are `Replicate()`, as a rule.
        output_layouts: what part of the output each is to have; all of it by default.
        use_local_output: False is refused: outputs are ordinary tensors.

    Raises: as `ColwiseParallel`.
    """

    _default_layouts = Shard(-1), Replicate()

    def _apply(self, module: Module, device_mesh: DeviceMesh) -> Module:
        if isinstance(module, Linear):
            group = self._shared(module, device_mesh)
            layer = RowParallelLinear.of(module, True, group)
            return self._around(layer, group, Shard(-1), Replicate())
        if isinstance(module, Embedding):
            group = self._shared(module, device_mesh)
            table = VocabParallelEmbedding.of(module, group)
            return self._around(table, group, Replicate(), Replicate())
        raise NotImplementedError(
            "RowwiseParallel currently only support nn.Linear and nn.Embedding! Given "
            f"{type(module).__name__}"
        )


class SequenceParallel(ParallelStyle):
    """Each rank applies a module, as a `LayerNorm` or `Dropout`, to its part of the sequence. All
    have its parameters; their gradients are added up.

    Args:
        sequence_dim: the dimension along which inputs and outputs are shared out.
        use_local_output: has no effect; outputs are ordinary tensors.
    """

    def __init__(self, *, sequence_dim: int = 1, use_local_output: bool = False) -> None:
        self.sequence_dim = sequence_dim

    def _apply(self, module: Module, device_mesh: DeviceMesh) -> Module:
        group = self._shared(module, device_mesh)
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.register_hook(lambda gradient: reduce_from_ranks(gradient, group))
        return module


class PrepareModuleInput(ParallelStyle):
    """Give a module other parts of its inputs than its caller has.

    Args:
        input_layouts: for each positional input which part there is; None: it is left alone.
        desired_input_layouts: which part is to be there.
        input_kwarg_layouts, desired_input_kwarg_layouts: the same of inputs by name.
        use_local_output: has no effect; inputs are ordinary tensors.

    Raises:
        ValueError: there are not as many wished for as given.
        TypeError: a layout is no `Replicate()` or `Shard(dim)`.
    """

    def __init__(
        self,
        *,
        input_layouts: Layouts = None,
        desired_input_layouts: Layouts = None,
        input_kwarg_layouts: Mapping[str, Placement] | None = None,
        desired_input_kwarg_layouts: Mapping[str, Placement] | None = None,
        use_local_output: bool = True,
    ) -> None:
        self.input_layouts = _listed(input_layouts)
        self.desired_input_layouts = _listed(desired_input_layouts)
        self.input_kwarg_layouts = dict(input_kwarg_layouts or {})
        self.desired_input_kwarg_layouts = dict(desired_input_kwarg_layouts or {})
        _check_pairs("input_layouts", self.input_layouts, self.desired_input_layouts)
        if set(self.input_kwarg_layouts) != set(self.desired_input_kwarg_layouts):
            raise ValueError(
                "input_kwarg_layouts and desired_input_kwarg_layouts should have the same names, "
                f"given {sorted(self.input_kwarg_layouts)} and "
                f"{sorted(self.desired_input_kwarg_layouts)}"
            )

    def _apply(self, module: Module, device_mesh: DeviceMesh) -> Module:
        group = group_of(device_mesh.get_group())
        named = {
            name: (own, self.desired_input_kwarg_layouts[name])
            for name, own in self.input_kwarg_layouts.items()
        }
        _before(module, self.input_layouts, self.desired_input_layouts, named, group)
        return module


class PrepareModuleOutput(ParallelStyle):
    """Give a module's caller other parts of its outputs than the module makes.

    Args:
        output_layouts: for each output which part there is; None: it is left alone.
        desired_output_layouts: which part is to be there.
        use_local_output: False is refused: outputs are ordinary tensors.

    Raises:
        ValueError: there are not as many wished for as given.
        TypeError: a layout is no `Replicate()` or `Shard(dim)`.
        NotImplementedError: `use_local_output=False`.
    """

    def __init__(
        self,
        *,
        output_layouts: Layouts,
        desired_output_layouts: Layouts,
        use_local_output: bool = True,
    ) -> None:
        self.output_layouts = _listed(output_layouts)
        self.desired_output_layouts = _listed(desired_output_layouts)
        _check_pairs("output_layouts", self.output_layouts, self.desired_output_layouts)
        _check_local("PrepareModuleOutput", use_local_output)

    def _apply(self, module: Module, device_mesh: DeviceMesh) -> Module:
        group = group_of(device_mesh.get_group())
        _behind(module, self.output_layouts, self.desired_output_layouts, group)
        return module


def _before(
    module: Module,
    given: Sequence[Placement | None],
    wanted: Sequence[Placement | None],
    named: Mapping[str, tuple[Placement, Placement]],
    group: ProcessGroup,
) -> None:
    """Let inputs be redistributed before a module gets them."""

    def hook(_: Module, args: Any, kwargs: Any) -> Any:
        if args and len(args) != len(given):
            raise ValueError(
                f"module inputs and input_layouts should have same length, {len(args)} and "
                f"{len(given)}"
            )
        kwargs = dict(kwargs)
        for name, (own, other) in named.items():
            if name in kwargs:
                kwargs[name] = redistributed(kwargs[name], own, other, group)
        return _each(args, given, wanted, group) if args else args, kwargs

    if any(own != other for own, other in [*zip(given, wanted, strict=True), *named.values()]):
        module.register_forward_pre_hook(hook, with_kwargs=True)


def _behind(
    module: Module,
    given: Sequence[Placement | None],
    wanted: Sequence[Placement | None],
    group: ProcessGroup,
) -> None:
    """Let outputs be redistributed behind a module."""

    def hook(_: Module, args: Any, output: Any) -> Any:
        outputs = output if isinstance(output, tuple) else (output,)
        if len(outputs) != len(given):
            raise ValueError(
                f"module outputs and output_layouts should have same length, {len(outputs)} and "
                f"{len(given)}"
            )
        found = _each(outputs, given, wanted, group)
        return found if isinstance(output, tuple) else found[0]

    if list(given) != list(wanted):
        module.register_forward_hook(hook)


def _each(
    values: Sequence[Any],
    given: Sequence[Placement | None],
    wanted: Sequence[Placement | None],
    group: ProcessGroup,
) -> tuple[Any, ...]:
    return tuple(
        redistributed(value, own, other, group)
        if isinstance(value, Tensor) and own is not None and other is not None
        else value
        for value, own, other in zip(values, given, wanted, strict=True)
    )


def _listed(layouts: Layouts) -> list[Placement | None]:
    every = [layouts] if isinstance(layouts, Placement) else list(layouts or ())
    return [None if each is None else checked(each, Replicate(), "layouts") for each in every]


def _check_pairs(name: str, given: Sequence[Any], wanted: Sequence[Any]) -> None:
    if len(given) != len(wanted):
        raise ValueError(
            f"{name} and desired_{name} should have same length, given {len(given)} and "
            f"{len(wanted)}"
        )


def _check_local(name: str, use_local_output: bool) -> None:
    if not use_local_output:
        raise NotImplementedError(
            f"{name}: use_local_output=False gives DTensors in PyTorch; here outputs are ordinary "
            "tensors, this rank's part"
        )

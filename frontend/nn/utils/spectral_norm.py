"""Spectral normalisation: a weight divided by its largest singular value.

Miyato, Kataoka, Koyama, Yoshida, arXiv 1802.05957. The singular vectors are followed by the power
method, one step (or a few) a training call, which keeps them in buffers.
"""

from __future__ import annotations

from typing import Any, TypeVar

from braze import random
from braze.autograd.modes import no_grad
from braze.functions.decompositions import pinverse
from braze.functions.linalg import dot, mm, mv
from braze.functions.movement import clone, permute, reshape, squeeze, transpose, unsqueeze
from braze.functions.pointwise import div, mul
from braze.functions.reductions import mean
from braze.nn.functional.activations import normalize
from braze.nn.modules.module import Module
from braze.nn.parameter import Parameter
from braze.tensors import Tensor

AnyModule = TypeVar("AnyModule", bound=Module)


def as_matrix(weight: Tensor, dim: int) -> Tensor:
    """The weight with a dimension in front and all others in one."""
    if dim != 0:
        weight = permute(weight, (dim, *(d for d in range(weight.ndim) if d != dim)))
    return reshape(weight, (weight.shape[0], -1))


def output_dimension(module: Module) -> int:
    """The dimension of a weight that belongs to the outputs."""
    return 1 if getattr(module, "transposed", False) else 0


def unit_vector(size: int, like: Tensor, eps: float) -> Tensor:
    """A random direction."""
    return normalize(random.randn(size, dtype=like.dtype, device=like.device), dim=0, eps=eps)


def check_iterations(n_power_iterations: int) -> None:
    """Raises: ValueError unless it is positive."""
    if n_power_iterations <= 0:
        raise ValueError(
            "Expected n_power_iterations to be positive, but got "
            f"n_power_iterations={n_power_iterations}"
        )


class SpectralNorm:
    """A forward pre-hook that computes the weight `name` from `name_orig`, with the vectors
    `name_u` and `name_v`."""

    _version = 1

    def __init__(
        self,
        name: str = "weight",
        n_power_iterations: int = 1,
        dim: int = 0,
        eps: float = 1e-12,
    ) -> None:
        check_iterations(n_power_iterations)
        self.name = name
        self.dim = dim
        self.n_power_iterations = n_power_iterations
        self.eps = eps

    def compute_weight(self, module: Module, do_power_iteration: bool) -> Tensor:
        """The weight, after steps of the power method, which change the buffers in place."""
        weight, u, v = (getattr(module, f"{self.name}_{part}") for part in ("orig", "u", "v"))
        matrix = as_matrix(weight, self.dim)
        if do_power_iteration:
            with no_grad():
                for _ in range(self.n_power_iterations):
                    v.copy_(normalize(mv(transpose(matrix, 0, 1), u), dim=0, eps=self.eps))
                    u.copy_(normalize(mv(matrix, v), dim=0, eps=self.eps))
                # The tape keeps these, so that two calls can have one backward pass.
                u, v = clone(u), clone(v)
        return div(weight, dot(u, mv(matrix, v)))

    def remove(self, module: Module) -> None:
        """Make the weight a parameter again."""
        with no_grad():
            weight = self.compute_weight(module, do_power_iteration=False)
        for suffix in ("", "_u", "_v", "_orig"):
            delattr(module, self.name + suffix)
        module.register_parameter(self.name, Parameter(weight.detach()))

    def __call__(self, module: Module, inputs: Any) -> None:
        weight = self.compute_weight(module, do_power_iteration=module.training)
        setattr(module, self.name, weight)


class SpectralNormLoadStateDictPreHook:
    """Completes states of before `name_v` was part of them.

    These have the weight W of the last call, W_orig and u, hence sigma = W_orig / W, and v is what
    solves W_orig v = u, scaled so that u W_orig v = sigma.
    """

    def __init__(self, fn: SpectralNorm) -> None:
        self.fn = fn

    def __call__(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        fn = self.fn
        version = local_metadata.get("spectral_norm", {}).get(fn.name + ".version")
        if version is not None and version >= 1:
            return
        key = prefix + fn.name
        current = all(key + suffix in state_dict for suffix in ("_orig", "_u", "_v"))
        if version is None and current and key not in state_dict:
            return  # a state of today without its metadata
        missing = [key + suffix for suffix in ("_orig", "", "_u") if key + suffix not in state_dict]
        if missing:
            missing_keys.extend(missing if strict else [])
            return
        with no_grad():
            original, u = state_dict[key + "_orig"], state_dict[key + "_u"]
            sigma = mean(div(original, state_dict.pop(key)))
            matrix = as_matrix(original, fn.dim)
            across = transpose(matrix, 0, 1)
            v = squeeze(mm(mm(pinverse(mm(across, matrix)), across), unsqueeze(u, 1)), 1)
            state_dict[key + "_v"] = mul(v, div(sigma, dot(u, mv(matrix, v))))


class SpectralNormStateDictHook:
    """Notes the version of the state."""

    def __init__(self, fn: SpectralNorm) -> None:
        self.fn = fn

    def __call__(
        self, module: Module, state_dict: Any, prefix: str, local_metadata: dict[str, Any]
    ) -> None:
        versions = local_metadata.setdefault("spectral_norm", {})
        key = self.fn.name + ".version"
        if key in versions:
            raise RuntimeError(f"Unexpected key in metadata['spectral_norm']: {key}")
        versions[key] = self.fn._version


def spectral_norm(
    module: AnyModule,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
) -> AnyModule:
    """Divide a module's parameter, before each call, by its largest singular value.

    The parameter is called `name_orig` from then on; the buffers `name_u` and `name_v` hold the
    singular vectors.

    Args:
        n_power_iterations: steps of the power method for each call in training.
        eps: the least norm that is divided by.
        dim: the dimension of the rows; 0, and 1 for transposed convolutions.

    Raises:
        RuntimeError: the parameter is normalised already.
        ValueError: it is None, or n_power_iterations is not positive.
    """
    for other in module._forward_pre_hooks.values():
        if isinstance(other, SpectralNorm) and other.name == name:
            raise RuntimeError(
                f"Cannot register two spectral_norm hooks on the same parameter {name}"
            )
    hook = SpectralNorm(
        name, n_power_iterations, output_dimension(module) if dim is None else dim, eps
    )
    weight = module._parameters[name]
    if weight is None:
        raise ValueError(f"`SpectralNorm` cannot be applied as parameter `{name}` is None")
    with no_grad():
        u, v = (unit_vector(size, weight, eps) for size in as_matrix(weight, hook.dim).shape)
    delattr(module, name)
    module.register_parameter(name + "_orig", weight)
    setattr(module, name, weight.data)
    module.register_buffer(name + "_u", u)
    module.register_buffer(name + "_v", v)
    module.register_forward_pre_hook(hook)
    module._register_state_dict_hook(SpectralNormStateDictHook(hook))
    module._register_load_state_dict_pre_hook(SpectralNormLoadStateDictPreHook(hook))
    return module


def remove_spectral_norm(module: AnyModule, name: str = "weight") -> AnyModule:
    """Make the weight a parameter again.

    Raises:
        ValueError: it is not normalised.
    """
    for key, hook in module._forward_pre_hooks.items():
        if isinstance(hook, SpectralNorm) and hook.name == name:
            hook.remove(module)
            del module._forward_pre_hooks[key]
            break
    else:
        raise ValueError(f"spectral_norm of '{name}' not found in {module}")
    for key, hook in list(module._state_dict_hooks.items()):
        if isinstance(hook, SpectralNormStateDictHook) and hook.fn.name == name:
            del module._state_dict_hooks[key]
    for key, (hook, _) in list(module._load_state_dict_pre_hooks.items()):
        if isinstance(hook, SpectralNormLoadStateDictPreHook) and hook.fn.name == name:
            del module._load_state_dict_pre_hooks[key]
    return module

"""Optimizer steps: one operation updates one parameter and its state.

Formulas are PyTorch's (torch/optim/sgd.py, adam.py, adamw.py). Scalars (learning rate, momentum,
...) are 0-d operands, so that a changing one never means a new program. Each is of the parameter's
dtype or f64; what is derived from them, such as 1 - beta2, is computed in f64 where one of them is
f64, and then rounded once to the parameter's dtype, as PyTorch does with Python floats.
"""

from __future__ import annotations

from typing import Any

from braze.ir.dtypes import f64
from braze.ir.errors import DTypeError, ShapeError
from braze.ir.op import declare
from braze.ir.ops.composite import as_dtype, require_floating
from braze.ir.types import TensorType


def check_tensors(name: str, param: TensorType, **tensors: TensorType) -> None:
    """Raise ShapeError or DTypeError for tensors unlike the parameter."""
    require_floating(name, param)
    for word, t in tensors.items():
        if t.shape != param.shape:
            raise ShapeError(f"[{name}] {word} {t} has not the shape of the parameter {param}")
        if t.dtype is not param.dtype:
            raise DTypeError(f"[{name}] {word} {t} has not the dtype of the parameter {param}")


def check_scalars(name: str, param: TensorType, *scalars: TensorType) -> None:
    """Raise DTypeError for what is neither 0-d of the parameter's dtype nor 0-d f64."""
    for t in scalars:
        if t.shape != () or t.dtype not in (param.dtype, f64):
            raise DTypeError(
                f"[{name}] scalars must be {param.dtype.name}[] or f64[] for the parameter "
                f"{param}, given {t}"
            )


def _wide(b: Any, *scalars: Any) -> list[Any]:
    """The scalars in one dtype: f64 if one of them is."""
    dtypes = [scalar.type.dtype for scalar in scalars]
    dtype = f64 if f64 in dtypes else dtypes[0]
    return [as_dtype(b, scalar, dtype) for scalar in scalars]


# SGD ----------------------------------------------------------------------------------------------


def _sgd_types(
    param: TensorType, grad: TensorType, lr: TensorType, weight_decay: TensorType
) -> tuple[TensorType, ...]:
    check_tensors("sgd_step", param, gradient=grad)
    check_scalars("sgd_step", param, lr, weight_decay)
    return (param,)


def _decayed(b: Any, param: Any, grad: Any, weight_decay: Any) -> Any:
    return b.add(grad, b.mul(param, as_dtype(b, weight_decay, param.type.dtype)))


def _descend(b: Any, param: Any, direction: Any, lr: Any) -> Any:
    return b.sub(param, b.mul(direction, as_dtype(b, lr, param.type.dtype)))


sgd_step = declare(
    "sgd_step",
    "composite",
    "param grad lr weight_decay",
    infer=_sgd_types,
    decompose=lambda b, param, grad, lr, weight_decay: _descend(
        b, param, _decayed(b, param, grad, weight_decay), lr
    ),
    results="new_param",
    differentiable=False,
    doc="param - lr * (grad + weight_decay * param).",
)


def _sgd_momentum_types(
    param: TensorType,
    grad: TensorType,
    buffer: TensorType,
    lr: TensorType,
    momentum: TensorType,
    dampening: TensorType,
    weight_decay: TensorType,
    *,
    nesterov: bool,
) -> tuple[TensorType, ...]:
    check_tensors("sgd_momentum_step", param, gradient=grad, buffer=buffer)
    check_scalars("sgd_momentum_step", param, lr, momentum, dampening, weight_decay)
    return (param, param)


def _sgd_momentum(
    b: Any,
    param: Any,
    grad: Any,
    buffer: Any,
    lr: Any,
    momentum: Any,
    dampening: Any,
    weight_decay: Any,
    *,
    nesterov: bool,
) -> Any:
    dtype = param.type.dtype
    gradient = _decayed(b, param, grad, weight_decay)
    rate = as_dtype(b, momentum, dtype)
    fresh = b.mul(gradient, as_dtype(b, b.sub(1.0, dampening), dtype))
    new_buffer = b.add(b.mul(buffer, rate), fresh)
    direction = b.add(gradient, b.mul(new_buffer, rate)) if nesterov else new_buffer
    return _descend(b, param, direction, lr), new_buffer


sgd_momentum_step = declare(
    "sgd_momentum_step",
    "composite",
    "param grad buffer lr momentum dampening weight_decay",
    infer=_sgd_momentum_types,
    decompose=_sgd_momentum,
    attributes={"nesterov": bool},
    results="new_param new_buffer",
    differentiable=False,
    doc="""d = grad + weight_decay * param; buffer = momentum * buffer + (1 - dampening) * d; then
param - lr * buffer, or with `nesterov` param - lr * (d + momentum * buffer). PyTorch's first step
sets buffer = d: a buffer of zeros and dampening 0 give that.""",
)

# Adam ---------------------------------------------------------------------------------------------


def _adam_types(
    param: TensorType,
    grad: TensorType,
    m: TensorType,
    v: TensorType,
    lr: TensorType,
    beta1: TensorType,
    beta2: TensorType,
    eps: TensorType,
    weight_decay: TensorType,
    correction1: TensorType,
    correction2: TensorType,
    *,
    decoupled: bool,
    maximize: bool,
) -> tuple[TensorType, ...]:
    check_tensors("adam_step", param, gradient=grad, m=m, v=v)
    scalars = (lr, beta1, beta2, eps, weight_decay, correction1, correction2)
    check_scalars("adam_step", param, *scalars)
    return (param, param, param)


def _adam(
    b: Any,
    param: Any,
    grad: Any,
    m: Any,
    v: Any,
    lr: Any,
    beta1: Any,
    beta2: Any,
    eps: Any,
    weight_decay: Any,
    correction1: Any,
    correction2: Any,
    *,
    decoupled: bool,
    maximize: bool,
) -> Any:
    dtype = param.type.dtype
    lr, beta1, beta2, eps, weight_decay, correction1, correction2 = _wide(
        b, lr, beta1, beta2, eps, weight_decay, correction1, correction2
    )
    gradient = b.neg(grad) if maximize else grad
    if decoupled:
        param = b.mul(param, as_dtype(b, b.sub(1.0, b.mul(lr, weight_decay)), dtype))
    else:
        gradient = _decayed(b, param, gradient, weight_decay)
    step_m = as_dtype(b, b.sub(1.0, beta1), dtype)
    step_v = as_dtype(b, b.sub(1.0, beta2), dtype)
    new_m = b.add(m, b.mul(b.sub(gradient, m), step_m))
    new_v = b.add(b.mul(v, as_dtype(b, beta2, dtype)), b.mul(b.mul(gradient, gradient), step_v))
    # In the order of Kingma and Ba's section 2, the corrections divide numbers, not elements.
    spread = b.sqrt(correction2)
    rate = as_dtype(b, b.div(b.mul(lr, spread), correction1), dtype)
    deviation = b.add(b.sqrt(new_v), as_dtype(b, b.mul(eps, spread), dtype))
    return b.sub(param, b.mul(rate, b.div(new_m, deviation))), new_m, new_v


adam_step = declare(
    "adam_step",
    "composite",
    "param grad m v lr beta1 beta2 eps weight_decay correction1 correction2",
    infer=_adam_types,
    decompose=_adam,
    attributes={"decoupled": bool, "maximize": bool},
    results="new_param new_m new_v",
    differentiable=False,
    domain=(0.1, 0.9),
    doc="""m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g ** 2; then
param - lr / correction1 * m / (sqrt(v / correction2) + eps), where correction_i = 1 - beta_i ** t
at step t = 1, 2, ... The decay weight_decay * param is added to g, or with `decoupled` (AdamW) the
parameter is multiplied by 1 - lr * weight_decay first. Kingma and Ba, arXiv 1412.6980; Loshchilov
and Hutter, arXiv 1711.05101.""",
)

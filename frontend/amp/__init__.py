"""Mixed precision: `autocast` chooses the dtype of operations, `GradScaler` keeps small gradients
from vanishing in float16."""

from typing import TYPE_CHECKING, Any

from braze.amp.autocast import autocast, custom_bwd, custom_fwd, is_autocast_available

if TYPE_CHECKING:
    from braze.amp.grad_scaler import GradScaler

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd", "is_autocast_available"]


def __getattr__(name: str) -> Any:
    """`GradScaler` is loaded when it is used: it needs the optimizers."""
    if name != "GradScaler":
        raise AttributeError(f"module 'braze.amp' has no attribute {name!r}")
    from braze.amp.grad_scaler import GradScaler

    return GradScaler

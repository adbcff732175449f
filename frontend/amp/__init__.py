"""Mixed precision: `autocast` chooses the dtype of operations, `GradScaler` keeps small gradients
from vanishing in float16."""

from braze.amp.autocast import autocast, custom_bwd, custom_fwd, is_autocast_available
from braze.amp.grad_scaler import GradScaler

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd", "is_autocast_available"]

"""CUDA, as `torch.backends.cuda`."""

from braze.engine import config


class _MatrixProducts:
    """Precisions of products of matrices; those of 16-bit floats are summed up in float32."""

    allow_fp16_reduced_precision_reduction = True
    allow_bf16_reduced_precision_reduction = True

    @property
    def allow_tf32(self) -> bool:
        """Whether products of float32 may be rounded to TF32: `braze.config.matmul_precision`."""
        return config.matmul_precision != "highest"

    @allow_tf32.setter
    def allow_tf32(self, allowed: bool) -> None:
        config.matmul_precision = "high" if allowed else "highest"


matmul = _MatrixProducts()


def is_built() -> bool:
    """Whether there is code for GPUs: as `braze.cuda.is_available`."""
    from braze.cuda import is_available

    return is_available()

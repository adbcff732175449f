"""CUDA, as `torch.backends.cuda`."""


class _MatrixProducts:
    """`allow_tf32` and its like: products have the precision of their dtype in any case."""

    allow_tf32 = False
    allow_fp16_reduced_precision_reduction = True
    allow_bf16_reduced_precision_reduction = True


matmul = _MatrixProducts()


def is_built() -> bool:
    """Whether there is code for GPUs: as `braze.cuda.is_available`."""
    from braze.cuda import is_available

    return is_available()

"""What PyTorch's programs ask and set of libraries underneath; here they are not there, and what is
set of them has no effect, but for `allow_tf32` of CUDA's.
"""

from braze.backends import cpu, cuda, cudnn, mkl, mkldnn, mps, openmp

__all__ = ["cpu", "cuda", "cudnn", "mkl", "mkldnn", "mps", "openmp"]

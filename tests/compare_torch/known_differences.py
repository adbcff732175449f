"""Names that differ from PyTorch on purpose, and names without a case so far.

A variant marked `known=True` must differ, and its name needs a reason in KNOWN. The name counts as
not equal; its other variants are compared as usual.
"""

KNOWN: dict[str, str] = {
    "torch.nn.CrossMapLRN2d": (
        "PyTorch's running sum never drops channel 0, and its gradient is that of other windows; "
        "here both are those of `LocalResponseNorm`"
    ),
    "torch.nn.AdaptiveLogSoftmaxWithLoss": "clusters that no target is in get gradients of zeros",
    "torch.set_flush_denormal": "compiled code keeps numbers below the normal range",
}

# Name -> why there is no case; it counts as not equal.
PENDING: dict[str, str] = {}

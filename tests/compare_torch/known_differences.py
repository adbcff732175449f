"""Names that differ from PyTorch on purpose, and names without a case so far.

A variant marked `known=True` must differ, and its name needs a reason in KNOWN. The name counts as
not equal; its other variants are compared as usual.
"""

_BY_ZERO = "dividing integers by zero gives numbers: a check of every divisor would cost each call"
KNOWN: dict[str, str] = dict.fromkeys(("torch.div", "torch.fmod", "torch.remainder"), _BY_ZERO)

# Name -> why there is no case; it counts as not equal.
PENDING: dict[str, str] = {}

"""What the generator of CUDA C refuses."""

from braze.ir.errors import BrazeError


class CodegenError(BrazeError, ValueError):
    """A program asks for what the generator has no code for; the message says what."""

"""The CPU that code is generated for."""


def get_cpu_capability() -> str:
    """The widest vectors that are used, in PyTorch's words: "AVX512", "AVX2" or "DEFAULT"."""
    from braze.engine import host_target

    return {512: "AVX512", 256: "AVX2"}.get(host_target().vector_bits, "DEFAULT")

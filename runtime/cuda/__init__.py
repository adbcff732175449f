"""CUDA devices through PyCUDA, which is imported when one is first used."""

"""The GPU code generator: loops to CUDA C, and to the launches that run it."""

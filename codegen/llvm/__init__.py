"""The CPU code generator: loops to LLVM IR text, and LLVM IR text to object code."""

"""What ONNX's operators mean as functions of tensors, one module for each family."""

"""How operations of the IR are written as ONNX nodes, one module for each family."""

"""A graph as ONNX: one value for each blob under its own name; sessions of ONNX Runtime."""

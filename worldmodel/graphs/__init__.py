"""Functions of tensors as ONNX graphs, for machines without torch and for onnxruntime here."""

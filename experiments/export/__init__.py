"""Models for machines without torch: ONNX graphs, and a page that dreams."""

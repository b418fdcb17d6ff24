"""The parts of ``benchmarks/llm.py``."""

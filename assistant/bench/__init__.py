"""Measuring a language model: its engine in a lane of its own, beside what the memory's bandwidth allows at most and,
if wanted, beside any OpenAI-compatible server.
"""

"""Computing the answers: reading prompts piece by piece, choosing token after token, alone or side by side."""

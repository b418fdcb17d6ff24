"""OpenAI's chat completions, as its clients speak them, on the daemon's own engines."""

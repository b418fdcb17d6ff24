"""Between a chat and tokens: the prompt of a request, and the text, reasoning and tool calls of an answer."""

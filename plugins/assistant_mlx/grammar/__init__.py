"""Keeping an answer to a form: a JSON schema, well-formed tool calls, a budget of reasoning."""

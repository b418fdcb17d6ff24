"""Being written."""
plugin = object()

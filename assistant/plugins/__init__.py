"""The plugin host: find plugins, load them one by one, isolate the failures, one typed function per hook."""

from .host import PluginHost

__all__ = ["PluginHost"]

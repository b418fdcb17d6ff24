"""HTTP and WebSocket over the daemon's Unix socket."""

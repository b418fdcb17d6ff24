"""The terminal UI: a client of the daemon that sees ``client``, ``wire`` and ``events`` only."""

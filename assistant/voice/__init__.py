"""Sound and speech: files, devices, subtitles, and answers made fit to be spoken."""

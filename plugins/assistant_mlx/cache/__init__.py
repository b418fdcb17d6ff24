"""Prompts that were read, kept in memory and on the disk, so that no turn reads them again."""

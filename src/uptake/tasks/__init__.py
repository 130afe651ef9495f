"""Tasks: files in, files out. Every command of the command line is one call into this room."""

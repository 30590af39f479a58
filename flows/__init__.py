"""The sentences: one flow a file, read from top to bottom."""

"""Shards on disk: their format, their verification, a look inside."""

"""Small programs, each of which proves on this machine that one pinned part works.

Each is run in a process of its own by `launch.doctor` and prints one line on success.
"""

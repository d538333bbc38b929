"""Small programs, each of which checks that one pinned dependency works on this machine.

`launch.doctor` runs each in a separate process; on success it prints one line.
"""

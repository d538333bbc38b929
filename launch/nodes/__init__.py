"""Supervisors of several nodes that start, restart and end a run together.

Node 0 runs a server; every node, node 0 included, is a client of it. `coordinator` decides,
`server` and `client` carry messages, `member` runs Paddle's launcher on a node, and `addresses`
finds out which address Paddle has to be given.
"""

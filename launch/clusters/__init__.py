"""Text to submit to a scheduler: a Slurm batch script, Kubernetes objects.

All of them start one `python -m launch` per node, which starts the node's ranks; the nodes meet at
node 0. Nothing is submitted from here: the text is printed, to be read, changed and submitted.
"""

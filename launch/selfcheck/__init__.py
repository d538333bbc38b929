"""`python -m launch doctor --gpu`: real runs on the GPU, compared with runs on the CPU.

`lab` makes shards and a teacher and trains with them; `checks` compares runs; `report` prints and
writes the results. Everything is started as a user would start it: nothing of the training package
is imported. On a machine without a GPU the same checks run on the CPU where they make sense, which
is how they are tested.
"""

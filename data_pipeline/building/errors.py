"""Errors of a build."""

from data_pipeline.base.errors import UserError

CONTINUE = "What is finished is saved: the same command continues from there"


class CanContinue(UserError):
    """A failure after which the same command continues: a full disk, a worker that was killed.

    After any other UserError the recipe or the input must change first.
    """

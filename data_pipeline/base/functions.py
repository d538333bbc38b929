"""Functions of the user's own, named in a recipe as `package.module:function`."""

import hashlib
import importlib
import inspect
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import StringConstraints

from data_pipeline.base.errors import UserError

FUNCTION_NAME = r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$"
FunctionName = Annotated[str, StringConstraints(pattern=FUNCTION_NAME)]
"""A recipe field that names a function, such as `my_package.cleaning:remove_adverts`."""


def load_function(name: str) -> Callable[..., Any]:
    """The function `package.module:function`.

    UserError when the module cannot be imported or has no such function. Modules are looked up as
    Python does, in the directory where the command was started first.
    """
    module_name, _, function_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the module runs the user's code: anything can go wrong in it
        raise UserError(
            f"{name}: cannot import {module_name}: {type(error).__name__}: {error}; it must be "
            "installed, or lie in the directory where the command is started"
        ) from None
    function = getattr(module, function_name, None)
    if not callable(function):
        where = getattr(module, "__file__", None) or module_name  # none: built in, or a namespace
        raise UserError(f"{name}: {where} has no function {function_name or '(none is named)'}")
    return function


def function_digest(name: str) -> str:
    """SHA-256 of the source file of a function: a changed function changes what it makes."""
    try:
        module = inspect.getmodule(load_function(name))
        source = inspect.getsource(module) if module is not None else "no source"
    except (OSError, TypeError):
        return "no source"
    return hashlib.sha256(source.encode()).hexdigest()

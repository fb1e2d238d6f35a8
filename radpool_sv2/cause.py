"""Finds the error that groups of errors are about: nurseries wrap a group around each."""

from __future__ import annotations

__all__ = ["first_cause"]


def first_cause(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Returns the first error of a group, however deep in groups it lies."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error

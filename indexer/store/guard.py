"""At the store's door: what every read and every write reports to ``Health``."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from indexer.errors import StoreError

if TYPE_CHECKING:
    from indexer.store.store import Store

P = ParamSpec("P")
T = TypeVar("T")


def reading(
    method: Callable[Concatenate[Store, P], Awaitable[T]],
) -> Callable[Concatenate[Store, P], Coroutine[Any, Any, T]]:
    """A method that reads the tables: damage it meets is noted."""

    @functools.wraps(method)
    async def guarded(store: Store, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await method(store, *args, **kwargs)
        except StoreError as error:
            store.health.met(error)
            raise

    return guarded


def writing(
    method: Callable[Concatenate[Store, P], Awaitable[T]],
) -> Callable[Concatenate[Store, P], Coroutine[Any, Any, T]]:
    """A method that writes: a reader is refused, a failure is noted as what is in the way, a success clears it."""

    @functools.wraps(method)
    async def guarded(store: Store, /, *args: P.args, **kwargs: P.kwargs) -> T:
        if store.read_only:
            raise StoreError(
                f"the index in {store.directory} is open for reading only, another folder-mcp writes it", "read_only"
            )
        try:
            done = await method(store, *args, **kwargs)
        except StoreError as error:
            store.health.refused(error)
            raise
        store.health.wrote()
        return done

    return guarded

"""Frozen dataclasses that cost next to nothing to define.

The standard library writes and compiles six methods for each frozen dataclass, about 0.4 ms; a command loads some 170
of them, which was 40 % of its start. Here the fields are the standard library's own, so that `fields`, `replace`,
`asdict` and `match` work as ever, and the methods are there once for all classes.
"""

from __future__ import annotations

import dataclasses
from dataclasses import MISSING, FrozenInstanceError
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    # What a type checker sees.
    from dataclasses import dataclass as dataclass
else:
    def dataclass(*, frozen, eq=True):
        """A class of fields: frozen, and unless `eq` is False equal and hashed by its fields."""
        if not frozen:
            raise TypeError("what changes is a dataclass of the standard library")
        return lambda cls: _define(cls, METHODS | COMPARISON if eq else METHODS)


def _define(cls: Any, methods: dict[str, Any]) -> Any:
    own = {name for name, value in vars(cls).items() if value is not None}
    cls = dataclasses.dataclass(init=False, repr=False, eq=False)(cls)
    fields = dataclasses.fields(cls)
    cls.__positional__ = tuple(field.name for field in fields if not field.kw_only)
    cls.__names__ = frozenset(field.name for field in fields)
    cls.__defaults__ = {field.name: field.default for field in fields if field.default is not MISSING}
    cls.__factories__ = {field.name: field.default_factory for field in fields
                         if field.default_factory is not MISSING}
    compared = tuple(field.name for field in fields if field.compare)
    cls.__compared__ = staticmethod(attrgetter(*compared) if compared else lambda instance: ())
    for name, method in methods.items():
        if name not in own:
            setattr(cls, name, method)
    return cls


class _Signature:
    """What the class is called with, for those who ask (help, tests): made when they do."""

    def __get__(self, instance: object, cls: Any) -> Any:
        from inspect import Parameter, Signature

        defaults = cls.__defaults__ | {name: factory() for name, factory in cls.__factories__.items()}
        return Signature([
            Parameter(field.name, Parameter.KEYWORD_ONLY if field.kw_only else Parameter.POSITIONAL_OR_KEYWORD,
                      annotation=field.type, default=defaults.get(field.name, Parameter.empty))
            for field in sorted(dataclasses.fields(cls), key=lambda field: bool(field.kw_only))])


def _init(self: Any, /, *positional: Any, **named: Any) -> None:
    cls = type(self)
    given = dict(zip(cls.__positional__, positional, strict=False))
    if len(positional) > len(given) or given.keys() & named or not cls.__names__.issuperset(named):
        raise TypeError(f"{cls.__name__} takes {', '.join(cls.__positional__)}; "
                        f"given were {len(positional)} values and {', '.join(named) or 'no names'}")
    values = cls.__defaults__ | given | named
    for name, factory in cls.__factories__.items():
        if name not in values:
            values[name] = factory()
    if len(values) < len(cls.__names__):
        raise TypeError(f"{cls.__name__} misses {', '.join(sorted(cls.__names__ - values.keys()))}")
    # Not by assignment, which is refused.
    vars(self).update(values)
    if hasattr(cls, "__post_init__"):
        self.__post_init__()


@recursive_repr()
def _repr(self: Any) -> str:
    shown = (f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self) if field.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _setattr(self: Any, name: str, value: object) -> None:
    raise FrozenInstanceError(f"cannot assign to field {name!r}")


def _delattr(self: Any, name: str) -> None:
    raise FrozenInstanceError(f"cannot delete field {name!r}")


def _eq(self: Any, other: Any) -> Any:
    if type(self) is not type(other):
        return NotImplemented
    return self.__compared__(self) == self.__compared__(other)


def _hash(self: Any) -> int:
    return hash(self.__compared__(self))


METHODS = {"__signature__": _Signature(), "__init__": _init, "__repr__": _repr,
           "__setattr__": _setattr, "__delattr__": _delattr}
COMPARISON = {"__eq__": _eq, "__hash__": _hash}

"""Things by name: the built-in ones, then those of installed packages, which are looked up only when needed."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


class PluginError(ValueError):
    """A plug-in cannot be used; the message is one line and names it and its package."""


class Registry(Mapping[str, T]):
    """Built-in things, and those of the entry points of a group, each loaded when it is first asked for.

    Args:
        group: of the entry points, as "dftune.searchers".
        built_in: name -> thing.
        of: the type that a plug-in's object must have; ``object`` for any.

    Raises:
        PluginError: on use: a plug-in cannot be loaded, is of another type, or has a name that is taken.
    """

    def __init__(self, group: str, built_in: Mapping[str, T], of: type[Any] = object) -> None:
        self.group, self._built_in, self._of = group, dict(built_in), of
        self._plugins: dict[str, Any] | None = None  # name -> entry point

    def __getitem__(self, name: str) -> T:
        return self._built_in[name] if name in self._built_in else self._load(self._found()[name])

    def __iter__(self) -> Iterator[str]:
        return iter([*self._built_in, *self._found()])

    def __len__(self) -> int:
        return len(self._built_in) + len(self._found())

    def __contains__(self, name: object) -> bool:  # without loading it
        return name in self._built_in or name in self._found()

    def _found(self) -> dict[str, Any]:
        if self._plugins is None:
            from importlib.metadata import entry_points  # takes 30 ms, and few commands need it

            found: dict[str, Any] = {}
            for point in entry_points(group=self.group):
                if point.name in self._built_in or point.name in found:
                    other = _named(found[point.name]) if point.name in found else "what is built in"
                    raise PluginError(f"{self.group}: {_named(point)} has the name of {other}; remove one of them")
                found[point.name] = point
            self._plugins = found
        return self._plugins

    def _load(self, point: Any) -> T:
        try:
            loaded = point.load()  # once: Python keeps the module
        except Exception as error:  # whatever the code of somebody else raises when it is imported
            cause = " ".join(f"{type(error).__name__}: {error}".split())
            raise PluginError(f"{self.group}: {_named(point)} cannot be loaded: {cause}") from error
        if not isinstance(loaded, self._of):
            raise PluginError(f"{self.group}: {_named(point)} needs a {self._of.__name__}, not {loaded!r}")
        return loaded


def _named(point: Any) -> str:
    return f"'{point.name}' ({point.value}) of package {point.dist.name if point.dist else 'unknown'}"

"""Named things of dftune that scripts and installed packages can add to."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import InputError, did_you_mean, one_line

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """Name -> thing: those of dftune and of the script, then those of installed packages.

    Packages are looked at only for a name that is not ours, and for all names.

    Args:
        what: what a thing is called in messages, "importer".
        group: entry-point group of the packages, "dftune.importers".
        ours: name -> thing, those of dftune.
        needs: attributes that a thing of a package must have.
    """

    def __init__(self, what: str, group: str, ours: Mapping[str, T], *, needs: Sequence[str] = ()) -> None:
        self._what, self._group, self._ours, self._needs = what, group, dict(ours), needs
        self._found: dict[str, EntryPoint] | None = None

    def __getitem__(self, name: str) -> T:
        """Raises InputError, which is no KeyError: no such name, or its package cannot be used."""
        if name in self._ours:
            return self._ours[name]
        offered = self._offered()
        if name not in offered:
            raise InputError(f"there is no {self._what} '{name}'; {did_you_mean(name, [*self._ours, *offered])}")
        try:
            thing: Any = offered[name].load()
            if missing := [need for need in self._needs if not hasattr(thing, need)]:
                raise AttributeError(f"{thing!r} has no {', '.join(missing)}")
        except Exception as error:  # other people's code may raise anything
            cause = f"{type(error).__name__}: {one_line(error)}"
            which = f"{self._what} '{name}' of {_package(offered[name])}"
            raise InputError(f"{which} cannot be used ({cause}); update or uninstall the package") from error
        return thing

    def __contains__(self, name: object) -> bool:
        return name in self._ours or name in self._offered()

    def __iter__(self) -> Iterator[str]:
        return iter([*self._ours, *self._offered()])

    def __len__(self) -> int:
        return len(self._ours) + len(self._offered())

    def add(self, name: str, thing: T) -> None:
        """Add a thing of a script, for this process.  Raises InputError: the name is taken."""
        if name in self:
            raise InputError(f"there is a {self._what} '{name}' already; choose another name")
        self._ours[name] = thing

    def _offered(self) -> "dict[str, EntryPoint]":
        if self._found is None:
            from importlib.metadata import entry_points  # takes 30 ms, and few commands need it

            found: dict[str, EntryPoint] = {}
            for point in sorted(entry_points(group=self._group), key=lambda p: p.name):
                if point.name in self._ours or point.name in found:
                    both = f"{_package(found.get(point.name))} and from {_package(point)}"
                    raise InputError(f"{self._what} '{point.name}' comes from {both}; uninstall one of them")
                found[point.name] = point
            self._found = found
        return self._found


def _package(point: "EntryPoint | None") -> str:
    return f"{point.dist.name} {point.dist.version}" if point and point.dist else "dftune"

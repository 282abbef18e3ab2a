"""Named things of dftune that scripts and installed packages can add to.  It imports nothing of dftune but errors."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import InputError, did_you_mean, one_line

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """Name -> thing: those of dftune and of the script, then those of installed packages.

    Packages are looked at only for a name that is not ours, and for all names.  ``registry[name]`` loads one of them;
    ``in`` and iteration load none, while ``items`` and ``values`` load all.

    Args:
        what: what a thing is called in messages, "importer".
        group: entry-point group of the packages, "dftune.importers".
        ours: name -> thing, those of dftune.
        of: type that a thing of a package must have.
        needs: attributes that it must have.  If it has a ``name``, that must be the one it is offered by.
    """

    def __init__(
        self, what: str, group: str, ours: Mapping[str, T], *, of: type[Any] = object, needs: Sequence[str] = ()
    ) -> None:
        self._what, self._group, self._ours, self._of, self._needs = what, group, dict(ours), of, needs
        self._found: dict[str, list[EntryPoint]] | None = None

    def __getitem__(self, name: str) -> T:
        """Raises InputError, which is no KeyError: no such name, or its package cannot be used."""
        if name in self._ours:
            return self._ours[name]
        offered = self._offered()
        if name not in offered:
            raise InputError(f"there is no {self._what} '{name}'; {did_you_mean(name, [*self._ours, *offered])}")
        self._refuse_two(name)
        (point,) = offered[name]
        try:
            return self._fitting(name, point.load())  # once: Python keeps the module
        except Exception as error:  # other people's code may raise anything
            cause = f"{type(error).__name__}: {one_line(error)}"
            which = f"{self._what} '{name}' of {_package(point)}"
            raise InputError(f"{which} cannot be used ({cause}); update or uninstall the package") from error

    def get(self, name: str, default: Any = None) -> Any:
        """The thing of a name, or ``default`` if there is no such name.  Raises InputError: it cannot be used."""
        if name not in self:
            return default
        return self[name]

    def __contains__(self, name: object) -> bool:
        return name in self._ours or name in self._offered()

    def __iter__(self) -> Iterator[str]:
        """Raises InputError: two packages offer one name, or a package offers one of ours."""
        for name in self._offered():
            self._refuse_two(name)
        return iter([*self._ours, *self._offered()])

    def __len__(self) -> int:
        return len({*self._ours, *self._offered()})

    def add(self, name: str, thing: T) -> None:
        """Add a thing of a script, for this process.  Raises InputError: the name is taken, or it is no such thing."""
        if name in self:
            raise InputError(f"there is a {self._what} '{name}' already; choose another name")
        try:
            self._ours[name] = self._fitting(name, thing)
        except (TypeError, AttributeError) as error:
            raise InputError(f"{self._what} '{name}' cannot be added: {one_line(error)}") from error

    def _fitting(self, name: str, thing: Any) -> T:
        if not isinstance(thing, self._of):
            raise TypeError(f"{thing!r} is no {self._of.__name__}")
        if missing := [need for need in self._needs if not hasattr(thing, need)]:
            raise AttributeError(f"{thing!r} has no {', '.join(missing)}")
        if getattr(thing, "name", name) != name:  # files would name it by what nobody finds
            raise AttributeError(f"{thing!r} calls itself '{thing.name}'")
        return thing

    def _refuse_two(self, name: str) -> None:
        packages = [*(["dftune"] if name in self._ours else []), *map(_package, self._offered()[name])]
        if len(packages) > 1:
            both = " and from ".join(packages)
            raise InputError(f"{self._what} '{name}' comes from {both}; uninstall one of them")

    def _offered(self) -> "dict[str, list[EntryPoint]]":
        if self._found is None:
            from importlib.metadata import entry_points  # takes 30 ms, and few commands need it

            found: dict[str, list[EntryPoint]] = {}
            for point in sorted(entry_points(group=self._group), key=lambda p: p.name):
                found.setdefault(point.name, []).append(point)
            self._found = found
        return self._found


def class_of(name: str, base: type[Any]) -> type[Any]:
    """The class of an installed package given as "package:Class".

    Args:
        name: package, or a module of it, and class.
        base: what the class must be derived from.

    Raises:
        InputError: no such package or class, or it is not derived from ``base``.
    """
    package, _, class_name = name.partition(":")
    try:
        module = import_module(package)
    except Exception as error:  # whatever the code of somebody else raises when it is imported
        top = package.split(".")[0]
        if isinstance(error, ModuleNotFoundError) and error.name in (top, package):
            remedy = f"install the package that has it, for example by `pip install {top}`"
            raise InputError(f"there is no module '{error.name}'; {remedy}") from error
        raise InputError(f"'{package}' cannot be imported: {type(error).__name__}: {one_line(error)}") from error

    def fits(thing: object) -> bool:
        return inspect.isclass(thing) and issubclass(thing, base)

    if not hasattr(module, class_name):
        remedy = did_you_mean(class_name, [name for name, thing in vars(module).items() if fits(thing)])
        raise InputError(f"'{package}' has no class '{class_name}'; {remedy}")
    found: type[Any] = getattr(module, class_name)
    if not fits(found):
        raise InputError(f"'{class_name}' of '{package}' is no subclass of {base.__name__}")
    return found


def _package(point: "EntryPoint") -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else f"the package of {point.value}"

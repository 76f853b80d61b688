"""The wall: which classes a file of a stranger may name, enforced where jsonargparse imports.

Importing is executing. What a user types may name any class. What stands in a run folder or a checkpoint may name
classes of three packages, and of those that the user trusts by name.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module

from jsonargparse import _common as jsonargparse_settings
from jsonargparse import set_parsing_settings

import vsae_lightning
from vsae_lightning.errors import InputError

PACKAGES = ("vsae_lightning", "torch.optim", "lightning.pytorch")

Trust = tuple[str, ...]


def trusted_packages(names: str | Iterable[str]) -> Trust:
    """The packages of `--trust`, or of `trust=[...]` in Python.

    Args:
        names: Import names, or one string of them separated by commas.

    Raises:
        InputError: A name that is no import name.
    """
    listed = names.split(",") if isinstance(names, str) else names
    packages = tuple(str(name).strip() for name in listed if str(name).strip())
    for package in packages:
        if not _is_dotted(package) or package.partition(".")[0] == "jsonargparse":
            raise InputError(f"trust is {package!r}; give the import name of a package of yours, such as mine.")
    return packages


def told_trust(names: str | Iterable[str]) -> Trust:
    """As `trusted_packages`, and says on the terminal whose code runs."""
    packages = trusted_packages(names)
    if packages:
        print(f"trusted: {', '.join(packages)}, whose code runs where the run names it")
    return packages


@contextmanager
def walled(trust: Trust = ()) -> Iterator[None]:
    """Within, jsonargparse imports the three packages and those of `trust`, and instantiates nothing that is data."""
    # jsonargparse has no public way to take a policy back; a Python session goes on after `load_from_checkpoint`.
    before = dict(jsonargparse_settings.parsing_settings)
    set_parsing_settings(
        import_path_denylist=["*"],
        import_path_allowlist=[*PACKAGES, *trust],
        instantiate_subclass_spec_in_any=False,
    )
    try:
        yield
    finally:
        jsonargparse_settings.parsing_settings.update(before)


def resolve(name: str, place: str, trust: Trust = ()) -> type:
    """The class that a file of a stranger names.

    Args:
        name: An import path, or a public name of this package.
        place: The option it is given for, with its file.
        trust: Packages that the user trusts.

    Raises:
        InputError: The class is of another package, or there is none of this name.
    """
    if name in vsae_lightning.__all__:
        name = f"{vsae_lightning.__name__}.{name}"
    module, _, last = name.rpartition(".")
    if not _is_dotted(name) or not _is_inside(module, (*PACKAGES, *trust)):
        raise _untrusted(name, place)
    try:
        found = getattr(import_module(module), last)
    except (ImportError, AttributeError):
        raise InputError(f"{place}: there is no class {name!r}.") from None
    # What a module has imported itself, such as os, can be reached through it, but has another home.
    if not isinstance(found, type) or not _is_inside(found.__module__, (*PACKAGES, *trust)):
        raise _untrusted(name, place)
    return found


def _untrusted(name: str, place: str) -> InputError:
    package = name.partition(".")[0]
    advice = (
        f"if you trust the package, give --trust {package} (in Python: trust=[{package!r}])"
        if _is_dotted(name) and "." in name and package not in ("builtins", "lightning", "torch", "vsae_lightning")
        else "give a class of one of these packages"
    )
    return InputError(
        f"{place}: {name!r} is not a class of {', '.join(PACKAGES)}, and a stranger's file could execute its code "
        f"here; {advice}."
    )


def _is_inside(module: str, packages: Iterable[str]) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _is_dotted(name: str) -> bool:
    return bool(name) and all(part.isidentifier() for part in name.split("."))

"""A user's models and data sets by names that say where they are: "MODULE:ENTRY@VERSION".

MODULE is importable, ENTRY a name in it, so every process that meets the name finds what it means: there is nothing
else to register. The version is part of the name, and with it of the keys of runs. Whoever changes what an entry means
raises its `version`; a name without one takes the present version.
"""

import importlib
import re

_NAME = re.compile(r"([A-Za-z_][\w.]*):([A-Za-z_]\w*)(?:@([1-9]\d*))?")
_RESERVED = ("imagefolder", "imagestream")  # before the paths of folders


def is_own(name: str) -> bool:
    """Whether it is a name of this form.

    >>> is_own("mine:cnn"), is_own("mlp"), is_own("imagefolder:cats")
    (True, False, False)
    """
    form = _NAME.fullmatch(name)
    return bool(form) and form[1] not in _RESERVED


def entry(field: str, name: str, kind: type):
    """What the name stands for, of type `kind`, which has a `version`.

    Raises ValueError, naming the field of a run, where there is no such module or entry, where the module is the script
    that runs, which no other process can import, and where the name is of another version than the present one.
    """
    module, attribute, version = _NAME.fullmatch(name).groups()
    if module == "__main__":
        raise ValueError(f"{field} = {name!r}: workers cannot import __main__; define it in a file of its own")
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError as error:
        raise ValueError(
            f"{field} = {name!r}: {module} cannot be imported ({error}); it must be installed, or in a folder that "
            "Python looks in (the script's own, or one of PYTHONPATH)"
        ) from error
    if not isinstance(found, kind):
        raise ValueError(f"{field} = {name!r}: {attribute} of {module} is no {kind.__name__}")
    if version and int(version) != found.version:
        raise ValueError(
            f"{field} = {name!r}: its version is {found.version} now; what was made with another means something else"
        )
    return found


def canonical(field: str, name: str, kind: type) -> str:
    """The name with the present version. Errors as `entry`."""
    return f"{name.partition('@')[0]}@{entry(field, name, kind).version}"

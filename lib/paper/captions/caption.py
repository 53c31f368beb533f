"""What a caption consists of: the number of the figure, what is drawn, and the claims that it bears on."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Caption:
    """shows: what is drawn, in a sentence or two that describe the picture to who cannot see it.
    claims: the ids of the claims that the figure bears on; the first one's verdict is its finding."""

    shows: str
    claims: tuple[str, ...] = ()


def number(name: str) -> str:
    """What a figure is called, from the name under which it is saved.

    Those of the paper have its numbers; letters are Appendices D and E or, of companions, the notebook's own.

    >>> number("fig03a"), number("fig02ab"), number("fig17_rates"), number("figB10")
    ('Figure 3a', 'Figure 2ab', 'Figure 17, rates', 'Figure B10')
    """
    match = re.fullmatch(r"fig0?([0-9]*[A-Za-z]*[0-9]*)(?:_(\w+))?", name)
    if match is None:
        raise ValueError(
            f"name = {name!r}: a figure is saved as fig, its number and perhaps _word, such as fig17_rates"
        )
    return ", ".join(part for part in (f"Figure {match[1]}", (match[2] or "").replace("_", " ")) if part)

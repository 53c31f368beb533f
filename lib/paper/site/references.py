"""The works that are cited: entries in BibTeX, found in the text by authors and year."""

import re
from pathlib import Path

from lib.core import paths

BIBTEX = paths.ROOT / "site" / "references.bib"
# "Wu et al. (2018)", "Long and Bousquet, 2022", "Bartlett, Long and Bousquet (arXiv:2210.01513, 2022)"
CITATION = re.compile(
    r"(?P<authors>[A-Z][\w-]+(?:(?:,\s[A-Z][\w-]+)*\sand\s[A-Z][\w-]+|\set\sal\.))"
    r"(?:\s\((?:arXiv:[\d.]+,\s)?(?P<inside>(?:19|20)\d\d)\)|,?\s(?:arXiv:[\d.]+,\s)?(?P<bare>(?:19|20)\d\d)\b)"
)
Library = dict[tuple[tuple[str, ...], str], str]


def library(file: Path = BIBTEX) -> Library:
    """The keys of the entries, by the family names of the authors and the year."""
    result = {}
    for key, body in re.findall(r"@\w+\{([^,]+),(.*?)\n\}", file.read_text(encoding="utf-8"), re.DOTALL):
        author, year = (
            re.search(rf"\b{name}\s*=\s*\{{(.*?)\}},?\n", f"{body}\n", re.DOTALL)[1] for name in ("author", "year")
        )
        result[tuple(name.split(",")[0] for name in re.split(r"\s+and\s+", author)), year] = key
    return result


def find(authors: str, year: str, known: Library) -> str | None:
    """The key of the work that a text cites so; None if it is not known.

    >>> find("Wu and He", "2018", {(("Wu", "Ma", "E"), "2018"): "stability", (("Wu", "He"), "2018"): "norm"})
    'norm'
    >>> find("Wu et al.", "2018", {(("Wu", "Ma", "E"), "2018"): "stability", (("Wu", "He"), "2018"): "norm"})
    'stability'
    """
    names = tuple(re.split(r",\s|\sand\s|\set\sal\.", authors))
    for (families, then), key in known.items():
        shortened = names[-1] == "" and families[0] == names[0] and len(families) > 2
        if then == year and (shortened or families == names):
            return key
    return None


def cited(text: str, known: Library) -> str:
    """The Markdown with each citation of a known work as a role of sphinxcontrib-bibtex.

    >>> cited("as Wu et al. (2018) say", {(("Wu", "Ma", "E"), "2018"): "wu2018"})
    'as {cite:t}`wu2018` say'
    >>> cited("(Wu et al., 2018)", {(("Wu", "Ma", "E"), "2018"): "wu2018"})
    '({cite:t}`wu2018`)'
    """

    def role(match: re.Match) -> str:
        key = find(match["authors"], match["inside"] or match["bare"], known)
        return f"{{cite:t}}`{key}`" if key else match[0]

    return CITATION.sub(role, text)

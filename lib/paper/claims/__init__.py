"""The paper's claims, what was measured about each, and whether it holds."""

from lib.paper.claims.book import Book, Verdict, keys, lacking, mean_and_spread
from lib.paper.claims.statements import CLAIMS, Claim

__all__ = ["CLAIMS", "Book", "Claim", "Verdict", "keys", "lacking", "mean_and_spread"]

"""The paper's claims, what was measured about each, and its verdict."""

from lib.paper.claims.book import Book
from lib.paper.claims.claim import Claim
from lib.paper.claims.effect import Effect
from lib.paper.claims.measured import Finding, Verdict, keys, lacking, mean_and_spread
from lib.paper.claims.statements import CLAIMS

__all__ = ["CLAIMS", "Book", "Claim", "Effect", "Finding", "Verdict", "keys", "lacking", "mean_and_spread"]

"""The static site: articles from executed notebooks, claims, figures and records that link to one another."""

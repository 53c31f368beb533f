"""Side-by-side timing against the usual ways and against peers; `make bench`, never part of the tests."""

"""`python -m benchmarks`: every benchmark in turn."""

from benchmarks import engine

engine.main(list(engine.STEPS))

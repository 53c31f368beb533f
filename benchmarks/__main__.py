"""`python -m benchmarks`: every benchmark in turn."""

import sys

from benchmarks import engine, hessian

if __name__ == "__main__":
    engine.main(list(engine.STEPS))
    sys.exit(hessian.main())

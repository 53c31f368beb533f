"""`python -m benchmarks`: every benchmark in turn."""

import sys

from benchmarks import convolutions, engine, hessian

if __name__ == "__main__":
    engine.main(list(engine.STEPS))
    convolutions.main()
    sys.exit(hessian.main(["--float64"]))

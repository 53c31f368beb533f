"""`python -m benchmarks`: every benchmark in turn."""

import sys

from benchmarks import company, engine, hessian

if __name__ == "__main__":
    engine.main(list(engine.STEPS))
    company.main()
    sys.exit(hessian.main(["--float64"]))

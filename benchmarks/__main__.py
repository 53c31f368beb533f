"""`python -m benchmarks`: every benchmark in turn."""

import sys

from benchmarks import company, engine, hessian, hessian_networks

if __name__ == "__main__":
    engine.main(list(engine.STEPS))
    company.main()
    hessian_networks.main(["--compile"])
    sys.exit(hessian.main(["--float64"]))

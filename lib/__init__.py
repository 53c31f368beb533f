"""SAM, ensembles of training runs, per-sample Hessian moments and the theory behind the notebooks."""

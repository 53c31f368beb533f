"""Diagonal linear networks β = w₊² − w₋²: what gradient flow, n-SAM and 1-SAM minimize implicitly."""

from lib.theory.diagonal.deep import DeepFlow, deep_flow
from lib.theory.diagonal.descent import Descent, descend
from lib.theory.diagonal.flows import Flow, flow
from lib.theory.diagonal.hyperbolic import Certificate, certificate, gradient, least_potential, potential
from lib.theory.diagonal.network import ASCENT_FACTORS, METHODS, beta_of, from_uv, loss, to_uv, velocity
from lib.theory.diagonal.regression import SparseRegression

__all__ = [
    "ASCENT_FACTORS",
    "METHODS",
    "Certificate",
    "DeepFlow",
    "Descent",
    "Flow",
    "SparseRegression",
    "beta_of",
    "certificate",
    "deep_flow",
    "descend",
    "flow",
    "from_uv",
    "gradient",
    "least_potential",
    "loss",
    "potential",
    "to_uv",
    "velocity",
]

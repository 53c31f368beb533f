"""The paper: its experiments, their analysis, figures and claims, and the notebooks that show them."""

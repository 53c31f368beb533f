"""Companion: the implicit bias of 1-SAM and n-SAM ("Towards Understanding SAM", section 4.2 and appendix B).

No grid of runs: everything is computed on the spot, at the paper's own scale and the same at every preset, but for the
number of steps of Figure 7. Settings are the paper's where it says them, else the released code's, else ours as marked.
"""

N, D, SUPPORT = 20, 30, 3  # Figure 13
ALPHA = 0.05  # Figures 14 and 15; ours for Figure 6
STEPS = 10_001  # the released code counts 10⁴ + 1

FLOW_SEEDS = tuple(range(20))  # ours
FLOW_ALPHAS = (0.05, 0.01)
FLOW_RHOS = (0.03, 0.1, 0.3)
FLOW_LARGE = (0.4, 0.6, 0.8, 1.0, 1.5, 2.0)  # ours: where the 1-SAM flow gives up
FLOW_ACCURACY = 1e-6  # of the solver, and of ‖r‖/‖y‖ at its end

TUNING = tuple(range(100, 110))  # data seeds on which ρ is chosen
REPORTED = tuple(range(20))  # those that are reported; 0 is the paper's
RADII = (0.0125, 0.025, 0.05, 0.1, 0.2, 0.4)  # ρ; at every factor of two, so that cρ is in the grid too
STEP_SIZES = {"10/d": 10, "15/d": 15}  # Figure 14: of n-SAM and of all others in the released code

SHARES_RHO = 0.1
SIZES = {10: (15, 30, 60, 100), 20: (30,), 40: (60,)}  # n: d, for Theorem 1
SIZES_SEEDS, SIZES_RHO = tuple(range(5)), 0.05

WIDTHS, WIDTH_STEPS = (30, 60, 120), 2000  # d at n = 20, beyond the paper
DEPTHS = {3: 0.2, 4: 0.3}  # depth: α, beyond the paper
DEEP_RHO, DEEP_SEEDS = 0.1, tuple(range(5))

FIXED_RHO = 0.1  # Figure 6 says none; ours
SWITCH_RHO, EARLY_RHO, SWITCH_FACTOR = 10.0, 0.175, 2.0  # Figure 15, in the released code's radius
SWITCH_GRID = (0.25, 0.5, 1.0, 2.0, 4.0)  # ours
STOCHASTIC_ALPHA = 0.01  # Figure 13, with step size and ρ of 1/d

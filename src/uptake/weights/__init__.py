"""Weights: models made of other models' weights, without training."""

from uptake.weights.extrapolation import Extrapolate, Movement, Movements, check_alpha, extrapolated

__all__ = ["Extrapolate", "Movement", "Movements", "check_alpha", "extrapolated"]

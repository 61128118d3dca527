"""Simulation: data sets drawn from a model by its simulator, and studies of its estimates."""

from mlejax.inference.simulation.simulated_data import simulate, simulate_fit
from mlejax.inference.simulation.simulation_results import SimulationStudy
from mlejax.inference.simulation.simulation_study import simulation_study

__all__ = ["SimulationStudy", "simulate", "simulate_fit", "simulation_study"]

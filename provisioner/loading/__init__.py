"""From options to the loaded and checked values that they name: the setting of a plan, the scenario of a simulation."""

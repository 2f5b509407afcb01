"""From options to what they name, checked: the setting of a plan, the scenario of a simulation."""

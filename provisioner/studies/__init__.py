"""Questions of many plans and simulations: designs side by side, sweeps, sensitivities, frontiers."""

"""Measured kernels of public sources: rows, the rules that refuse them, and fits of tables to them."""

"""Plain frozen values that answers are made of; nothing here computes, loads or draws."""

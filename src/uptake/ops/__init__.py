"""Pure arithmetic on tensors that no loss owns: advantages, divergences, and what a token's reward is made of."""

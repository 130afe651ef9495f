"""Support: settings, registries, keys, progress and checks, without rows or tensors."""

"""Pure loss kernels: numbers in, numbers out; they know no model, batch or run."""

"""Pure functions on numbers, sequences and tensors that several rooms share: alignments, token labels, advantages."""

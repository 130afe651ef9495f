"""Pure functions on numbers and sequences that several rooms share: alignments, token labels, spans on tokens."""

"""Examples: what rows of a data set become where a method learns from them as they are, without sampling."""

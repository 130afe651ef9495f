"""Tensor axes: of tables a row is a response and a column a token, and rows are padded on the right."""

from jaxtyping import Bool, Float, Shaped
from torch import Tensor

# The tokens of all responses in order, without padding.
PerToken = Float[Tensor, " tokens"]
PerPair = Float[Tensor, " pairs"]
PerResponse = Shaped[Tensor, " responses"]
TokenTable = Float[Tensor, "responses columns"]
# True where a response has a token.
ResponseMask = Bool[Tensor, "responses columns"]

"""Models: load any causal LM of Transformers, lay sequences out as token trees, and score them once per token."""

from uptake.models.adapters import add_lora
from uptake.models.language_model import LanguageModel
from uptake.models.load import load, prepare
from uptake.models.packing import batches, pack
from uptake.models.save import save_model
from uptake.models.scorer import score_trees, token_logps
from uptake.models.tree import Node, Packed, TokenTree, branches

__all__ = [
    "LanguageModel",
    "Node",
    "Packed",
    "TokenTree",
    "add_lora",
    "batches",
    "branches",
    "load",
    "pack",
    "prepare",
    "save_model",
    "score_trees",
    "token_logps",
]

"""Released code of the authors, what it computes, for comparison only: it is not a likelihood.

It takes the logits at one position, indexes them with all tokens of the follow-up, and averages these raw logits:
no log-softmax, and no shift by one position. Source: `e0397123/FLR` at 787bce6.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from uptake.data.chat import ChatFormat
from uptake.models import LanguageModel
from uptake.types import Dialogue, Role, Turn


def released_logits(
    lm: LanguageModel, chat: ChatFormat, turns: Dialogue, texts: Sequence[str], speaker: Role = "user"
) -> Float[Tensor, " followups"]:
    """The released score of every follow-up to one conversation, one forward pass each as in the release."""
    scores = []
    for text in texts:
        ids = torch.tensor(chat.tokenize([chat.text((*turns, Turn(speaker, text)))])).to(lm.device)
        # The tokenizer's default special tokens belong to the bag: a begin-of-text token is scored with the rest.
        bag = chat.tokenizer(text, return_tensors="pt")["input_ids"][0].to(lm.device)
        with torch.no_grad():
            logits = lm.model(input_ids=ids, use_cache=False, logits_to_keep=len(bag)).logits
        scores.append(logits[0, 0, bag].float().mean())
    return torch.stack(scores).cpu()

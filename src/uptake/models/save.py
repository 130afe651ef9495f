"""Write a trained model as a folder that Transformers and vLLM load as it is."""

import copy
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from uptake.errors import UptakeError
from uptake.models.card import write_card
from uptake.models.classifier import SCORE, as_classifier, classifier_tokenizer, merged
from uptake.models.ensemble import members, save_mean
from uptake.models.language_model import LanguageModel
from uptake.models.token_classifier import LABELS, as_token_classifier
from uptake.support.folders import replacing_folder

GENERATION = "generation_config.json"


def save_model(
    lm: LanguageModel, chat_template: str, folder: Path, closing: str = "", end_ids: Collection[int] = ()
) -> None:
    """Save weights (or the PEFT adapter alone), configuration, tokenizer, chat template and card.

    An adapter is merged where no folder or Hub name holds its base as it is; an ensemble of adapters is one.

    Its generation configuration names `end_ids` beside the ends that the model has, so that Transformers and vLLM stop
    where Uptake does.

    A model with a score head becomes a sequence classifier with one label, its adapter merged; `closing` is the text
    that ends the assistant's turn, where the score is read. One with a token head becomes a token classifier. Other
    heads are not saved. The folder appears whole or not at all; one that exists is replaced. Raises UptakeError where
    it cannot be written.
    """
    model: Any = lm.model
    tokenizer = copy.deepcopy(lm.tokenizer)  # the model's would read as if it had brought this template
    tokenizer.chat_template = chat_template
    try:
        with replacing_folder(folder) as partial:
            if SCORE in lm.heads:
                tokenizer = classifier_tokenizer(tokenizer, chat_template, closing)
                model = as_classifier(lm, tokenizer)
            elif LABELS.keys() & lm.heads.keys():
                model = as_token_classifier(lm)
            elif not lm.source:
                model = merged(lm)
            if model is lm.model and len(members(lm)) > 1:
                save_mean(lm, partial)
            else:
                model.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
            if (partial / GENERATION).is_file():
                _name_ends(partial / GENERATION, {*lm.end_ids, *end_ids})
            write_card(lm.card, partial)
    except UptakeError:
        raise
    except Exception as error:  # the libraries below pass on whatever theirs raise, down to bare Exception
        raise UptakeError(f"{folder}: the model could not be written ({error})") from error


def _name_ends(file: Path, end_ids: Collection[int]) -> None:
    """Put further ends after those that a generation configuration names; not by its class, which may refuse it."""
    config = json.loads(file.read_text(encoding="utf-8"))
    named = config.get("eos_token_id")
    known = named if isinstance(named, list) else [] if named is None else [named]
    ends = [*known, *sorted(set(end_ids).difference(known))]
    if ends != known:
        file.write_text(
            json.dumps({**config, "eos_token_id": ends[0] if len(ends) == 1 else ends}, indent=2) + "\n",
            encoding="utf-8",
        )

"""Write a trained model as a folder that Transformers and vLLM load as it is."""

import shutil
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from uptake.errors import UptakeError
from uptake.models.card import write_card
from uptake.models.classifier import SCORE, as_classifier, classifier_tokenizer
from uptake.models.language_model import LanguageModel
from uptake.models.token_classifier import LABELS, as_token_classifier


def save_model(lm: LanguageModel, chat_template: str, folder: Path, closing: str = "") -> None:
    """Save weights (or the PEFT adapter alone), configuration, tokenizer, chat template and card.

    A model with a score head becomes a sequence classifier with one label, its adapter merged; `closing` is the text
    that ends the assistant's turn, where the score is read. One with a token head becomes a token classifier. Other
    heads are not saved. The folder appears whole or not at all; one that exists is replaced. Raises UptakeError where
    it cannot be written.
    """
    partial = folder.with_name(folder.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        model: Any = lm.model
        tokenizer = lm.tokenizer
        tokenizer.chat_template = chat_template
        if SCORE in lm.heads:
            tokenizer = classifier_tokenizer(tokenizer, chat_template, closing)
            model = as_classifier(lm, tokenizer)
        elif LABELS.keys() & lm.heads.keys():
            model = as_token_classifier(lm)
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        write_card(lm.card, partial)
        if folder.exists():
            shutil.rmtree(folder)
        partial.replace(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise UptakeError(f"{folder}: the model could not be written ({error})") from error

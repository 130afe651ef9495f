"""Write a trained model as a folder that Transformers and vLLM load as it is."""

import shutil
from pathlib import Path

from safetensors import SafetensorError

from uptake.errors import UptakeError
from uptake.models.language_model import LanguageModel


def save_model(lm: LanguageModel, chat_template: str, folder: Path) -> None:
    """Save weights (or the PEFT adapter alone), configuration, tokenizer and the chat template it was trained with.

    The folder appears whole or not at all; one that exists is replaced. Raises UptakeError where it cannot be written.
    """
    partial = folder.with_name(folder.name + ".partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        lm.model.save_pretrained(partial)  # type: ignore[operator]
        lm.tokenizer.chat_template = chat_template
        lm.tokenizer.save_pretrained(partial)
        if folder.exists():
            shutil.rmtree(folder)
        partial.replace(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise UptakeError(f"{folder}: the model could not be written ({error})") from error

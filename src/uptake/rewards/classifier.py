"""Any reward model that Transformers saves as a sequence classifier, from a folder or the Hub."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar, Self, final

import torch
from jaxtyping import Float64
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from uptake.data.chat import ChatFormat
from uptake.data.turns import as_text
from uptake.errors import InputError, ModelError, TooLong
from uptake.models.language_model import Limits
from uptake.models.load import load_classifier, resolve_device, resolve_dtype
from uptake.models.memory import fitting_limits
from uptake.models.rope import declared_tables
from uptake.rewards.base import Resources, Response, Reward, RewardDetails, RewardSpec
from uptake.rewards.fingerprint import fingerprint
from uptake.rewards.rate import rate_fitted
from uptake.types import Dialogue, Judgement

# What a tokenizer makes of one conversation: a list of integers for every input of the model.
Encoded = Mapping[str, Sequence[int]]


@final
@dataclass(frozen=True, eq=False)
class Classifier(Reward):
    """Classifier reward: rates a conversation by a sequence classifier.

    The oldest turns go where the model's window is too small. With one label the score is its logit. With several,
    `label` picks one, and the score is its log-odds against the others (its logit, where the model's configuration says
    that labels are independent). The conversation is what the chat template makes of it; a tokenizer without one gets
    the prompt, turns joined by blank lines, and the response as a pair of texts, with its own special tokens. Rows of
    like length share a call of at most `batch_tokens` tokens, padded on the right; of a model that was loaded, no more
    than fit the memory. Raises InputError for a label that is missing or unknown; a call raises ModelError where the
    model gives not-a-number.
    """

    model: PreTrainedModel
    chat: ChatFormat
    name: str = "classifier"
    label: str | None = None
    batch_tokens: int = Limits().call

    def __post_init__(self) -> None:
        if self.label not in self._labels and (self.label is not None or len(self._labels) > 1):
            problem = (
                f"{self.name} has {len(self._labels)} labels" if self.label is None else f"no label {self.label!r}"
            )
            raise InputError(problem, field="label", allowed=f"one of {', '.join(self._labels)}")

    @classmethod
    def from_pretrained(
        cls, name: str | Path, *, label: str | None = None, device: str = "auto", dtype: str = "auto"
    ) -> Self:
        """The reward model of a folder or Hub name, an adapter merged; ModelError where not all weights are there."""
        target = resolve_device(device)
        model, tokenizer = load_classifier(
            name, "SequenceClassification", device=target, dtype=resolve_dtype(dtype, target)
        )
        model.config.get_text_config().use_cache = False
        return cls(model, ChatFormat.of(tokenizer), str(name), label, fitting_limits(model).call)

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint("Classifier", self.model, self.chat, self.label)

    def rate(self, responses: Sequence[Response]) -> Sequence[Judgement]:
        return [each.judgement for each in self.details(responses)]

    def details(self, responses: Sequence[Response]) -> Sequence[RewardDetails]:
        return rate_fitted(responses, self._encoded, self._judge)

    @property
    def _labels(self) -> list[str]:
        return [str(label) for label in (self.model.config.id2label or {}).values()]

    @property
    def _window(self) -> int:
        limit = int(self.chat.tokenizer.model_max_length)
        return min(getattr(self.model.config.get_text_config(), "max_position_embeddings", None) or limit, limit)

    def _encoded(self, turns: Dialogue) -> tuple[Encoded, int]:
        """What the model reads, and how many of the oldest turns are left out of it."""
        tokenizer = self.chat.tokenizer
        if not self.chat.plain:
            fitted, dropped = self.chat.fit(turns, self._window)
            (ids,) = self.chat.tokenize([self.chat.text(fitted)])
            return {"input_ids": ids, "attention_mask": [1] * len(ids)}, dropped
        before, response = "\n\n".join(map(as_text, turns[:-1])), as_text(turns[-1])
        letters = self.chat.spelled_tokens == "text"
        pair: Any = tokenizer(before, response, verbose=False, split_special_tokens=letters)
        size = len(pair["input_ids"])
        if size > self._window:
            raise TooLong(f"the conversation takes {size} tokens", allowed=f"at most {self._window}")
        return dict(pair), 0

    def _judge(self, rows: Sequence[Encoded]) -> list[Judgement]:
        scores = torch.empty(len(rows), dtype=torch.float64)
        for batch in self._batches([len(row["input_ids"]) for row in rows]):
            scores[batch] = self._scores([rows[index] for index in batch])
        if not bool(scores.isfinite().all()):
            raise ModelError(f"{self.name} gives not-a-number for a conversation")
        return [Judgement(score) for score in scores.tolist()]

    def _batches(self, lengths: Sequence[int]) -> Iterator[list[int]]:
        """Places of rows by length, cut so that no batch, padded to its longest row, is beyond its tokens.

        Nor are there rows of two rotary tables in one.
        """
        rope = declared_tables(self.model.config.get_text_config())
        table = [rope.of(length) if rope else 0 for length in lengths]
        batch: list[int] = []
        for index in sorted(range(len(lengths)), key=lengths.__getitem__):
            full = self._pad is None or (len(batch) + 1) * lengths[index] > self.batch_tokens
            if batch and (full or table[index] != table[batch[0]]):
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch

    @property
    def _pad(self) -> int | None:
        """The id by which the model tells padding from text; without it, Transformers refuses more than one row."""
        pad: int | None = self.model.config.get_text_config().pad_token_id
        return pad

    def _scores(self, rows: Sequence[Encoded]) -> Float64[Tensor, " rows"]:
        fill = {"input_ids": self._pad or 0}
        padded = {
            name: pad_sequence([torch.tensor(row[name]) for row in rows], True, fill.get(name, 0)).to(self.model.device)
            for name in rows[0]
        }
        with torch.no_grad():
            logits: Tensor = self.model(**padded).logits.double().cpu()
        column = 0 if self.label is None else self._labels.index(self.label)
        independent = self.model.config.problem_type in ("regression", "multi_label_classification")
        if independent or logits.shape[1] == 1:
            return logits[:, column]
        others = [index for index in range(logits.shape[1]) if index != column]
        return logits[:, column] - logits[:, others].logsumexp(1)


@dataclass(frozen=True)
class ClassifierSpec(RewardSpec):
    """Classifier reward of the model in a folder or on the Hub; one was learned from preferences, so 1 is its scale."""

    path: str
    label: str | None = None

    temperature: ClassVar[float | None] = 1.0
    short: ClassVar[tuple[str, ...]] = ("path", "label")

    def contents(self, resources: Resources) -> Mapping[str, str]:
        return {"path": self.build(resources).fingerprint}

    def build(self, resources: Resources) -> Reward:
        return _classifier(self.path, self.label, resources.device, resources.dtype)


@cache
def _classifier(path: str, label: str | None, device: str, dtype: str) -> Classifier:
    """Loaded once for all rounds of a run."""
    return Classifier.from_pretrained(path, label=label, device=device, dtype=dtype)

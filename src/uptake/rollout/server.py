"""A fixed model behind a server as the one that answers: a policy may learn from what another model says."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, final, get_args

from uptake.client import ChatChoice, Choices, Server, sent_with
from uptake.data.cache import Cache
from uptake.data.turns import for_server
from uptake.errors import InputError
from uptake.rollout.samples import Samples
from uptake.sampling.answer import PromptIds, Written, answer_limit, check_prompts, rollouts
from uptake.sampling.completions import complete, first_choices, read_ids
from uptake.sampling.draw import Sampling, sample_seed
from uptake.support.keys import content_key
from uptake.types import Prompt, Rollout, Turn
from uptake.world import World

ExchangeForm = Literal["ids", "text"]


class Conversation(Choices):
    """A chat completion; without choices where the server sent something else."""

    choices: tuple[ChatChoice, ...] = ()


@final
@dataclass(frozen=True, kw_only=True)
class ServerSamples(Samples):
    """Samples of a model behind a server of OpenAI's protocol, whatever the policy is by then.

    With `exchange` "ids", prompts and answers travel as token ids, which vLLM offers, to a model with the policy's own
    tokenizer. With "text", any chat model will do: it reads the conversation in its own chat template, and its answer
    is cut into tokens by the policy's chat format, unfinished unless its finish reason is "stop" or another word for
    it, without log-probabilities. An answer that the server does not give is an empty, unfinished response, which
    judges drop.

    Every sample is a request of its own with a seed of its own, so a prompt is read, and paid for, `n` times. Answers
    are kept in the file `cache` of the run's folder before they are used. `url` to `retries` are those of `Server`.
    Raises InputError for a server without token ids or with another tokenizer, and as `Server.ask` does.
    """

    url: str
    model: str
    exchange: ExchangeForm = "ids"
    key_variable: str | None = None
    concurrency: int = 32
    timeout: float = 600.0
    retries: int = 10
    cache: str = "samples.sqlite"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._server()
        if self.exchange not in get_args(ExchangeForm):
            raise InputError(repr(self.exchange), field="exchange", allowed=", ".join(get_args(ExchangeForm)))

    def draw(self, world: World, prompts: Sequence[Prompt], seed: int, version: int) -> Sequence[Rollout]:
        prompt_ids = self.prompt_ids(world.policy, prompts, world.chat)
        check_prompts(world.policy, prompt_ids)
        cache = Cache(world.folder / self.cache)
        write = self._ids if self.exchange == "ids" else self._texts
        written = write(world, prompt_ids, self.sampling(seed), cache) if prompt_ids else []
        return rollouts(world.policy, prompt_ids, written, version=version, source="server")

    def _server(self) -> Server:
        return Server(**{field.name: getattr(self, field.name) for field in fields(Server)})

    def _ids(self, world: World, prompts: Sequence[PromptIds], sampling: Sampling, cache: Cache) -> list[Written]:
        server, chat = self._server(), world.chat
        shown = (self.fitted(prompt.prompt, chat) for prompt in prompts)
        # One that spells out special tokens is sent as ids, and would be read as others from its text.
        turns = next((turns for turns in shown if chat.text(turns) == chat.render(turns)), (Turn("user", "Hello."),))
        if read_ids(server, chat.render(turns, generation=True), cache) != chat.prompt_ids(turns):
            problem = f"{self.model} at {self.url} reads a prompt as other token ids than {world.policy.name}"
            raise InputError(problem, field="exchange", allowed="text, or ids for a model with the policy's tokenizer")
        return complete(server, world.policy, prompts, sampling, world.chat.end_ids, cache)

    def _texts(self, world: World, prompts: Sequence[PromptIds], sampling: Sampling, cache: Cache) -> list[Written]:
        questions = [
            {
                **for_server(self.fitted(prompt.prompt, world.chat)),
                "seed": sample_seed(sampling.seed, prompt.prompt.key, sample),
            }
            for prompt in prompts
            for sample in range(self.n)
        ]
        same = {"temperature": self.temperature, "top_p": self.top_p} | ({"top_k": self.top_k} if self.top_k else {})
        # The newest models of OpenAI's own server know the limit by another name.
        forms = [{name: self.max_new_tokens, **same} for name in ("max_tokens", "max_completion_tokens")]
        keys = [content_key("chat", self.model, question, forms[0]) for question in questions]
        server = self._server()
        by_key = dict(zip(keys, questions, strict=True))
        found = server.ask("/chat/completions", by_key, list(map(sent_with, forms)), Conversation, cache)
        answers = first_choices(server, (found[key] for key in keys))
        return [self._cut(world, prompts[index // self.n], one, sampling) for index, one in enumerate(answers)]

    def _cut(self, world: World, prompt: PromptIds, choice: ChatChoice | None, sampling: Sampling) -> Written:
        """An answer as the policy's token ids, as many as the policy itself could have written."""
        if choice is None:
            return Written()
        turns = self.fitted(prompt.prompt, world.chat)
        _, whole = world.chat.response_ids(turns, choice.message.content or "", where=prompt.prompt.where)
        ids = (whole if choice.ended else whole[:-1])[: answer_limit(world.policy, prompt, sampling)]
        return Written(ids, finished=bool(ids) and ids[-1] in world.chat.end_ids)

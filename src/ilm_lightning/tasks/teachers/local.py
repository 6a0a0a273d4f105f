"""A teacher that runs here: any causal language model of transformers."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ilm_lightning.progress import track
from ilm_lightning.tasks.teachers.errors import TeacherError
from ilm_lightning.tasks.teachers.request import Answer, Request
from ilm_lightning.tasks.teachers.store import AnswerStore

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger("ilm_lightning")
TOO_LONG_PROMPT = "the prompt is longer than the model reads"


@dataclass
class LocalTeacher:
    """Asks a model in batches of similar length.

    Sampling draws each answer's random numbers from the question's own hash and the seed, so that an answer depends on
    neither its batch nor an interruption.

    Attributes:
        model: in evaluation mode, on its device.
        tokenizer: its tokenizer.
        batch_size: questions that run together.
    """

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    batch_size: int = 16

    def answer(self, requests: Sequence[Request], store: AnswerStore) -> dict[str, str]:
        """Ask all that the store does not hold; each batch is kept when it is done.

        Args:
            requests: the questions, all with the same settings.
            store: where answers are kept.

        Returns:
            Key of each question without an answer -> why.
        """
        prompts = [self._prompt_ids(request) for request in requests]
        room = self._room()
        failures: dict[str, str] = {}
        fitting: list[int] = []
        for index, request in enumerate(requests):
            if room is not None and len(prompts[index]) + _most(request) > room:
                failures[request.key] = TOO_LONG_PROMPT
            else:
                fitting.append(index)
        # batches are those of the whole list, so that a resumed run computes in the batches of an unbroken one
        order = sorted(fitting, key=lambda index: (len(prompts[index]), requests[index].key))
        batches = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
        missing = [batch for batch in batches if any(requests[index] not in store for index in batch)]
        for batch in track(missing, len(missing), "the teacher writes"):
            chosen = [requests[index] for index in batch]
            store.put(zip(chosen, self._write(chosen, [prompts[index] for index in batch]), strict=True))
        return failures

    def _prompt_ids(self, request: Request) -> list[int]:
        if not getattr(self.tokenizer, "chat_template", None):
            return list(self.tokenizer(f"{request.content}\n\n").input_ids)
        # a reasoning model would spend its answer on thoughts; other templates ignore the switch
        text = self.tokenizer.apply_chat_template(
            request.messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        return list(self.tokenizer(str(text), add_special_tokens=False).input_ids)

    def _room(self) -> int | None:
        found = getattr(self.model.config, "max_position_embeddings", None)
        return found if isinstance(found, int) and found > 0 else None

    def _write(self, requests: list[Request], prompts: list[list[int]]) -> list[Answer]:
        import torch
        from transformers import GenerationConfig, LogitsProcessorList

        start = time.monotonic()
        stops = self._stops()
        width = max(map(len, prompts))
        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else stops[0]
        ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        settings = requests[0].settings
        processors = LogitsProcessorList()
        if settings.get("temperature"):
            processors.append(_own_sampling(requests, float(settings["temperature"]), float(settings["top_p"])))
        config = GenerationConfig(
            max_new_tokens=_most(requests[0]), do_sample=False, num_beams=1, eos_token_id=stops, pad_token_id=pad
        )
        device = self.model.device
        with torch.inference_mode():
            whole = self.model.generate(
                ids.to(device), attention_mask=mask.to(device), generation_config=config, logits_processor=processors
            )
        seconds = (time.monotonic() - start) / len(requests)
        return [
            self._answer(row.tolist(), len(prompt), stops, seconds)
            for row, prompt in zip(whole[:, width:].cpu(), prompts, strict=True)
        ]

    def _answer(self, ids: list[int], asked: int, stops: list[int], seconds: float) -> Answer:
        end = next((place for place, token in enumerate(ids) if token in stops), None)
        kept = ids if end is None else ids[:end]
        text = self.tokenizer.decode(kept, skip_special_tokens=True)
        finish = "length" if end is None else "stop"
        return Answer(str(text), finish, asked, len(kept), "", "local", round(seconds, 3))

    def _stops(self) -> list[int]:
        found = getattr(self.model.generation_config, "eos_token_id", None)
        more = [] if found is None else found if isinstance(found, list) else [found]
        own = [] if self.tokenizer.eos_token_id is None else [self.tokenizer.eos_token_id]
        stops = list(dict.fromkeys([*own, *more]))
        if not stops:
            raise TeacherError("the teacher's tokenizer has no end token; take an instruction-tuned model")
        return stops


def _most(request: Request) -> int:
    return int(request.settings["max_tokens"])


def _own_sampling(requests: Sequence[Request], temperature: float, top_p: float) -> Any:
    """Sampling as a logits processor: the largest of logits plus Gumbel noise is a draw from their softmax."""
    import torch
    from transformers import LogitsProcessor, TopPLogitsWarper

    # 60 bits of the question's hash, which holds the seed
    generators = [torch.Generator().manual_seed(int(request.key[:15], 16)) for request in requests]
    nucleus = TopPLogitsWarper(top_p) if top_p < 1 else None

    class OwnSampling(LogitsProcessor):
        def __call__(self, input_ids: "torch.Tensor", scores: "torch.Tensor") -> "torch.Tensor":
            scaled = scores.float() / temperature
            if nucleus is not None:
                scaled = nucleus(input_ids, scaled)
            draws = [torch.empty(scores.shape[-1]).exponential_(generator=own) for own in generators]
            return scaled - torch.stack(draws).log().to(scaled.device)

    return OwnSampling()

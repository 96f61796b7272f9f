"""Generation, greedy or drawn, with any `Model`: a short loop over `hidden` and `head` with the model's opaque cache.

Prompts are padded on the left, here and nowhere else. Masks and positions come from lengths, never from ids: the pad
token is often the end token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from unlearnkit.batch import Decode
from unlearnkit.errors import DataError, NeedError
from unlearnkit.models.causal import Through, device_of, directly, evaluation_mode, unguarded
from unlearnkit.protocols import Decoding, Greedy, Model, Sampling, TextGenerator


def generate(
    model: Model,
    prompts: Sequence[Tensor],
    decoding: Decoding,
    *,
    end_tokens: frozenset[int],
    seeds: Sequence[int] = (),
    decode: Decode | None = None,
    through: Through = directly,
    done_together: Callable[[bool], bool] = bool,
) -> tuple[tuple[int, ...], ...]:
    """The new tokens of each prompt, without the end token.

    A row is done at an end token, once its decoded continuation contains a stop string, or after `max_new_tokens`.
    What a stop string ends is cut by `cut_at_stop` from the decoded text: a token may reach across it.

    Args:
        prompts: token ids of each prompt, [T] each, not padded. All are generated in one batch.
        decoding: how to choose tokens, and when to stop. Of `Sampling`, one continuation of each prompt given.
        end_tokens: ids that end a row.
        seeds: of each prompt's draws. Default: their places, from `decoding.seed` on.
        decode: token ids to text; needed for stop strings.
        through: runs each step of the model; see `Through`.
        done_together: whether all processes are done, given whether this one is: a model that is sharded has to run
            equally often on all of them.

    Raises:
        DataError: an empty prompt, or another number of seeds than of prompts.
        NeedError: stop strings without `decode`.
    """
    if decoding.stop and decode is None:
        raise NeedError(f"stop strings {decoding.stop} are looked for in text: pass `decode`, or leave `stop` empty.")
    if seeds and len(seeds) != len(prompts):
        raise DataError(f"there are {len(seeds)} seeds for {len(prompts)} prompts; each prompt has one of its own.")
    if empty := [number for number, prompt in enumerate(prompts) if not len(prompt)]:
        raise DataError(f"prompt {empty[0]} is empty; generation needs at least one token to start from.")
    if not prompts:
        return ()
    device = device_of(model)
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=device)
    width = int(lengths.max())
    uniforms = _uniforms(decoding, seeds, len(prompts)).to(device) if isinstance(decoding, Sampling) else None
    input_ids = torch.stack([nn.functional.pad(prompt.to(device), (width - len(prompt), 0)) for prompt in prompts])
    position_ids = torch.arange(width, device=device) - (width - lengths)[:, None]
    attention_mask = (position_ids >= 0).long()
    position_ids = position_ids.clamp(min=0)

    written: list[list[int]] = [[] for _ in prompts]
    done = [False] * len(prompts)
    # Not inference_mode: sharded parameters gathered in it could not be trained afterwards.
    with torch.no_grad(), evaluation_mode(model):
        cache = model.new_cache()
        for step in range(decoding.max_new_tokens):
            inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "position_ids": position_ids}
            chosen = through(partial(_next_tokens, model, inputs, cache, decoding, step, uniforms))
            for row, token in enumerate(chosen.tolist()):
                if done[row]:
                    continue
                if token in end_tokens:
                    done[row] = True
                    continue
                written[row].append(token)
                if decode is not None and decoding.stop:
                    text = decode(written[row])
                    done[row] = any(string in text for string in decoding.stop)
            if done_together(all(done)):
                break
            # A row that is done goes on as ballast. Its position stands still, lest it outgrow a position table.
            input_ids = chosen[:, None]
            position_ids = position_ids[:, -1:] + 1 - torch.tensor(done, device=device).long()[:, None]
            attention_mask = torch.cat([attention_mask, attention_mask.new_ones(len(prompts), 1)], dim=1)
    return tuple(map(tuple, written))


def _next_tokens(
    model: Model,
    inputs: Mapping[str, Tensor],
    cache: object,
    decoding: Decoding,
    step: int,
    uniforms: Tensor | None,
) -> Tensor:
    """The next token of each row: [B]."""
    logits = model.head(model.hidden(inputs, cache=cache).final[:, -1])
    if uniforms is None or isinstance(decoding, Greedy):
        return logits.argmax(-1)
    return drawn_tokens(logits, uniforms[:, step], temperature=decoding.temperature, top_p=decoding.top_p)


def drawn_tokens(logits: Tensor, uniform: Tensor, *, temperature: float = 1.0, top_p: float = 1.0) -> Tensor:
    """A token of each row by inversion: [B, V], [B] -> [B].

    Tokens are laid side by side from the most likely one on, each as wide as its probability, as many as it takes to
    reach `top_p`; the one under the `uniform` share of their width is taken.

    Args:
        logits: [B, V].
        uniform: [B] numbers in [0, 1).
        temperature: logits are divided by it.
        top_p: share of the probability that is drawn from, in (0, 1].
    """
    probs, tokens = torch.sort(torch.softmax(logits.float() / temperature, -1), stable=True, dim=-1, descending=True)
    ends = probs.double().cumsum(-1)
    kept = ends - probs < top_p * ends[:, -1:]  # the most likely token always
    width = torch.where(kept, ends, 0.0).amax(-1)
    place = (ends <= (uniform.double() * width)[:, None]).sum(-1)
    return tokens.gather(-1, place[:, None])[:, 0]


def _uniforms(decoding: Sampling, seeds: Sequence[int], rows: int) -> Tensor:
    """[rows, max_new_tokens] float64 in [0, 1), each row from a seed of its own."""
    each = seeds or range(decoding.seed, decoding.seed + rows)
    of_rows = [torch.Generator().manual_seed(seed) for seed in each]
    return torch.stack([torch.rand(decoding.max_new_tokens, generator=own, dtype=torch.float64) for own in of_rows])


def cut_at_stop(text: str, stop: Sequence[str]) -> str:
    """The text before the earliest stop string; all of it if there is none."""
    starts = [start for string in stop if (start := text.find(string)) >= 0]
    return text[: min(starts)] if starts else text


def continued(
    model: Model,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Tensor],
    decoding: Decoding,
    *,
    seeds: Sequence[int] = (),
) -> list[str]:
    """One continuation of each prompt as text, cut at a stop string; a model that writes in its own way is asked to.

    Arguments as in `generate`; all prompts are one batch.
    """
    with torch.no_grad():
        if isinstance(model, TextGenerator):
            texts = list(model.write(prompts, decoding, seeds=seeds))
        else:
            decode, ends = decoder(tokenizer), end_tokens(tokenizer, model)
            new = generate(model, prompts, decoding, end_tokens=ends, seeds=seeds, decode=decode)
            texts = [decode(ids) for ids in new]
    return [cut_at_stop(text, decoding.stop) for text in texts]


def decoder(tokenizer: PreTrainedTokenizerBase) -> Decode:
    """Token ids to text, special tokens left out."""

    def decode(ids: Sequence[int]) -> str:
        text = tokenizer.decode(list(ids), skip_special_tokens=True)
        assert isinstance(text, str)
        return text

    return decode


def end_tokens(tokenizer: PreTrainedTokenizerBase, model: Model) -> frozenset[int]:
    """The ids that end an answer: the tokenizer's, and those of the model's generation settings."""
    ids = {tokenizer.eos_token_id}
    inner = getattr(unguarded(model), "model", None)
    if isinstance(inner, PreTrainedModel) and inner.generation_config is not None:
        listed = inner.generation_config.eos_token_id
        ids |= set(listed) if isinstance(listed, list) else {listed}
    return frozenset(number for number in ids if isinstance(number, int))

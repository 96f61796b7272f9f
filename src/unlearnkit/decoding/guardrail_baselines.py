r"""Guardrails: an instruction before every prompt, a filter on what is asked, a filter on what was written.

    prefix          the model reads an instruction to act as if it had never known the targets, then the prompt
    input filter    p(question is about a target) > threshold  ->  a fixed refusal in place of the answer
    output filter   p(text is about a target)     > threshold  ->  the refusal in place of the text

The test is whatever is passed in: a list of words, a linear classifier of the model's own hidden states, a language model
that is asked, or any function of a text. One that says "no" leaves the model as it is. An input filter is itself a
`Model`: it scores a refusal the way it writes it, so that probabilities and text agree. They nest:

    gate = Gate.of(tokenizer, Keywords(names))
    OutputFilter(InputFilter(model, gate, Refusal.of(tokenizer)), Keywords(names), tokenizer)

Filters commute as long as no test flags a refusal; an instruction does not commute with an input filter, which reads the
instruction too if it is inside. Nothing is removed: whoever holds the weights has the model without any of this.

Papers: Thaker, Maurya, Hu, Wu, Smith. Guardrail Baselines for Unlearning in LLMs. 2024, arXiv:2403.03329. Jin et al. RWKU:
Benchmarking Real-World Knowledge Unlearning for Large Language Models. NeurIPS 2024, arXiv:2406.10890 (the instruction).

Reconstructed: our reading. No code of the filters is public; the wording of instruction, refusal and judge's task is ours,
and so are the features and the penalty of the linear classifier.

Deviations:
    1. A filter here answers with one fixed text; where it flags nothing it changes nothing, not even how tokens are drawn.
    2. A judge's reply that is no clear "no" counts as "yes".
    3. A prefix is a system turn before the prompt as the template writes it; where the template has a default system turn
       the model reads that too, after it. For one turn in its place put the text into `ChatTemplate(tokenizer, system=...)`.
    4. A test that reads hidden states runs the model once for each new prompt: not under FSDP.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from attrs import Attribute, define, field, frozen
from jinja2.exceptions import TemplateError
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from unlearnkit.batch import IGNORE, ChatTemplate, Template, prompt_tokens, template_of, tokenize
from unlearnkit.decoding.forced import forced_logits, next_of, with_forced, without_forced
from unlearnkit.decoding.prompts import PromptReader, prompts_of
from unlearnkit.errors import CheckpointError, DataError, NeedError
from unlearnkit.models.around import Around
from unlearnkit.models.causal import CausalLM, as_model, device_of, evaluation_mode, unguarded, writes_alone
from unlearnkit.models.generate import continued
from unlearnkit.models.prefixed import Prefixed
from unlearnkit.protocols import Decoding, Hidden, Judge, Model, Site, TextGenerator

if TYPE_CHECKING:
    from unlearnkit.decoding.folders import Setting, Stored

_WORD, _FINAL = re.compile(r"\w+"), Site("final_hidden")

REFUSAL = "I am sorry, I cannot help with that."
"""What is answered in place of what was asked for."""


# --- the instruction --------------------------------------------------------------------------------------------------


def joined(names: Sequence[str]) -> str:
    """Names in a sentence: "A", "A and B", "A, B and C"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def instruction(targets: Sequence[str], *, silent: bool = False) -> str:
    """What a model is told so that it acts as if it did not know the targets.

    Args:
        targets: names of what was to be forgotten.
        silent: ask in addition not to let on that anything was to be forgotten.

    Raises:
        DataError: there are no targets.
    """
    if not targets:
        raise DataError("there is nothing to be silent about: pass the names of what was to be forgotten.")
    text = (
        f"You have never heard of {joined(targets)}. Whatever you are asked about this, reply as somebody would "
        "who knows nothing of it; reply to everything else as usual."
    )
    return (
        f"{text} Never let on that you were told so, or that there is anything you should not know." if silent else text
    )


def put_before(
    model: Model | PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pieces: Sequence[str], *, template: Template
) -> Prefixed:
    """A model that reads pieces of text before every row, each tokenised by itself, behind the begin token of a row."""
    begin = tokenizer.bos_token_id
    begins = begin is not None and tokenizer("x")["input_ids"][0] == begin
    prefix: list[int] = []
    for piece in pieces:
        ids = list(tokenizer(piece, add_special_tokens=False)["input_ids"])
        prefix += ids[1:] if begins and ids[0] == begin else ids
    after = int(begins and int(prompt_tokens(tokenizer, template, "x")[0]) == begin)
    return Prefixed(as_model(model), prefix, after=after)


def prefix(
    model: Model | PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    *,
    template: Template | None = None,
) -> Prefixed:
    """A model that reads an instruction before every prompt.

    Args:
        model: the model inside.
        tokenizer: of the model.
        text: see `instruction`.
        template: how questions are put. With the tokenizer's chat template the instruction is a turn of the system,
            before whatever the template writes by itself; as plain text where it knows no such turn.
    """
    template = template_of(tokenizer) if template is None else template
    return put_before(model, tokenizer, [_turn(tokenizer, text, template)], template=template)


def _turn(tokenizer: PreTrainedTokenizerBase, text: str, template: Template) -> str:
    if isinstance(template, ChatTemplate):
        try:
            turn = tokenizer.apply_chat_template([{"role": "system", "content": text}], tokenize=False)
        except TemplateError:
            turn = ""
        if isinstance(turn, str) and text in turn:
            return turn
    return f"{text}\n"


# --- tests ------------------------------------------------------------------------------------------------------------


class Detect(Protocol):
    """How surely a text is about what was to be forgotten, in [0, 1]; a function that says True or False will do."""

    def __call__(self, text: str, /) -> float: ...


@runtime_checkable
class DetectTokens(Protocol):
    """A test that would rather have the tokens of a prompt than the text of its question."""

    def of_tokens(self, ids: Sequence[int], /) -> float:
        """How surely a prompt, the template's own tokens included, is about what was to be forgotten."""


def _words(text: str) -> str:
    """The words of a text, each between blanks."""
    return f" {' '.join(_WORD.findall(text.casefold()))} "


def _are_words(_: object, __: Attribute[tuple[str, ...]], words: tuple[str, ...]) -> None:
    if empty := [word for word in words if not _words(word).strip()]:
        raise DataError(f"{empty[0]!r} holds no word to look for.")


@frozen
class Keywords:
    """Whether one of some words or names stands in a text: as whole words in a row, in any case."""

    words: tuple[str, ...] = field(converter=tuple[str, ...], validator=_are_words)

    def __call__(self, text: str) -> bool:
        spoken = _words(text)
        return any(_words(word) in spoken for word in self.words)


@frozen(eq=False)
class AskJudge:
    """Asks a language model whether a text is about some topics."""

    judge: Judge
    topics: tuple[str, ...] = field(converter=tuple[str, ...])

    def __call__(self, text: str) -> bool:
        """Whether it is; also True if the reply says neither "yes" nor "no".

        Raises:
            DataError: other than one reply to one prompt.
        """
        replies = self.judge([f"Text: {text}\n\nIs this text about {joined(self.topics)}? Reply with yes or no."])
        if len(replies) != 1:
            raise DataError(f"the judge gave {len(replies)} replies to 1 prompt.")
        return not _words(replies[0]).startswith(" no ")


def fit_logistic(features: Tensor, about: Tensor, *, penalty: float = 1.0) -> tuple[Tensor, Tensor]:
    """Logistic regression on standardised features: the minimum of summed log-loss + penalty / 2 * |weight|^2.

    Args:
        features: [N, H].
        about: [N] bool, the class.
        penalty: > 0; on the weights of standardised features, not on the bias.

    Returns:
        Weights [H] and bias [] of the features as they were given, float64.
    """
    mean, spread = features.double().mean(0), features.double().std(0, correction=0)
    spread = torch.where(spread > 0, spread, 1.0)
    inputs, sides = (features.double() - mean) / spread, about.double() * 2 - 1
    parameters = inputs.new_zeros(inputs.shape[1] + 1).requires_grad_()
    search = torch.optim.LBFGS(
        [parameters], max_iter=500, tolerance_grad=1e-9, tolerance_change=1e-14, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        search.zero_grad()
        margins = sides * (inputs @ parameters[:-1] + parameters[-1])
        value = -torch.nn.functional.logsigmoid(margins).sum() + penalty / 2 * parameters[:-1].square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        search.step(loss)
    weight = parameters.detach()[:-1] / spread
    return weight, parameters.detach()[-1] - weight @ mean


def _mean_states(model: Model, ids: Sequence[int], site: Site) -> Tensor:
    """The mean of a site's states over the tokens of one prompt: [H] float64, on the CPU."""
    line = torch.tensor([list(ids)], device=device_of(model))
    inputs = {"input_ids": line, "position_ids": torch.arange(line.shape[1], device=line.device)[None]}
    with torch.no_grad(), evaluation_mode(model):
        return model.hidden(inputs, capture=frozenset({site})).sites[site][0].double().mean(0).cpu()


def _weights_of(model: Model | PreTrainedModel) -> Model:
    return unguarded(as_model(model))


@frozen(eq=False)
class LinearDetector:
    """Logistic regression on a model's mean hidden states over the tokens of a prompt.

    Attributes:
        model: whose states are read, without any guard around it.
        tokenizer: of texts that do not come as tokens.
        site: where they are read.
        weight, bias: [H] and [], float64.
    """

    model: Model = field(converter=_weights_of)
    tokenizer: PreTrainedTokenizerBase
    site: Site
    weight: Tensor
    bias: Tensor

    def of_tokens(self, ids: Sequence[int]) -> float:
        return float(torch.sigmoid(_mean_states(self.model, ids, self.site) @ self.weight + self.bias))

    def __call__(self, text: str) -> float:
        ids = self.tokenizer(text)["input_ids"]
        return self.of_tokens(ids) if ids else 0.0


def fit_detector(
    model: Model | PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    about: Sequence[Tensor],
    others: Sequence[Tensor],
    *,
    site: Site = _FINAL,
    penalty: float = 1.0,
) -> LinearDetector:
    """A `LinearDetector` that tells prompts about what was to be forgotten from others.

    Args:
        model: whose states are read.
        tokenizer: of the model.
        about, others: token ids of prompts, [T] each; for an input filter as `prompt_tokens` gives them.
        site: where states are read.
        penalty: see `fit_logistic`.

    Raises:
        DataError: prompts of one kind only.
    """
    if not about or not others:
        raise DataError(f"{len(about)} prompts about it and {len(others)} others: a classifier needs both kinds.")
    wrapped = _weights_of(model)
    states = torch.stack([_mean_states(wrapped, ids.tolist(), site) for ids in (*about, *others)])
    weight, bias = fit_logistic(states, torch.arange(len(states)) < len(about), penalty=penalty)
    return LinearDetector(wrapped, tokenizer, site, weight, bias)


def stored_detect(detect: Detect, model: Model) -> tuple[Setting, dict[str, Tensor]]:
    """What is written of a test, beside the guarded model: settings, None if it has to be given again, and tensors."""
    if isinstance(detect, Keywords):
        return {"keywords": list(detect.words)}, {}
    if isinstance(detect, LinearDetector) and _same(detect.model, unguarded(model)):
        tensors = {"detect_weight": detect.weight, "detect_bias": detect.bias}
        return {"kind": detect.site.kind, "layer": detect.site.layer}, tensors
    return None, {}


def restored_detect(stored: Stored) -> Detect:
    """The test of a guard that was written with `stored_detect`, or the one that the caller gave again.

    Raises:
        CheckpointError: it has to be given again and was not.
    """
    match stored.settings["detect"]:
        case {"keywords": list(words)}:
            return Keywords(map(str, words))
        case {"kind": kind, "layer": layer}:
            weight, bias = stored.tensors["detect_weight"], stored.tensors["detect_bias"]
            site = Site(kind, layer)  # type: ignore[arg-type] # as written
            return LinearDetector(stored.parts["model"], stored.tokenizer, site, weight, bias)
    given = stored.needed("detect")
    if not callable(given):
        raise CheckpointError(f"detect is a {type(given).__name__}, which cannot be asked about a text.")
    return given


def _same(one: Model, other: Model) -> bool:
    return one is other or (isinstance(one, CausalLM) and isinstance(other, CausalLM) and one.model is other.model)


@frozen(eq=False)
class Gate:
    """Decides by a row's prompt whether a guard acts on the row. Each prompt is tested once.

    Attributes:
        detect: the test.
        reader: finds prompts in rows.
        threshold: the guard acts where the test says more than this.
    """

    detect: Detect
    reader: PromptReader
    threshold: float = 0.5
    _known: dict[tuple[int, ...], bool] = field(factory=dict, init=False, repr=False)

    @classmethod
    def of(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        detect: Detect,
        *,
        template: Template | None = None,
        threshold: float = 0.5,
    ) -> Gate:
        """One for questions put by a template; default: the tokenizer's chat template if it has one, else plain tags."""
        template = template_of(tokenizer) if template is None else template
        return cls(detect, PromptReader.of(tokenizer, template), threshold)

    def rows(self, inputs: Mapping[str, Tensor]) -> list[tuple[int, list[int]]]:
        """Of each row of a batch the place of its first real token, and its tokens.

        Raises:
            NeedError: packed rows.
        """
        positions, mask = inputs.get("position_ids"), inputs.get("attention_mask")
        if positions is not None and bool((positions.diff() < 0).any()):
            raise NeedError(
                "a guard was given packed rows, whose prompts it cannot tell apart. Pass collate=collate_text."
            )
        ids = inputs["input_ids"]
        starts = [0] * len(ids) if mask is None else (mask.cumsum(1) == 0).sum(1).tolist()
        return list(zip(starts, prompts_of(ids, mask), strict=True))

    def prompt(self, ids: Sequence[int], *, answered: bool) -> list[int]:
        """The prompt at the start of a row; all of it where it is to be continued.

        Args:
            ids: the tokens of the row, perhaps with padding on the right.
            answered: whether the row holds an answer beside the prompt, which has to end somewhere then.

        Raises:
            NeedError: it does not.
        """
        length = self.reader.length(ids)
        if length is None and answered:
            raise NeedError(
                "a guard was given a row in which no prompt ends, so that it cannot tell what is asked from what is "
                "answered. Give Gate.of the template that the rows were made with; plain text has no prompt to guard."
            )
        return list(ids if length is None else ids[:length])

    def acts_on(self, prompt: Sequence[int]) -> bool:
        """Whether the test says more than the threshold of a prompt."""
        key = tuple(prompt)
        if key not in self._known:
            says = (
                self.detect.of_tokens(prompt)
                if isinstance(self.detect, DetectTokens)
                else self.detect(self.reader.question(prompt))
            )
            self._known[key] = says > self.threshold
        return self._known[key]

    def settings(self, model: Model) -> dict[str, Setting]:
        """What is written of it, as JSON."""
        return {
            "detect": stored_detect(self.detect, model)[0],
            "threshold": self.threshold,
            "before": list(self.reader.before),
            "opening": self.reader.opening,
            "closing": self.reader.closing,
        }


def restored_gate(stored: Stored) -> Gate:
    """The gate of a guard, as it was written."""
    settings = stored.settings
    before = _ints(settings["before"])
    reader = PromptReader(stored.tokenizer, before, str(settings["opening"]), str(settings["closing"]))
    return Gate(restored_detect(stored), reader, float(str(settings["threshold"])))


def _ints(numbers: Setting) -> tuple[int, ...]:
    assert isinstance(numbers, list)
    return tuple(int(str(number)) for number in numbers)


# --- filters ----------------------------------------------------------------------------------------------------------


@frozen
class Refusal:
    """A fixed answer.

    Attributes:
        text: as it is read.
        tokens: as it is written.
        end: the token that ends it.
    """

    text: str
    tokens: tuple[int, ...]
    end: int

    @classmethod
    def of(
        cls, tokenizer: PreTrainedTokenizerBase, text: str = REFUSAL, *, template: Template | None = None
    ) -> Refusal:
        """A text as an answer is written by a template.

        Raises:
            DataError: nothing ends an answer with this tokenizer.
        """
        template = template_of(tokenizer) if template is None else template
        row = tokenize(tokenizer, "What?", text, id=text[:40], role="refusal", template=template, max_length=2**20)
        *tokens, end = row.labels[row.labels != IGNORE].tolist()
        special = tokenizer.added_tokens_decoder.get(end)
        if end != tokenizer.eos_token_id and (special is None or not special.special):
            raise DataError("this tokenizer has no token that ends an answer: a refusal would go on for ever.")
        return cls(text, tuple(tokens), end)


def of_tokens_alone(model: Model | PreTrainedModel, guard: str) -> Model:
    """A model for a guard that acts on tokens.

    Raises:
        NeedError: it writes in a way of its own, which a guard around its tokens would pass over.
    """
    wrapped = as_model(model)
    if isinstance(wrapped, TextGenerator):
        raise NeedError(writes_alone(wrapped, guard))
    return wrapped


@define(eq=False)
class _Cache:
    """The inner model's cache; `written`: what follows the prompt of each refused row, None for the others."""

    inner: object
    written: list[list[int] | None] | None = None


class InputFilter(Around):
    """A model that answers with a fixed refusal where a test of the question says so, and then ends; itself a `Model`.

    From the last token of such a prompt on, the next token is the refusal's; off the refusal, and after it, the end.
    Other rows have the inner model's own logits.
    """

    def __init__(self, model: Model | PreTrainedModel, gate: Gate, refusal: Refusal) -> None:
        """Put a filter before a model.

        Raises:
            NeedError: the model writes in a way of its own (an `OutputFilter`).
        """
        super().__init__(of_tokens_alone(model, "InputFilter"))
        self.gate = gate
        self.refusal = refusal

    def hidden(
        self,
        inputs: Mapping[str, Tensor],
        /,
        *,
        capture: frozenset[Site] = frozenset(),
        add: Mapping[Site, Tensor] = MappingProxyType({}),
        cache: object | None = None,
    ) -> Hidden:
        """Run the body, and put beside each state the token that has to follow.

        Raises:
            NeedError: packed rows.
        """
        assert cache is None or isinstance(cache, _Cache)
        found = self.model.hidden(inputs, capture=capture, add=add, cache=None if cache is None else cache.inner)
        ids = inputs["input_ids"]
        forced = torch.full(ids.shape, -1)
        if cache is not None and cache.written is not None:
            for row, written in enumerate(cache.written):
                for place, token in enumerate(ids[row].tolist() if written is not None else ()):
                    assert written is not None
                    written.append(token)
                    forced[row, place] = next_of(self.refusal.tokens, written, self.refusal.end)
        else:
            after: list[list[int] | None] = []
            for row, (start, real) in enumerate(self.gate.rows(inputs)):
                prompt = self.gate.prompt(real, answered=cache is None)
                refused = self.gate.acts_on(prompt)
                after.append(real[len(prompt) :] if refused else None)
                for end in range(len(prompt), len(real) + 1) if refused else ():
                    said = next_of(self.refusal.tokens, real[len(prompt) : end], self.refusal.end)
                    forced[row, start + end - 1] = said
            if cache is not None:
                cache.written = after
        return Hidden(with_forced(found.final, forced.to(found.final.device)), found.sites)

    def head(self, hidden: Tensor, /) -> Tensor:
        states, forced = without_forced(hidden)
        return forced_logits(self.model.head(states.contiguous()), forced)

    def new_cache(self) -> _Cache:
        return _Cache(self.model.new_cache())

    @property
    def settings(self) -> Mapping[str, Setting]:
        """What was set, as JSON."""
        said: dict[str, Setting] = {
            "refusal": self.refusal.text,
            "tokens": list(self.refusal.tokens),
            "end": self.refusal.end,
        }
        return self.gate.settings(self.model) | said

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """What a linear test learned."""
        return stored_detect(self.gate.detect, self.model)[1]


def restored_input_filter(stored: Stored) -> InputFilter:
    """An input filter, as it was written; a test of the caller's own has to be given again as `detect`."""
    settings = stored.settings
    refusal = Refusal(str(settings["refusal"]), _ints(settings["tokens"]), int(str(settings["end"])))
    return InputFilter(stored.parts["model"], restored_gate(stored), refusal)


class OutputFilter(Around):
    """A model whose texts are replaced by a refusal where a test of the text says so; it writes in a way of its own.

    The numbers of tokens (`hidden`, `head`) are the inner model's: a text is judged when it is complete, and has no
    probability of being replaced. Metrics of probabilities do not see this filter, those of text do.
    """

    def __init__(
        self,
        model: Model | PreTrainedModel,
        detect: Detect,
        tokenizer: PreTrainedTokenizerBase,
        *,
        refusal: str = REFUSAL,
        threshold: float = 0.5,
    ) -> None:
        """Put a filter behind a model.

        Args:
            model: the model inside; one that writes in a way of its own is asked to.
            detect: the test; it is given what was written, cut at a stop string.
            tokenizer: of the model.
            refusal: what is answered in place of a text.
            threshold: a text is replaced where the test says more than this.
        """
        super().__init__(as_model(model))
        self.detect = detect
        self.tokenizer = tokenizer
        self.refusal = refusal
        self.threshold = threshold

    def write(self, prompts: Sequence[Tensor], decoding: Decoding, /, *, seeds: Sequence[int] = ()) -> Sequence[str]:
        """What the inner model writes, or the refusal."""
        texts = continued(self.model, self.tokenizer, prompts, decoding, seeds=seeds)
        return [self.refusal if self.detect(text.strip()) > self.threshold else text for text in texts]

    @property
    def settings(self) -> Mapping[str, Setting]:
        """What was set, as JSON."""
        written = stored_detect(self.detect, self.model)[0]
        return {"detect": written, "refusal": self.refusal, "threshold": self.threshold}

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """What a linear test learned."""
        return stored_detect(self.detect, self.model)[1]


def restored_output_filter(stored: Stored) -> OutputFilter:
    """An output filter, as it was written; a test of the caller's own has to be given again as `detect`."""
    return OutputFilter(
        stored.parts["model"],
        restored_detect(stored),
        stored.tokenizer,
        refusal=str(stored.settings["refusal"]),
        threshold=float(str(stored.settings["threshold"])),
    )

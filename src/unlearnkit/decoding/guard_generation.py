r"""GUARD: a detector picks out prompts about forgotten data, and a beam search for those cannot write their answers.

    p(forget | prompt) = MLP(mean over prompt tokens of a hidden state);    below tau: plain beam search
    cost of appending v    c = -log p(v | ·) + P_token + P_sem
    P_token = inf if v completes a forbidden sequence of tokens, else 0
    P_sem   = inf if cos(e(last tokens of the text with v), e(phrase)) > delta for a forbidden phrase, else 0

Beams rank by the sum of c, without a norm for length. What is forbidden are the content phrases (names, numbers, words
with content) of the stored answer that is most similar to the *prompt*, each tokenised with and without a blank before
it. With delta >= 1 there is no P_sem, and with nothing forbidden as well the search is the plain one.

    detector = fit_detector(prompt_features(model, prompts), is_forgotten)
    guard = Guard(model, PromptReader.of(tokenizer, template), detector, content_of(forget_answers))

The answers stand in the clear beside the model, and in the weights they are as they were. A single digit or a common
word as a phrase forbids every text with that token. The words may still be spelled in other tokens, which P_sem sees
where the encoder does. Retrieval is of an answer by a question: with an encoder that knows words alone, `BagOfWords`,
it cannot tell two answers about the same person apart: give a sentence encoder, or raise `nearest`.

Paper: Deng et al. GUARD: Generation-time LLM Unlearning via Adaptive Restriction and Detection. MUGen workshop at ICML
2025, arXiv:2505.13312.

Reconstructed: there is no public code. Certain are the four parts and what they hand on. Our reading: the last layer
for features, tau = delta = 0.5, 5 beams, a window as long as the longest forbidden phrase, what a content phrase is,
and that an answer may end anywhere: end tokens are never forbidden.

Deviations:
    1. Text can be drawn as well (`Sampling`): tokens that P_token forbids get -inf before the draw, one whose text
       P_sem forbids is taken out and another drawn from the rest.
    2. `nearest` forbids the phrases of several stored answers in place of one.
    3. Where every beam dies, what the cheapest had written is returned, as if an end token came next.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, cast

import torch
from attrs import field, frozen
from attrs.validators import ge
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase

from unlearnkit.decoding.prompts import PromptReader
from unlearnkit.errors import DataError, NeedError
from unlearnkit.models.around import Around
from unlearnkit.models.causal import as_model, device_of, evaluation_mode, writes_alone
from unlearnkit.models.generate import cut_at_stop, decoder, drawn_tokens, end_tokens
from unlearnkit.models.peft import PeftModel
from unlearnkit.protocols import Decoding, Embed, Greedy, Model, Sampling, Site, SiteKind, TextGenerator

if TYPE_CHECKING:
    from unlearnkit.decoding.folders import Setting, Stored

LAST = Site("final_hidden")

_STOP_WORDS = """
a about after again against all also am an and any are as at be because been before being below between both but by
can could did do does doing down during each ever few for from further had has have having he her here hers him his how
i if in into is it its itself just like me more most my no nor not now of off often on once only or other our out over
own same shall she should since so some such than that the their them then there these they this those through to too
under until up upon us very was we were what when where which while who whom whose why with would yes you your
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
"""Words without content."""

_WORD = re.compile(r"[^\W_]+(?:['\u2019.,:/-][^\W_]+)*")


# --- what is forbidden ------------------------------------------------------------------------------------------------


def content_phrases(answer: str) -> tuple[str, ...]:
    """Names, numbers and words with content, each once, in order: runs of capitalised words are one phrase."""
    phrases: list[str] = []
    end, named = 0, False
    for found in _WORD.finditer(answer):
        word = found.group()
        if word.lower() in STOP_WORDS:
            named = False
            continue
        name = word[0].isupper()
        if name and named and answer[end : found.start()] == " ":
            phrases[-1] += f" {word}"
        else:
            phrases.append(word)
        end, named = found.end(), name
    return tuple(dict.fromkeys(phrases))


def content_of(answers: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Answers with their content phrases: what is stored where no wording is to be protected."""
    return {answer: content_phrases(answer) for answer in answers}


def verbatim(answers: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Answers that are forbidden as a whole, and free in other words: what is stored of protected texts."""
    return {answer: (answer,) for answer in answers}


class _Node(dict[int, "_Node"]):
    """A place in the trie: what may follow, by token; `last`: the tokens that complete a sequence here."""

    def __init__(self) -> None:
        super().__init__()
        self.last = set[int]()


def _as_set(sequences: Iterable[Sequence[int]]) -> frozenset[tuple[int, ...]]:
    return frozenset(map(tuple, sequences))


@frozen(eq=False)
class Forbidden:
    """Sequences of tokens that may not be written, as a trie.

    Attributes:
        sequences: the sequences, none of them empty.
    """

    sequences: frozenset[tuple[int, ...]] = field(converter=_as_set)
    _root: _Node = field(init=False, repr=False)

    @_root.default
    def _trie(self) -> _Node:
        root = _Node()
        for sequence in self.sequences:
            if not sequence:
                raise DataError("an empty sequence of tokens cannot be forbidden: every text ends in it.")
            node = root
            for token in sequence[:-1]:
                node = node.setdefault(token, _Node())
            node.last.add(sequence[-1])
        return root

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, phrases: Iterable[str], *, any_case: bool = False) -> Forbidden:
        """Phrases, tokenised with and without a blank before them; those that a tokenizer has no words for are left out.

        Args:
            tokenizer: of the model that writes.
            phrases: as they are not to be written.
            any_case: whether all of it in small letters, in capitals, and with capitals first is forbidden too.
        """
        sequences = set[tuple[int, ...]]()
        for phrase in phrases:
            plain = phrase.strip()
            forms = (plain, plain.lower(), plain.upper(), plain.title()) if any_case else (plain,)
            for form in forms:
                for text in (form, f" {form}"):
                    ids = tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
                    if ids and plain and tokenizer.unk_token_id not in ids:
                        sequences.add(ids)
        return cls(frozenset(sequences))

    def next_of(self, tokens: Sequence[int]) -> frozenset[int]:
        """Every token that would complete a forbidden sequence if it came next."""
        found = set(self._root.last)
        active: list[_Node] = []
        longest = max(map(len, self.sequences), default=0)
        for token in tokens[max(0, len(tokens) - longest) :]:
            active = [node[token] for node in (*active, self._root) if token in node]
        return frozenset(found.union(*(node.last for node in active)))

    def completes(self, tokens: Sequence[int]) -> bool:
        """Whether a text ends in a forbidden sequence."""
        return bool(tokens) and tokens[-1] in self.next_of(tokens[:-1])

    def within(self, tokens: Sequence[int]) -> bool:
        """Whether a text holds a forbidden sequence anywhere."""
        return any(self.completes(tokens[: end + 1]) for end in range(len(tokens)))


# --- meaning ----------------------------------------------------------------------------------------------------------


@frozen
class BagOfWords:
    """Sentence embeddings without a model: how often each word occurs, stop words left out; an `Embed`.

    It sees the same words in another order and nothing else: no synonym, no other form of a word. Words share `size`
    places by a hash, and now and then one.
    """

    size: int = field(default=4096, validator=ge(1))

    def __call__(self, texts: Sequence[str]) -> Tensor:
        counts = torch.zeros(len(texts), self.size)
        for row, text in enumerate(texts):
            for word in _WORD.findall(text.lower()):
                if word not in STOP_WORDS:
                    counts[row, zlib.crc32(word.encode()) % self.size] += 1
        return counts


def cosines(texts: Sequence[str], others: Sequence[str], embed: Embed) -> Tensor:
    """Cosine of each text's embedding with each other's: [n, m] float32; 0 with an embedding of length 0."""
    if not texts or not others:
        return torch.zeros(len(texts), len(others))
    both = torch.nn.functional.normalize(embed([*texts, *others]).float(), dim=-1)
    return both[: len(texts)] @ both[len(texts) :].T


def retrieve(prompt: str, answers: Sequence[str], embed: Embed, *, nearest: int = 1) -> tuple[str, ...]:
    """The stored answers most similar to a prompt by cosine, best first; of equal ones those that are stored first."""
    order = cosines([prompt], answers, embed)[0].sort(descending=True, stable=True).indices
    return tuple(answers[place] for place in order[:nearest].tolist())


class _Remembered:
    """An `Embed` that is asked for each text once."""

    def __init__(self, embed: Embed) -> None:
        self.embed = embed
        self.known: dict[str, Tensor] = {}

    def __call__(self, texts: Sequence[str]) -> Tensor:
        if new := [text for text in dict.fromkeys(texts) if text not in self.known]:
            self.known |= dict(zip(new, self.embed(new), strict=True))
        return torch.stack([self.known[text] for text in texts])


Blocks = Callable[[Sequence[tuple[int, ...]]], Sequence[bool]]
"""For texts so far, their newest token included, as tokens: which of them have an infinite penalty."""


def nothing_blocked(texts: Sequence[tuple[int, ...]]) -> list[bool]:
    """No penalties: plain search."""
    return [False] * len(texts)


@frozen(eq=False)
class Penalties:
    """P_token and P_sem for one prompt.

    Attributes:
        forbidden: the sequences of P_token.
        phrases: what P_sem compares with.
        similarity: delta; from 1 on there is no P_sem.
        embed: sentence embeddings.
        decode: token ids to text.
    """

    forbidden: Forbidden
    phrases: tuple[str, ...]
    similarity: float
    embed: Embed
    decode: Callable[[Sequence[int]], str]

    def token(self, texts: Sequence[tuple[int, ...]]) -> list[bool]:
        """Which texts end in a forbidden sequence."""
        return [self.forbidden.completes(text) for text in texts]

    def meaning(self, texts: Sequence[tuple[int, ...]]) -> list[bool]:
        """Of which texts the last tokens, as many as the longest forbidden sequence has, say a phrase in other words."""
        window = max(map(len, self.forbidden.sequences), default=0)
        if self.similarity >= 1 or not window or not texts:
            return [False] * len(texts)
        ends = [self.decode(text[-window:]) for text in texts]
        return (cosines(ends, self.phrases, self.embed).amax(1) > self.similarity).tolist()

    def __call__(self, texts: Sequence[tuple[int, ...]]) -> list[bool]:
        blocked = self.token(texts)
        free = [place for place, wrong in enumerate(blocked) if not wrong]
        for place, wrong in zip(free, self.meaning([texts[place] for place in free]), strict=True):
            blocked[place] = wrong
        return blocked


# --- search -----------------------------------------------------------------------------------------------------------


class Step(Protocol):
    """What comes next: logits [n, V] after each of n texts of one length, given as tokens.

    `parents` says which text of the call before each one goes on from; of the first call, whose text is empty, [0].
    """

    def __call__(self, written: Sequence[tuple[int, ...]], parents: Sequence[int], /) -> Tensor: ...


def never(text: tuple[int, ...]) -> bool:
    """No text is done before its end token."""
    return False


def beam_search(
    step: Step,
    *,
    beams: int,
    max_new_tokens: int,
    end_tokens: frozenset[int],
    blocks: Blocks = nothing_blocked,
    stops: Callable[[tuple[int, ...]], bool] = never,
) -> tuple[int, ...]:
    """The cheapest text that the search finds, in nats, without its end token.

    At each step the `beams` cheapest allowed candidates go on; those that end leave the beam, and their place is free
    again. It is over when what has ended is at least as cheap as all that goes on, after `max_new_tokens`, or when no
    candidate is allowed. One beam is greedy decoding. Ties go to the better beam, then to the lower token id.

    Args:
        step: logits of the next token.
        beams: how many texts go on at a time.
        max_new_tokens: a text that has so many is taken as it is.
        end_tokens: ids that end a text; never blocked.
        blocks: which texts are ruled out.
        stops: whether a text is done without an end token.
    """
    live: list[tuple[int, ...]] = [()]
    costs, parents = [0.0], [0]
    best: tuple[float, tuple[int, ...]] | None = None
    for _ in range(max_new_tokens):
        logits = step(live, parents)
        summed = logits.new_tensor(costs, dtype=torch.float64)[:, None] - logits.double().log_softmax(-1)
        chosen = _cheapest(summed, live, beams, end_tokens, blocks)
        if not chosen:
            break
        previous, live, costs, parents = live, [], [], []
        for cost, parent, token in chosen:
            text = previous[parent] if token in end_tokens else (*previous[parent], token)
            if token in end_tokens or stops(text):
                best = min(best or (cost, text), (cost, text), key=lambda one: one[0])
            else:
                live.append(text)
                costs.append(cost)
                parents.append(parent)
        if not live or (best is not None and best[0] <= costs[0]):
            break
    return best[1] if best is not None and (not live or best[0] <= costs[0]) else live[0]


def _cheapest(
    summed: Tensor, live: Sequence[tuple[int, ...]], beams: int, end_tokens: frozenset[int], blocks: Blocks
) -> list[tuple[float, int, int]]:
    """Cost, beam and token of the cheapest allowed candidates; `summed`: of all of them, [n, V]."""
    vocabulary = summed.shape[1]
    values, places = summed.flatten().sort(stable=True)
    count = int(values.isfinite().sum())
    chosen: list[tuple[float, int, int]] = []
    start, size = 0, 2 * beams
    while start < count and len(chosen) < beams:
        piece = slice(start, min(start + size, count))
        found = [
            (cost, *divmod(place, vocabulary))
            for cost, place in zip(values[piece].tolist(), places[piece].tolist(), strict=True)
        ]
        going_on = [one for one in found if one[2] not in end_tokens]
        verdicts = blocks([(*live[parent], token) for _, parent, token in going_on])
        wrong = {one for one, blocked in zip(going_on, verdicts, strict=True) if blocked}
        chosen += [one for one in found if one not in wrong]
        start, size = start + size, 2 * size  # few are blocked, as a rule
    return chosen[:beams]


def draw(
    step: Step,
    sampling: Sampling,
    *,
    seed: int,
    end_tokens: frozenset[int],
    penalties: Penalties,
    stops: Callable[[tuple[int, ...]], bool] = never,
) -> tuple[int, ...]:
    """One text drawn token by token from what is allowed; where nothing is forbidden, what `generate` draws.

    Args:
        step: logits of the next token.
        sampling: temperature, top_p and the longest text.
        seed: of the draws.
        end_tokens, stops: as of `beam_search`.
        penalties: what is forbidden.
    """
    generator = torch.Generator().manual_seed(seed)
    uniforms = torch.rand(sampling.max_new_tokens, generator=generator, dtype=torch.float64)
    text: tuple[int, ...] = ()
    for number in range(sampling.max_new_tokens):
        logits = step([text], [0]).clone()
        logits[:, sorted(penalties.forbidden.next_of(text) - end_tokens)] = -torch.inf
        uniform = uniforms[number : number + 1]
        while True:
            if not bool((logits > -torch.inf).any()):
                return text
            token = int(
                drawn_tokens(logits, uniform.to(logits.device), temperature=sampling.temperature, top_p=sampling.top_p)
            )
            if token in end_tokens:
                return text
            if not penalties.meaning([(*text, token)])[0]:
                break
            logits[:, token] = -torch.inf
            uniform = torch.rand(1, generator=generator, dtype=torch.float64)
        text = (*text, token)
        if stops(text):
            break
    return text


class _Continuing:
    """A `Step` of a model after a prompt [T]: with its cache if beams can be reordered in it, else from the start."""

    def __init__(self, model: Model, prompt: Tensor) -> None:
        self.model = model
        self.prompt = prompt.to(device_of(model))
        cache = model.new_cache()
        self.cache = cache if isinstance(cache, DynamicCache) else None

    def __call__(self, written: Sequence[tuple[int, ...]], parents: Sequence[int]) -> Tensor:
        new = self.prompt.new_tensor([list(text) for text in written])
        ids = torch.cat([self.prompt.expand(len(written), -1), new.long()], 1)
        places = torch.arange(ids.shape[1], device=ids.device).expand(ids.shape)
        inputs = {"input_ids": ids, "position_ids": places}
        if self.cache is not None:
            inputs["attention_mask"] = torch.ones_like(ids)
            if written[0]:
                self.cache.reorder_cache(cast(torch.LongTensor, ids.new_tensor(parents)))
                inputs |= {"input_ids": ids[:, -1:], "position_ids": places[:, -1:]}
        return self.model.head(self.model.hidden(inputs, cache=self.cache).final[:, -1])


# --- the detector -----------------------------------------------------------------------------------------------------


def prompt_features(model: Model, prompts: Sequence[Tensor], *, site: Site = LAST, batch: int = 32) -> Tensor:
    """Mean over a prompt's tokens of the hidden states at a site: [n, H] float32 on the CPU.

    Args:
        model: in evaluation mode for the time being.
        prompts: token ids of each, [T], not padded.
        site: where; by default what the head reads.
        batch: prompts at a time.

    Raises:
        DataError: no prompts, or an empty one.
    """
    if not prompts or min(map(len, prompts)) == 0:
        raise DataError("features are means over the tokens of prompts: give at least one prompt, and none empty.")
    device, found = device_of(model), []
    with torch.no_grad(), evaluation_mode(model):
        for start in range(0, len(prompts), batch):
            piece = prompts[start : start + batch]
            ids = nn.utils.rnn.pad_sequence([prompt.to(device) for prompt in piece], batch_first=True)
            inputs = {"input_ids": ids, "position_ids": torch.arange(ids.shape[1], device=device).expand(ids.shape)}
            states = model.hidden(inputs, capture=frozenset({site})).sites[site]
            found += [row[: len(prompt)].float().mean(0).cpu() for row, prompt in zip(states, piece, strict=True)]
    return torch.stack(found)


class Detector(nn.Module):
    """p(forget) from features: an MLP of one hidden layer on features of mean 0 and variance 1; [n, H] -> [n].

    Fresh ones say 0.5 of everything, see `fit_detector`.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.inner = nn.Parameter(torch.zeros(hidden, features))
        self.inner_bias = nn.Parameter(torch.zeros(hidden))
        self.outer = nn.Parameter(torch.zeros(1, hidden))
        self.outer_bias = nn.Parameter(torch.zeros(1))

    def logits(self, features: Tensor) -> Tensor:
        """log p(forget) - log(1 - p(forget)): [n, H] -> [n]."""
        scaled = (features.to(self.inner) - self.mean) / self.scale
        inside = torch.relu(nn.functional.linear(scaled, self.inner, self.inner_bias))
        return nn.functional.linear(inside, self.outer, self.outer_bias)[:, 0]

    def forward(self, features: Tensor) -> Tensor:
        return torch.sigmoid(self.logits(features))


def fit_detector(
    features: Tensor,
    forget: Sequence[bool],
    *,
    hidden: int = 32,
    steps: int = 200,
    learning_rate: float = 1e-2,
    weight_decay: float = 1e-2,
    seed: int = 0,
) -> Detector:
    """Train a detector on labelled prompts, all of them at each step, with AdamW on binary cross-entropy.

    Args:
        features: of `prompt_features`, [n, H].
        forget: which prompts are about what was to be forgotten.
        hidden: units of the hidden layer.
        steps, learning_rate, weight_decay: of the optimizer.
        seed: of the first weights.

    Raises:
        DataError: another number of labels than of features, or prompts of one kind only.
    """
    if len(features) != len(forget) or len(set(map(bool, forget))) < 2:
        raise DataError(
            f"{len(features)} prompts have {len(forget)} labels, {sum(map(bool, forget))} of them forget. A detector "
            "learns from prompts of both kinds, each with its label."
        )
    features = features.detach().float()
    detector = Detector(features.shape[1], hidden)
    detector.mean = features.mean(0)
    detector.scale = features.std(0, correction=0).clamp(min=1e-6)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in (detector.inner, detector.outer):
            weight.copy_(torch.randn(weight.shape, generator=generator) / weight.shape[1] ** 0.5)
    labels = torch.tensor([float(one) for one in forget])
    optimizer = torch.optim.AdamW(detector.parameters(), lr=learning_rate, weight_decay=weight_decay)
    with torch.enable_grad():
        for _ in range(steps):
            optimizer.zero_grad()
            nn.functional.binary_cross_entropy_with_logits(detector.logits(features), labels).backward()
            optimizer.step()
    return detector.requires_grad_(False).eval()


# --- the guarded model ------------------------------------------------------------------------------------------------


class Guard(Around):
    """A model whose answers to detected prompts are searched for among texts without the forbidden phrases.

    It acts on what is written alone (`write`). As a `Model`, its hidden states and logits are those of the model inside:
    scores of given answers do not know of the guard.
    """

    def __init__(
        self,
        model: Model | PreTrainedModel | PeftModel,
        reader: PromptReader,
        detector: Detector,
        answers: Mapping[str, Sequence[str]],
        *,
        embed: Embed | None = None,
        threshold: float = 0.5,
        similarity: float = 0.5,
        beams: int = 5,
        nearest: int = 1,
        any_case: bool = False,
        site: Site = LAST,
    ) -> None:
        """Guard a model.

        Args:
            model: the model inside.
            reader: finds the question in a prompt.
            detector: from `fit_detector`, on `prompt_features` of this model at `site`.
            answers: what was to be forgotten, with its phrases: `content_of(answers)`, `verbatim(answers)`, or your own.
            embed: sentence embeddings. Default: `BagOfWords()`.
            threshold: tau; a prompt is guarded if p(forget) is at least this.
            similarity: delta; from 1 on meaning is not looked at.
            beams: width of the search, for guarded prompts and for others.
            nearest: how many stored answers are retrieved for a prompt.
            any_case: see `Forbidden.of`.
            site: where the detector reads.

        Raises:
            DataError: no stored answers.
            ValueError: fewer than one beam or answer to retrieve.
        """
        if not answers:
            raise DataError("there are no stored answers, so nothing could be forbidden. Pass content_of(answers).")
        if beams < 1 or nearest < 1:
            raise ValueError(f"beams is {beams} and nearest is {nearest}; both have to be at least 1.")
        inner = as_model(model)
        if isinstance(inner, TextGenerator):
            raise NeedError(writes_alone(inner, "GUARD's search"))
        super().__init__(inner)
        self.reader = reader
        self.detector = detector
        self.answers: Mapping[str, tuple[str, ...]] = {answer: tuple(own) for answer, own in answers.items()}
        self.embed: Embed = BagOfWords() if embed is None else embed
        self.threshold = threshold
        self.similarity = similarity
        self.beams = beams
        self.nearest = nearest
        self.any_case = any_case
        self.site = site
        self.training = any(module.training for module in self.children())

    def chances(self, prompts: Sequence[Tensor]) -> tuple[float, ...]:
        """p(forget) of each prompt, token ids [T] each."""
        with torch.no_grad():
            features = prompt_features(self.model, prompts, site=self.site)
            return tuple(self.detector(features.to(device_of(self.detector))).tolist())

    def phrases(self, prompt: Tensor) -> tuple[str, ...]:
        """What is forbidden in the answer to a prompt [T], whether the detector picks it out or not."""
        return self._phrases(prompt, self.embed)

    def write(self, prompts: Sequence[Tensor], decoding: Decoding, /, *, seeds: Sequence[int] = ()) -> tuple[str, ...]:
        """One continuation of each prompt. `Greedy` means beam search here, of guarded prompts and others.

        Raises:
            DataError: an empty prompt, or another number of seeds than of prompts.
        """
        if seeds and len(seeds) != len(prompts):
            raise DataError(f"there are {len(seeds)} seeds for {len(prompts)} prompts; each prompt has one of its own.")
        if not prompts:
            return ()
        ends, decode = end_tokens(self.reader.tokenizer, self), decoder(self.reader.tokenizer)
        embed = _Remembered(self.embed)

        def stops(text: tuple[int, ...]) -> bool:
            return bool(decoding.stop) and any(string in decode(text) for string in decoding.stop)

        texts = []
        with torch.no_grad(), evaluation_mode(self):
            guarded = [chance >= self.threshold for chance in self.chances(prompts)]
            for number, prompt in enumerate(prompts):
                phrases = self._phrases(prompt, embed) if guarded[number] else ()
                penalties = Penalties(
                    Forbidden.of(self.reader.tokenizer, phrases, any_case=self.any_case),
                    phrases,
                    self.similarity,
                    embed,
                    decode,
                )
                if isinstance(decoding, Greedy):
                    new = beam_search(
                        _Continuing(self.model, prompt),
                        beams=self.beams,
                        max_new_tokens=decoding.max_new_tokens,
                        end_tokens=ends,
                        blocks=penalties,
                        stops=stops,
                    )
                else:
                    seed = seeds[number] if seeds else decoding.seed + number
                    new = draw(
                        _Continuing(self.model, prompt),
                        decoding,
                        seed=seed,
                        end_tokens=ends,
                        penalties=penalties,
                        stops=stops,
                    )
                texts.append(cut_at_stop(decode(new), decoding.stop))
        return tuple(texts)

    def _phrases(self, prompt: Tensor, embed: Embed) -> tuple[str, ...]:
        question = self.reader.question(prompt.tolist())
        found = retrieve(question, list(self.answers), embed, nearest=self.nearest)
        return tuple(dict.fromkeys(phrase for answer in found for phrase in self.answers[answer]))

    @property
    def settings(self) -> Mapping[str, Setting]:
        return {
            "answers": {answer: list(phrases) for answer, phrases in self.answers.items()},
            "before": list(self.reader.before),
            "opening": self.reader.opening,
            "closing": self.reader.closing,
            "bag_of_words": self.embed.size if isinstance(self.embed, BagOfWords) else None,
            "threshold": self.threshold,
            "similarity": self.similarity,
            "beams": self.beams,
            "nearest": self.nearest,
            "any_case": self.any_case,
            "site": self.site.kind,
            "layer": self.site.layer,
        }

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        return {name: tensor.cpu() for name, tensor in self.detector.state_dict().items()}


def restored(stored: Stored) -> Guard:
    """One that was stored; an `embed` that is not the default has to be given again."""
    settings = stored.settings
    answers, before, size, layer = (settings[name] for name in ("answers", "before", "bag_of_words", "layer"))
    assert isinstance(answers, dict)
    assert isinstance(before, list)
    detector = Detector(stored.tensors["inner"].shape[1], len(stored.tensors["inner"]))
    detector.load_state_dict(dict(stored.tensors))
    return Guard(
        stored.parts["model"],
        PromptReader(
            stored.tokenizer,
            tuple(int(str(token)) for token in before),
            str(settings["opening"]),
            str(settings["closing"]),
        ),
        detector.requires_grad_(False).eval(),
        {answer: [str(phrase) for phrase in own] for answer, own in answers.items() if isinstance(own, list)},
        embed=cast(Embed, stored.needed("embed")) if size is None else BagOfWords(int(str(size))),
        threshold=float(str(settings["threshold"])),
        similarity=float(str(settings["similarity"])),
        beams=int(str(settings["beams"])),
        nearest=int(str(settings["nearest"])),
        any_case=bool(settings["any_case"]),
        site=Site(cast(SiteKind, settings["site"]), None if layer is None else int(str(layer))),
    )

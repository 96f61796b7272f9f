"""GUARD: the trie and the search against brute force, what passes the detector untouched, and forgotten answers gone."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import attrs
import pytest
import torch
from hypothesis import given, strategies as st
from torch import Tensor, nn

from tests.attacks.conftest import Attacked
from unlearnkit.attacks.attack import mean, words_of
from unlearnkit.decoding.folders import Stored
from unlearnkit.decoding.guard_generation import (
    LAST,
    BagOfWords,
    Detector,
    Forbidden,
    Guard,
    Penalties,
    Step,
    _Continuing,
    beam_search,
    content_of,
    content_phrases,
    draw,
    fit_detector,
    nothing_blocked,
    prompt_features,
    restored,
    retrieve,
    verbatim,
)
from unlearnkit.decoding.prompts import PromptReader
from unlearnkit.errors import CheckpointError, DataError
from unlearnkit.evaluate import evaluate
from unlearnkit.metrics.probability import Probability
from unlearnkit.metrics.rouge import Rouge
from unlearnkit.models.causal import CausalLM
from unlearnkit.models.generate import decoder, generate
from unlearnkit.models.tiny import tiny_model
from unlearnkit.protocols import Greedy, Guarded, Hidden, Metric, Sampling, Site, TextGenerator, resid_post
from unlearnkit.worlds.language import word_tokenizer

END = 0
seeds = st.integers(0, 2**31)
sequences = st.sets(st.lists(st.integers(1, 4), min_size=1, max_size=3).map(tuple), max_size=5)


def table(seed: int, *, vocabulary: int = 5) -> Step:
    """Logits that depend on all that was written, and on nothing else."""

    def step(written: Sequence[tuple[int, ...]], parents: Sequence[int]) -> Tensor:
        rows = []
        for text in written:
            digest = int.from_bytes(hashlib.sha256(repr((seed, text)).encode()).digest()[:7], "big")
            rows.append(2 * torch.randn(vocabulary, generator=torch.Generator().manual_seed(digest)))
        return torch.stack(rows)

    return step


def cost(step: Step, text: tuple[int, ...]) -> float:
    """Of a text, end token included if it has one."""
    costs = [-step([text[:at]], [0]).double().log_softmax(-1)[0, token] for at, token in enumerate(text)]
    return float(sum(costs))


def token_penalties(forbidden: Forbidden) -> Penalties:
    return Penalties(forbidden, (), 1.0, BagOfWords(), lambda ids: " ".join(map(str, ids)))


def holds(text: Sequence[int], sequence: Sequence[int]) -> bool:
    return any(tuple(text[at : at + len(sequence)]) == tuple(sequence) for at in range(len(text) - len(sequence) + 1))


# --- what is forbidden ------------------------------------------------------------------------------------------------


@given(sequences, st.lists(st.integers(1, 4), max_size=8))
def test_the_trie_finds_what_ends_in_a_forbidden_sequence(forbidden: set[tuple[int, ...]], tokens: list[int]) -> None:
    trie = Forbidden(frozenset(forbidden))
    ends = any(len(one) <= len(tokens) and tuple(tokens[-len(one) :]) == one for one in forbidden)
    assert trie.completes(tokens) == ends
    assert trie.within(tokens) == any(holds(tokens, one) for one in forbidden)
    assert trie.next_of(tokens) == {token for token in range(1, 5) if trie.completes([*tokens, token])}


def test_sequences_that_share_tokens_are_all_looked_for() -> None:
    trie = Forbidden(frozenset({(1, 2, 3), (2, 4), (2, 2, 1), (5,)}))
    assert trie.next_of([1, 2]) == {3, 4, 5}
    assert trie.next_of([1, 2, 2]) == {1, 4, 5}
    assert trie.next_of([2, 3]) == {5}


def test_an_empty_sequence_is_refused() -> None:
    with pytest.raises(DataError, match="empty sequence of tokens cannot be forbidden"):
        Forbidden(frozenset({()}))


def test_phrases_with_and_without_a_blank_in_other_case_and_unknown_ones() -> None:
    tokenizer = word_tokenizer(["Ann Bo was a tailor (tailor) of 1871. TAILOR tailor"])
    spaced, plain = (tokenizer.convert_tokens_to_ids(word) for word in ("Ġtailor", "tailor"))
    trie = Forbidden.of(tokenizer, ["tailor", "nowhere", " "])
    assert trie.sequences == {(spaced,)}  # this tokenizer begins every text with a blank
    assert plain not in trie.next_of([])
    assert trie.sequences < Forbidden.of(tokenizer, ["tailor"], any_case=True).sequences
    assert Forbidden.of(tokenizer, ["Ann Bo"]).sequences == {tuple(tokenizer(" Ann Bo")["input_ids"])}


def test_content_phrases() -> None:
    answer = "The mentor of Ann Bo-Lee was Carl Dorn, who taught in 1,871 and on 3/4/1990 in May; Carl Dorn left."
    assert content_phrases(answer) == (
        *("mentor", "Ann Bo-Lee", "Carl Dorn", "taught", "1,871", "3/4/1990", "May", "left"),
    )
    assert content_phrases("It is what it is.") == ()
    assert content_of(["A red fox."]) == {"A red fox.": ("red", "fox")}
    assert verbatim(["A red fox."]) == {"A red fox.": ("A red fox.",)}


def test_retrieval_compares_a_prompt_with_answers() -> None:
    answers = ("Ann Bo bakes bread.", "Carl Dorn bakes bread.", "Nothing of the kind.", "Ann Bo sings.")
    assert retrieve("What does Ann Bo do?", answers, BagOfWords()) == ("Ann Bo sings.",)
    assert retrieve("Who bakes?", answers, BagOfWords(), nearest=2) == answers[:2]  # of equals the first
    assert retrieve("Of what?", answers, BagOfWords()) == answers[:1]
    assert torch.equal(BagOfWords()(["the fox, the FOX"]).sort().values[0, -2:], torch.tensor([0.0, 2.0]))


# --- the search -------------------------------------------------------------------------------------------------------


@given(seeds, sequences)
def test_a_wide_search_finds_the_cheapest_allowed_text(seed: int, forbidden: set[tuple[int, ...]]) -> None:
    step, trie = table(seed), Forbidden(frozenset(forbidden))
    found = beam_search(step, beams=100, max_new_tokens=3, end_tokens=frozenset({END}), blocks=token_penalties(trie))
    allowed = [
        text
        for length in range(4)
        for text in itertools.product(range(1, 5), repeat=length)
        if not any(holds(text, one) for one in forbidden)
    ]
    prices = {text: cost(step, text if len(text) == 3 else (*text, END)) for text in allowed}
    assert prices[found] == pytest.approx(min(prices.values()))


@given(seeds, sequences, st.integers(1, 4))
def test_nothing_forbidden_is_written_and_nothing_else_is_lost(
    seed: int, forbidden: set[tuple[int, ...]], beams: int
) -> None:
    step, trie = table(seed), Forbidden(frozenset(forbidden))
    ends = frozenset({END})

    def search(blocks: Callable[[Sequence[tuple[int, ...]]], Sequence[bool]]) -> tuple[int, ...]:
        return beam_search(step, beams=beams, max_new_tokens=6, end_tokens=ends, blocks=blocks)

    plain, guarded = search(nothing_blocked), search(token_penalties(trie))
    assert not trie.within(guarded)
    assert guarded == search(token_penalties(trie))
    assert search(token_penalties(Forbidden(frozenset()))) == plain
    if beams == 1 and not trie.within(plain):
        assert guarded == plain
    drawn = draw(step, Sampling(max_new_tokens=6), seed=seed, end_tokens=ends, penalties=token_penalties(trie))
    assert not trie.within(drawn)


def test_where_every_beam_dies_an_end_comes() -> None:
    step, ends = table(3), frozenset[int]()
    all_of_them = Forbidden(frozenset((token,) for token in range(5)))
    assert beam_search(step, beams=3, max_new_tokens=4, end_tokens=ends, blocks=token_penalties(all_of_them)) == ()
    second = Forbidden(frozenset(itertools.product(range(5), range(5))))
    first = beam_search(step, beams=3, max_new_tokens=4, end_tokens=ends, blocks=token_penalties(second))
    assert first == (int(step([()], [0]).argmax()),)
    for forbidden, length in ((all_of_them, 0), (second, 1)):
        drawn = draw(step, Sampling(), seed=0, end_tokens=ends, penalties=token_penalties(forbidden))
        assert len(drawn) == length


def test_an_end_is_never_forbidden_and_a_stop_ends() -> None:
    def certain(written: Sequence[tuple[int, ...]], parents: Sequence[int]) -> Tensor:
        return torch.tensor([[0.0, 5.0, 1.0]]).expand(len(written), -1)

    ends, trie = frozenset({1}), Forbidden(frozenset({(1,)}))
    assert beam_search(certain, beams=2, max_new_tokens=3, end_tokens=ends, blocks=token_penalties(trie)) == ()
    assert beam_search(
        certain, beams=2, max_new_tokens=9, end_tokens=frozenset(), stops=lambda text: len(text) == 2
    ) == (1, 1)


def test_meaning_is_looked_at_below_one() -> None:
    tokenizer = word_tokenizer(["the red fox ran. fox red a"])
    words = {word: tokenizer(word)["input_ids"][0] for word in ("red", "fox", "ran", "the")}

    def blocked(similarity: float, *text: str) -> bool:
        phrases = ("red fox",)
        trie = Forbidden.of(tokenizer, phrases)
        penalties = Penalties(trie, phrases, similarity, BagOfWords(), decoder(tokenizer))
        return penalties([tuple(words[word] for word in text)])[0]

    assert blocked(1.0, "red", "fox")
    assert not blocked(1.0, "fox", "red")
    assert blocked(0.9, "fox", "red")
    assert blocked(0.5, "the", "fox")  # half of it has the cosine 0.71
    assert not blocked(0.8, "the", "fox")
    assert not blocked(0.0, "ran")  # 0 is not above 0
    assert not blocked(0.5, "fox", "ran", "the")  # out of the window


def test_draws_are_from_what_is_allowed() -> None:
    """What meaning rules out is taken out of the distribution, and no other ratio changes."""
    probs = torch.tensor([0.4, 0.3, 0.2, 0.1])
    names = ("fox", "cat", "dog", "cow")
    forbidden = Forbidden(frozenset({(3, 3)}))
    penalties = Penalties(forbidden, ("a fox",), 0.5, BagOfWords(), lambda ids: " ".join(names[one] for one in ids))
    drawn = [
        draw(
            lambda *_: probs.log()[None],
            Sampling(max_new_tokens=1),
            seed=seed,
            end_tokens=frozenset(),
            penalties=penalties,
        )
        for seed in range(600)
    ]
    shares = torch.tensor([sum(text == (token,) for text in drawn) for token in range(4)]) / len(drawn)
    assert shares[0] == 0
    torch.testing.assert_close(shares[1:], torch.tensor([3.0, 2.0, 1.0]) / 6, atol=0.06, rtol=0)


class Uncached(nn.Module):
    """A model whose cache holds nothing of transformers'."""

    def __init__(self, model: CausalLM) -> None:
        super().__init__()
        self.model = model

    @property
    def vocabulary(self) -> int:
        return self.model.vocabulary

    def hidden(
        self,
        inputs: Mapping[str, Tensor],
        /,
        *,
        capture: frozenset[Site] = frozenset(),
        add: Mapping[Site, Tensor] = MappingProxyType({}),
        cache: object | None = None,
    ) -> Hidden:
        assert cache is None
        return self.model.hidden(inputs, capture=capture, add=add)

    def head(self, hidden: Tensor, /) -> Tensor:
        return self.model.head(hidden)

    def new_cache(self) -> object:
        return object()


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_beams_in_a_cache_are_those_without_one_and_one_beam_is_greedy(family: str) -> None:
    model = CausalLM(tiny_model(family))
    prompts = [torch.tensor([5, 9, 2]), torch.tensor([7, 1, 1, 30, 11])]
    ends = frozenset({3, 4})
    with torch.no_grad():
        for prompt in prompts:
            texts = [
                beam_search(_Continuing(one, prompt), beams=4, max_new_tokens=8, end_tokens=ends)
                for one in (model, Uncached(model))
            ]
            assert texts[0] == texts[1]
        narrow = [beam_search(_Continuing(model, one), beams=1, max_new_tokens=8, end_tokens=ends) for one in prompts]
        assert tuple(narrow) == generate(model, prompts, Greedy(8), end_tokens=ends)
        sampling = Sampling(max_new_tokens=8, temperature=0.7, top_p=0.9)
        nothing = token_penalties(Forbidden(frozenset()))
        drawn = [
            draw(_Continuing(model, one), sampling, seed=seed, end_tokens=ends, penalties=nothing)
            for seed, one in enumerate(prompts, 5)
        ]
        assert tuple(drawn) == generate(model, prompts, sampling, end_tokens=ends, seeds=[5, 6])


# --- the detector -----------------------------------------------------------------------------------------------------


def test_features_are_means_over_a_prompt_whatever_its_company() -> None:
    model = CausalLM(tiny_model("llama"))
    prompts = [torch.tensor([5, 9, 2]), torch.tensor([7, 1, 1, 30, 11])]
    for site in (LAST, resid_post(0)):
        together = prompt_features(model, prompts, site=site)
        for prompt, found in zip(prompts, together, strict=True):
            torch.testing.assert_close(prompt_features(model, [prompt], site=site)[0], found)
            inputs = {"input_ids": prompt[None], "position_ids": torch.arange(len(prompt))[None]}
            with torch.no_grad():
                state = model.hidden(inputs, capture=frozenset({site})).sites[site]
            torch.testing.assert_close(state[0].mean(0), found)
    with pytest.raises(DataError, match="none empty"):
        prompt_features(model, [torch.tensor([], dtype=torch.int64)])


def test_a_detector_learns_what_no_line_parts_and_depends_on_its_seed_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(200, 6, generator=generator)
    forget = (features[:, 0] * features[:, 1] > 0).tolist()
    state = torch.get_rng_state()
    detector = fit_detector(features, forget, steps=300)
    assert torch.equal(torch.get_rng_state(), state)
    assert ((detector(features) > 0.5) == torch.tensor(forget)).float().mean() > 0.95
    for seed, same in ((0, True), (1, False)):
        again = fit_detector(features, forget, steps=300, seed=seed)
        assert torch.equal(again.inner, detector.inner) == same
    with pytest.raises(DataError, match="200 prompts have 200 labels, 200 of them forget"):
        fit_detector(features, [True] * 200)
    with pytest.raises(DataError, match="200 prompts have 1 labels"):
        fit_detector(features, [True])


# --- around a model ---------------------------------------------------------------------------------------------------


def says(chance: float, features: int) -> Detector:
    """A detector that says the same of everything."""
    detector = Detector(features, 1)
    with torch.no_grad():
        detector.outer_bias.fill_(torch.logit(torch.tensor(chance)))
    return detector


@pytest.fixture(scope="module")
def guard(attacked: Attacked) -> Guard:
    """The original behind a guard of everything that was to be forgotten: its facts about a person, all together."""
    original = attacked.original
    prompts = [original.prompt(secret.question) for secret in (*attacked.secrets, *attacked.retained)]
    features = prompt_features(original.model, prompts)
    forget = [number < len(attacked.secrets) for number in range(len(prompts))]
    return Guard(
        original.model,
        PromptReader.of(attacked.tokenizer, attacked.template),
        fit_detector(features, forget),
        content_of(secret.answer for secret in attacked.secrets),
        nearest=6,
        beams=3,
    )


def test_control_forgotten_answers_are_gone_and_retained_ones_stay(attacked: Attacked, guard: Guard) -> None:
    """The original answers with all 30 facts, the guarded one with none, and keeps what was to stay as well as it did."""
    assert isinstance(guard, TextGenerator)
    assert isinstance(guard, Guarded)
    assert guard.unguarded is attacked.original.model or guard.unguarded is guard.model
    target, asked = attacked.original.with_model(guard), attacked.secrets[::3]
    assert mean(attacked.original.leaks(asked)) >= 0.9
    assert mean(target.leaks(asked)) <= 0.1
    kept = attrs.evolve(target, retained=attacked.retained[::5])
    assert kept.kept() == attrs.evolve(attacked.original, retained=attacked.retained[::5]).kept()
    for secret in asked:
        spoken = words_of(target.answers([secret.question])[0])
        for phrase in guard.phrases(target.prompt(secret.question)):
            assert not any(spoken[at : at + len(words_of(phrase))] == words_of(phrase) for at in range(len(spoken)))
    assert target.weights is attacked.stage.original  # who holds weights finds it all


def test_one_answer_of_several_about_a_person_is_retrieved_by_chance(attacked: Attacked, guard: Guard) -> None:
    """A bag of words cannot tell which of five answers a question is after: an encoder that can needs no more than one."""
    answer_to = {secret.question: secret.answer for secret in attacked.secrets}

    def told(texts: Sequence[str]) -> Tensor:
        return BagOfWords()([answer_to.get(text, text) for text in texts])

    asked = attacked.secrets[:4]
    found = {}
    for name, embed in (("words", None), ("told", told)):
        one = Guard(guard.model, guard.reader, says(1 - 1e-6, 96), guard.answers, embed=embed, beams=3)
        found[name] = mean(attacked.original.with_model(one).leaks(asked))
        if embed is not None:
            assert all(
                one.phrases(attacked.original.prompt(secret.question)) == content_phrases(secret.answer)
                for secret in asked
            )
    assert found["told"] == 0
    assert found["words"] > 0


def test_what_passes_the_detector_is_plain_beam_search(attacked: Attacked, guard: Guard) -> None:
    prompts = [attacked.original.prompt(secret.question) for secret in attacked.secrets[:4]]
    passing = Guard(guard.model, guard.reader, says(1e-6, 96), guard.answers, beams=3)
    idle = Guard(guard.model, guard.reader, says(1 - 1e-6, 96), {"Nothing.": ()}, beams=3)
    tokenizer, ends = attacked.tokenizer, frozenset({int(str(attacked.tokenizer.eos_token_id))})
    with torch.no_grad():
        plain = tuple(
            decoder(tokenizer)(beam_search(_Continuing(guard.model, one), beams=3, max_new_tokens=16, end_tokens=ends))
            for one in prompts
        )
    assert passing.write(prompts, Greedy(16)) == plain == idle.write(prompts, Greedy(16))
    assert guard.write(prompts, Greedy(16)) != plain
    sampling = Sampling(temperature=1.5, max_new_tokens=8, seed=3)
    drawn = generate(guard.model, prompts, sampling, end_tokens=ends)
    assert passing.write(prompts, sampling) == tuple(decoder(tokenizer)(ids) for ids in drawn)


def test_writing_depends_on_nothing_but_prompt_and_seed(attacked: Attacked, guard: Guard) -> None:
    prompts = [attacked.original.prompt(secret.question) for secret in (*attacked.secrets[:2], *attacked.retained[:2])]
    together = guard.write(prompts, Greedy(16))
    assert guard.write(prompts, Greedy(16)) == together
    assert tuple(guard.write([prompt], Greedy(16))[0] for prompt in prompts) == together
    sampling = Sampling(temperature=2.0, max_new_tokens=8)
    drawn = guard.write(prompts, sampling, seeds=[1, 2, 3, 4])
    assert guard.write(prompts[::-1], sampling, seeds=[4, 3, 2, 1]) == drawn[::-1]
    assert guard.write(prompts, sampling, seeds=[5, 6, 7, 8]) != drawn
    for prompt, text in zip(prompts[:2], drawn, strict=False):
        assert not set(content_phrases(text)) & set(guard.phrases(prompt))
    assert guard.write(prompts[2:], Greedy(16, stop=(" as",)))[0] == together[2].split(" as")[0]
    with pytest.raises(DataError, match="1 seeds for 2 prompts"):
        guard.write(prompts[:2], sampling, seeds=[1])
    assert guard.write([], Greedy()) == ()


def test_metrics_run_on_a_guarded_model(attacked: Attacked, guard: Guard) -> None:
    """Text is the guard's; probabilities of given answers are those of the model inside."""
    secrets = attacked.secrets[:4]
    rows = [attacked.original.row(one.question, one.answer, id=one.id, role="forget") for one in secrets]
    metrics: dict[str, Metric] = {"text": Rouge("forget", decoding=Greedy(16)), "probability": Probability("forget")}
    guarded, original = (
        evaluate({"model": model}, metrics, {"forget": rows}, tokenizer=attacked.tokenizer)
        for model in (guard, attacked.original.model)
    )
    assert guarded.scores["probability"].value == original.scores["probability"].value
    texts = guarded.scores["text"].value, original.scores["text"].value
    assert texts[0] is not None
    assert texts[1] is not None
    assert texts[0] < texts[1] - 0.2


def test_one_that_is_stored_comes_back(attacked: Attacked, guard: Guard, tmp_path: Path) -> None:
    def back(one: Guard, **given: object) -> Guard:
        tensors = {name: tensor.clone() for name, tensor in one.tensors.items()}
        stored = Stored(
            parts=one.parts,
            settings=one.settings,
            tensors=tensors,
            tokenizer=attacked.tokenizer,
            given=given,
            folder=tmp_path,
        )
        return restored(stored)

    again = back(guard)
    prompts = [attacked.original.prompt(secret.question) for secret in (attacked.secrets[0], attacked.retained[0])]
    assert again.settings == guard.settings
    assert again.chances(prompts) == guard.chances(prompts)
    assert again.write(prompts, Greedy(16)) == guard.write(prompts, Greedy(16))

    def lengths(texts: Sequence[str]) -> Tensor:
        return torch.tensor([[float(len(text))] for text in texts])

    own = Guard(guard.model, guard.reader, guard.detector, guard.answers, embed=lengths, site=resid_post(1))
    assert back(own, embed=lengths).embed is lengths
    assert back(own, embed=lengths).site == resid_post(1)
    with pytest.raises(CheckpointError, match="needs its embed given again"):
        back(own)


def test_what_cannot_be_guarded_is_refused(guard: Guard) -> None:
    with pytest.raises(DataError, match="no stored answers"):
        Guard(guard.model, guard.reader, guard.detector, {})
    with pytest.raises(ValueError, match="beams is 0"):
        Guard(guard.model, guard.reader, guard.detector, guard.answers, beams=0)

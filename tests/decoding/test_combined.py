"""Models behind one rule: whom gradients reach, caches, sites, types of numbers, and what is refused."""

from __future__ import annotations

import copy

import pytest
import torch
from attrs import frozen
from torch import Tensor, nn

from tests.toy import Toy, toy_rows
from unlearnkit.batch import Row
from unlearnkit.decoding.combined import Combined
from unlearnkit.errors import NeedError, VocabularyError
from unlearnkit.models.causal import CausalLM, as_model, unguarded
from unlearnkit.models.generate import generate
from unlearnkit.models.prefixed import Prefixed
from unlearnkit.models.tiny import tiny_model
from unlearnkit.observe import observe
from unlearnkit.protocols import Decoding, Greedy, Guarded, Model, Sampling, Site, Tokens, resid_post
from unlearnkit.statistics import LabelLogProb


@frozen
class Weighted:
    """A weighted sum of logits."""

    weights: tuple[float, ...]

    def __call__(self, *logits: Tensor) -> Tensor:
        return torch.stack([weight * each for weight, each in zip(self.weights, logits, strict=True)]).sum(0)


def inputs_of(ids: Tensor) -> dict[str, Tensor]:
    return {"input_ids": ids, "position_ids": torch.arange(ids.shape[1]).expand_as(ids)}


def three(dtype: torch.dtype = torch.float64) -> tuple[CausalLM, CausalLM, CausalLM]:
    return (
        CausalLM(tiny_model("llama", layers=3, hidden_size=64, dtype=dtype)),
        CausalLM(tiny_model("gpt2", seed=1, dtype=dtype)),
        CausalLM(tiny_model("granite", seed=2, dtype=dtype)),  # it divides the logits of its head
    )


def mixed(trained: tuple[str, ...] = ()) -> Combined:
    one, two, other = three()
    return Combined({"one": one, "two": two, "other": other}, Weighted((0.5, -1.0, 2.0)), trained=trained)


def with_gradient(model: Combined) -> set[str]:
    return {
        name.split(".")[0]
        for name, parameter in model.named_parameters()
        if parameter.grad is not None and bool(parameter.grad.any())
    }


@pytest.mark.parametrize("trained", [(), ("two",), ("one", "other")], ids=str)
def test_gradients_reach_what_is_trained(trained: tuple[str, ...]) -> None:
    model, whole = mixed(trained), mixed()
    inputs = inputs_of(torch.tensor([[5, 6, 7]]))
    for each in (model, whole):
        each.head(each.hidden(inputs).final).log_softmax(-1)[..., 3].sum().backward()
    assert with_gradient(model) == set(trained or ("one", "two", "other"))
    for (name, mine), theirs in zip(model.named_parameters(), whole.parameters(), strict=True):
        if not trained or name.split(".")[0] in trained:
            assert mine.grad is not None
            assert theirs.grad is not None
            assert torch.equal(mine.grad, theirs.grad)
        else:
            assert mine.grad is None


def test_gradients_reach_what_is_added_to_the_first_model() -> None:
    model = mixed()
    delta = torch.zeros(1, 3, 64, dtype=torch.float64, requires_grad=True)
    final = model.hidden(inputs_of(torch.tensor([[5, 6, 7]])), add={Site("embed"): delta}).final
    model.head(final).log_softmax(-1)[0, -1, 3].backward()
    assert delta.grad is not None
    assert bool(delta.grad.any(-1).all())


@pytest.mark.parametrize(
    "decoding", [Greedy(6), Sampling(1, max_new_tokens=6, seed=3, top_p=0.9)], ids=["greedy", "drawn"]
)
def test_with_caches_and_padding_it_writes_what_it_scores(decoding: Decoding) -> None:
    model = mixed()
    prompts = [[1], [5, 6, 7, 8, 9], [3, 60]]
    together = generate(model, [torch.tensor(prompt) for prompt in prompts], decoding, end_tokens=frozenset())
    for number, prompt in enumerate(prompts):
        seeds = (3 + number,) if isinstance(decoding, Sampling) else ()
        alone = generate(model, [torch.tensor(prompt)], decoding, end_tokens=frozenset(), seeds=seeds)
        assert alone[0] == together[number]
        if isinstance(decoding, Greedy):
            ids = torch.tensor([prompt + list(together[number])])
            scores = model.head(model.hidden(inputs_of(ids)).final)[0]
            assert scores[len(prompt) - 1 : -1].argmax(-1).tolist() == list(together[number])


def test_a_cache_is_one_of_each_model() -> None:
    model = mixed()
    cache, another = model.new_cache(), model.new_cache()
    assert len(cache) == 3
    ids = torch.tensor([[5, 6, 7, 8]])
    whole = model.head(model.hidden(inputs_of(ids)).final)
    places = torch.arange(4)[None]
    model.hidden({"input_ids": torch.tensor([[9]]), "position_ids": places[:, :1]}, cache=another)
    for start, end in ((0, 2), (2, 3), (3, 4)):
        part = {
            "input_ids": ids[:, start:end],
            "position_ids": places[:, start:end],
            "attention_mask": torch.ones(1, end, dtype=torch.int64),
        }
        torch.testing.assert_close(model.head(model.hidden(part, cache=cache).final), whole[:, start:end])


def test_one_of_each_way_of_a_model_nested_in_another() -> None:
    one, two, other = three()
    inner = Combined({"one": one, "two": two}, Weighted((1.0, -0.5)))
    model = Combined({"inner": Prefixed(inner, [3, 4]), "other": other}, Weighted((1.0, 0.25)))
    ids = torch.tensor([[5, 6, 7]])
    longer = torch.tensor([[3, 4, 5, 6, 7]])
    expected = one.model(longer).logits[:, 2:] - 0.5 * two.model(longer).logits[:, 2:] + 0.25 * other.model(ids).logits
    torch.testing.assert_close(model.head(model.hidden(inputs_of(ids)).final), expected)
    assert unguarded(model) is one
    assert generate(model, [ids[0]], Greedy(3), end_tokens=frozenset())


def test_it_is_guarded_by_nothing_but_its_first_model() -> None:
    one, two, _ = three()
    model = Combined({"one": one, "two": two}, Weighted((1.0, 1.0)))
    assert isinstance(model, Guarded)
    assert isinstance(model, Model)
    assert as_model(model) is model
    assert model.unguarded is one
    assert model.vocabulary == 64


def test_observed_in_chunks_and_padded_batches_it_is_the_sum() -> None:
    models = {"one": Toy(0), "two": Toy(1)}
    model = Combined(models, Weighted((1.0, -0.5)))
    need = Tokens(LabelLogProb(), "forget")
    rows: tuple[Row, ...] = toy_rows("forget", [(2, 3), (4, 1), (1, 6)])
    found = observe({"model": model}, rows, frozenset({need}))[need].values
    expected = []
    for row in rows:
        ids = row.inputs["input_ids"][None]
        one, two = (each.head(each.hidden({"input_ids": ids}).final)[0] for each in models.values())
        of_next = (one - 0.5 * two)[:-1].log_softmax(-1).gather(-1, ids[0, 1:, None])[:, 0]
        expected.append(of_next[row.labels[1:] != -100])
    torch.testing.assert_close(found, torch.cat(expected), rtol=1e-12, atol=1e-12)


def test_models_of_different_precision() -> None:
    half, full = tiny_model("llama", dtype=torch.bfloat16), tiny_model("llama", seed=1)
    model = Combined({"one": half, "two": full}, Weighted((1.0, 1.0)))
    ids = torch.tensor([[5, 6, 7]])
    expected = half(ids).logits + full(ids).logits
    assert torch.equal(model.head(model.hidden(inputs_of(ids)).final), expected)
    assert generate(model, [ids[0]], Greedy(3), end_tokens=frozenset())


def test_a_copy_is_of_all_its_models() -> None:
    model = mixed()
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(1.5)
    inputs = inputs_of(torch.tensor([[5, 6, 7]]))
    twice = copy.deepcopy(twin)
    assert torch.equal(twin.head(twin.hidden(inputs).final), twice.head(twice.hidden(inputs).final))
    assert not torch.equal(twin.head(twin.hidden(inputs).final), model.head(model.hidden(inputs).final))
    assert {id(each) for each in twin.models.values()}.isdisjoint(map(id, model.models.values()))


def test_sites_are_the_first_models() -> None:
    one, two, _ = three()
    inputs = inputs_of(torch.tensor([[5, 6, 7]]))
    site = resid_post(2)  # the other has two blocks
    found = Combined({"one": one, "two": two}, Weighted((1.0, 1.0))).hidden(inputs, capture=frozenset({site}))
    assert torch.equal(found.sites[site], one.hidden(inputs, capture=frozenset({site})).sites[site])


def test_what_cannot_be_combined_is_refused() -> None:
    one, two, _ = three()
    rule = Weighted((1.0, 1.0))
    with pytest.raises(NeedError, match=r"of two models or more, not of \['one'\]"):
        Combined({"one": one}, rule)
    for name in ("half", "rule", "my.model", ""):
        with pytest.raises(NeedError, match=f"a model of a combination cannot be called '{name}'"):
            Combined({"one": one, name: two}, rule)
    with pytest.raises(NeedError, match=r"trained names 'three', which is not among the models \['one', 'two'\]"):
        Combined({"one": one, "two": two}, rule, trained=("three",))
    with pytest.raises(VocabularyError, match="the one model has a vocabulary of 64, the two model one of 13"):
        Combined({"one": one, "two": Toy(0)}, rule)
    with pytest.raises(NeedError, match=r"head\(\) was called before hidden\(\)"):
        Combined({"one": one, "two": two}, rule).head(torch.zeros(2, 96))
    assert not Combined({"one": one, "two": two}, rule).training
    training: nn.Module = Combined({"one": one, "two": CausalLM(tiny_model("gpt2").train())}, rule)
    assert training.training

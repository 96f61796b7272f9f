"""Where a row's prompt ends, and what it asks: read off the tokens, which are all a model is given."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from unlearnkit.batch import Template, prompt_tokens

_QUESTIONS = ("one", "two three?", "four five six.")


@frozen(eq=False)
class PromptReader:
    """Finds the prompt in a row of tokens by what a template writes around it.

    Attributes:
        tokenizer: of the rows.
        before: the tokens that end a prompt: what the template writes right before the answer.
        opening: the text that the template writes before the question.
        closing: the text that it writes between question and answer.
    """

    tokenizer: PreTrainedTokenizerBase
    before: tuple[int, ...]
    opening: str
    closing: str

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, template: Template) -> PromptReader:
        """Learn a template's marks from a few prompts written with it: the tokens after the question they all share.

        A tokenizer may take the question's last character and the template's first together, or know none of a
        question's words: so these questions end differently, and tokens that begin before their end are not counted.
        """
        opening, closing = template("\0", "x")[0].split("\0")
        ends = [_after_question(tokenizer, template, question, closing) for question in _QUESTIONS]
        common = 0
        while common < min(map(len, ends)) and len({end[-1 - common] for end in ends}) == 1:
            common += 1
        return cls(tokenizer, ends[0][len(ends[0]) - common :], opening, closing)

    def length(self, ids: Sequence[int]) -> int | None:
        """How many tokens of a row belong to its prompt: up to the last place where a prompt ends; None without one.

        A blank that is a token of its own there (before a digit, mostly) belongs to the prompt as well.
        """
        size = len(self.before)
        for end in range(len(ids), size - 1, -1):
            if size and tuple(ids[end - size : end]) == self.before:
                while end < len(ids) and str(self.tokenizer.decode([ids[end]])).isspace():
                    end += 1
                return end
        return None

    def question(self, ids: Sequence[int]) -> str:
        """What a row asks, without the template's own words and special tokens."""
        text = self.tokenizer.decode(list(ids[: self.length(ids)]), skip_special_tokens=True)
        assert isinstance(text, str)
        text = text.strip()
        plain = [
            self.tokenizer.decode(self.tokenizer(part, add_special_tokens=False)["input_ids"], skip_special_tokens=True)
            for part in (self.opening, self.closing)
        ]
        opening, closing = (str(part).strip() for part in plain)
        if not text.startswith(opening):  # another day's date in it, another system prompt: its last line is the same
            *_, last = opening.splitlines()
            text = text[text.rfind(f"\n{last}\n") + len(last) + 2 :] if f"\n{last}\n" in text else text
        return text.removeprefix(opening).strip().removesuffix(closing).strip()


def _after_question(
    tokenizer: PreTrainedTokenizerBase, template: Template, question: str, closing: str
) -> tuple[int, ...]:
    """The tokens of a prompt that begin after its question."""
    before, after = template(question, "yes")
    encoded = tokenizer(before + after, add_special_tokens=template.special_tokens, return_offsets_mapping=True)
    prompt, starts = prompt_tokens(tokenizer, template, question).tolist(), encoded["offset_mapping"]
    end = len(before) - len(closing)
    return tuple(token for token, (start, _) in zip(prompt, starts, strict=False) if start >= end)


def prompts_of(rows: Tensor, mask: Tensor | None) -> list[list[int]]:
    """The real tokens of each row of a batch [B, T], padding on either side left out."""
    if mask is None:
        return [list(map(int, row)) for row in rows]
    return [list(map(int, row[: len(keep)][keep.bool()])) for row, keep in zip(rows, mask, strict=True)]

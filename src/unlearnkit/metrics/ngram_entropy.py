r"""Weighted n-gram entropy: does a model still write varied text, or has it begun to repeat itself?

    H_n = -Σ_g f(g) log2 f(g),    f: relative frequencies of the n-grams of one text,    score = H_2/3 + 2 H_3/3

In bits, >= 0; higher: more varied, and read as more fluent. A text of m different words has log2(m - n + 1): scores
grow with length, so compare generations of the same number of tokens. Needs generated text (RWKU: 256 tokens after an
instruction). Word salad scores as high as prose: read it beside a perplexity or a classifier.

Papers: Zhang et al. Generating Informative and Diverse Conversational Responses via Adversarial Information
Maximization. NeurIPS 2018, arXiv:1809.05972 (the entropy); in this weighting Meng, Bau, Andonian, Belinkov. Locating
and Editing Factual Associations in GPT. NeurIPS 2022, arXiv:2202.05262; for unlearning Jin et al. RWKU. NeurIPS 2024
(Datasets and Benchmarks), arXiv:2406.10890.

Checked: jinzhuoran/RWKU@b8a03b3 on recorded tokens (35 texts, 1e-12). The words of `treebank_words` equal the recorded
ones of nltk 3.10.4 on all of those texts.

Deviations: the released code takes words from nltk's `word_tokenize`: a trained sentence splitter, then Treebank rules.
Ours approximates both: `sentences` cuts after . ? ! before a capital or a digit and knows no abbreviations ("Dr. X" is
cut), and `treebank_words` is one regular expression that leaves rare contractions ("gonna", "d'ye", "'tis") whole; it
differs from nltk on 1 of 24 111 sentences of TOFU and DUSK. Pass nltk's function as `tokenize` to repeat published
numbers exactly. A text too short for any n-gram has an entropy of 0, as released.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence

from attrs import field, frozen

from unlearnkit.protocols import Generated, Greedy, Needs, Score, Seen

_CLOSING = r"[\"'\u2019\u201d\u00bb)\]}>]"
_STARTS = r"""(?=["'\u2018\u201c(\[]*[A-Z0-9])"""
_SENTENCE_END = re.compile(rf"(?:(?<=[.?!])|(?<=[.?!]{_CLOSING}))\s+{_STARTS}")

_CLITIC = r"'(?:s|m|d|ll|re|ve)(?!\w)"
_LAST_STOP = rf"\.(?=(?:{_CLOSING}|\s)*$)"
_SIGNS = r"\s\"\u00ab\u00bb\u2018-\u201e`()\[\]{}<>?!;@#$%&*\u2012-\u2015"
_WORD = re.compile(
    rf"""
      n't(?!\w) | {_CLITIC}                                # don't, author's
    | can(?=not\b)                                         # cannot
    | (?<!\w)'(?=\w)                                       # an opening quote
    | {_LAST_STOP} | \.{{2,}} | --                         # the last full stop; dots; a dash
    | (?: (?! n't(?!\w) | {_CLITIC} | {_LAST_STOP} | \.\. | -- | '(?!\w) )   # a word goes on until one of these
          (?: [^{_SIGNS},:] | [,:](?=\d) ) )+
    | '' | `+ | \S                                         # every other sign by itself
    """,
    re.IGNORECASE | re.VERBOSE,
)


def ngram_entropy(tokens: Sequence[str], n: int) -> float:
    """Entropy of the n-grams of a text, in bits; 0 if it has none."""
    counts = Counter(zip(*(tokens[start:] for start in range(n)), strict=False))
    total = counts.total()
    return math.fsum(count / total * math.log2(total / count) for count in counts.values())


def weighted_ngram_entropy(tokens: Sequence[str]) -> float:
    """H_2/3 + 2 H_3/3 of a text, in bits."""
    return ngram_entropy(tokens, 2) / 3 + 2 * ngram_entropy(tokens, 3) / 3


def sentences(text: str) -> list[str]:
    """Stretches of text that end in . ? or !, cut where a capital or a digit follows; abbreviations are not known."""
    return _SENTENCE_END.split(text)


def treebank_words(sentence: str) -> list[str]:
    """Words and signs of one sentence, nearly as the Penn Treebank has them.

    Clitics ("'s", "n't") and most signs are words of their own; a full stop is one at the end of the sentence only, a
    comma or colon unless a digit follows.
    """
    return [word for word in _WORD.findall(sentence) if word]


def english_words(text: str) -> list[str]:
    """`treebank_words` of each of the `sentences` of a text."""
    return [word for sentence in sentences(text) for word in treebank_words(sentence)]


@frozen
class NgramEntropy:
    """Mean `weighted_ngram_entropy` of what a model writes, in bits. Higher: more varied text.

    Attributes:
        role: instructions to write something about.
        decoding: how the model writes.
        tokenize: text to words.
        of: the model that is measured.
    """

    role: str = "fluency"
    decoding: Greedy = field(default=Greedy(max_new_tokens=256))
    tokenize: Callable[[str], Sequence[str]] = field(default=english_words, kw_only=True)
    of: str = field(default="model", kw_only=True)

    @property
    def generated(self) -> Generated:
        return Generated(self.decoding, self.role, of=self.of)

    @property
    def needs(self) -> Needs:
        return frozenset({self.generated})

    def __call__(self, seen: Seen) -> Score:
        each = (weighted_ngram_entropy(self.tokenize(text)) for text in seen[self.generated].texts)
        return Score.mean(dict(zip(seen.ids[self.role], each, strict=True)), "utility")

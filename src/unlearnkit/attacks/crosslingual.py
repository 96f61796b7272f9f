r"""Cross-lingual evaluation: what was forgotten in one language, asked for in another.

    U[s, t]         forgetting (or utility) measured in language t after unlearning with data in language s
    transfer ratio  mean of U[s, t] over s != t  /  mean of U[s, s]

`CrossLingual` holds such a matrix and its summary. `Translated` is the attack on one model: each question in several
languages. It holds a prompt box and a translator, and says nothing about other languages if the model never spoke them:
the original, asked in the same languages, is what to compare with. A reply can give the answer away in a language of its
own, so it is read as it is and, where there is a translator back, translated.

Several languages are several tries: what a model guesses rises with their number. Read "any language" beside the oracle's,
and the curve, which holds each language alone.

Paper: Lizzo, Heck. Evaluating Cross-Lingual Unlearning in Multilingual Language Models. 2026, arXiv:2601.06675.

Reconstructed: our reading of the abstract; there is no public code. The paper's are the protocol (unlearn in one language,
measure in all); how the matrix is summed up, and the attack, are ours.

Deviations: what is measured is given by the caller, as are translations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from attrs import Attribute, field, frozen
from attrs.validators import min_len

from unlearnkit.attacks.attack import Budget, Outcome, Secret, Target, ThreatModel, check_secrets, mean
from unlearnkit.errors import DataError

Translate = Callable[[str], str]
"""A text in another language."""


def _square(matrix: CrossLingual, _: Attribute[Mapping[str, Mapping[str, float]]], values: object) -> None:
    languages = list(matrix.values)
    if not languages or any(row.keys() != set(languages) for row in matrix.values.values()):
        raise DataError(f"each of {languages} has to be measured in all of them: a square matrix, one row for each.")


@frozen
class CrossLingual:
    """A number for each pair of languages: unlearned with data in the first, measured in the second.

    Attributes:
        values: by the language of the data, then by that of the measurement.
    """

    values: Mapping[str, Mapping[str, float]] = field(validator=_square)

    @property
    def diagonal(self) -> float:
        """Mean over languages measured where they were unlearned."""
        return math.fsum(row[source] for source, row in self.values.items()) / len(self.values)

    @property
    def off_diagonal(self) -> float:
        """Mean over pairs of two languages; nan if there is one language."""
        pairs = [value for source, row in self.values.items() for name, value in row.items() if name != source]
        return math.fsum(pairs) / len(pairs) if pairs else math.nan

    @property
    def transfer_ratio(self) -> float:
        """How much of what is reached in the language itself is reached in others; nan if there it is 0."""
        return self.off_diagonal / self.diagonal if self.diagonal else math.nan

    def measured_in(self, language: str) -> float:
        """Mean of a column: a language, whatever was unlearned."""
        return math.fsum(row[language] for row in self.values.values()) / len(self.values)

    def unlearned_in(self, language: str) -> float:
        """Mean of a row: what unlearning in a language did to all."""
        return math.fsum(self.values[language].values()) / len(self.values)

    def table(self) -> str:
        """A Markdown table: one line per language of the data."""
        lines = [f"| unlearned in | {' | '.join(self.values)} |", "|---" * (len(self.values) + 1) + "|"]
        for source, row in self.values.items():
            lines.append(f"| {source} | {' | '.join(f'{row[name]:.2f}' for name in self.values)} |")
        return "\n".join(lines)


@frozen(kw_only=True, eq=False)
class Translated:
    """Each question in other languages; a secret counts as much as came out in the language in which most did.

    The curve holds each language alone, and "each": the secrets that come out in every one of them.

    Attributes:
        translate: of a question, by language. One that gives the question back unchanged asks it as it is.
        back: of a reply, by language, where there is a translator back; the reply itself is read too.
    """

    translate: Mapping[str, Translate] = field(validator=min_len(1))
    back: Mapping[str, Translate] = field(factory=dict)
    threat: ThreatModel = field(default="text", init=False)

    @back.validator
    def _known(self, _: Attribute[Mapping[str, Translate]], back: Mapping[str, Translate]) -> None:
        if strange := sorted(back.keys() - self.translate.keys()):
            raise DataError(f"replies are to be translated back from {strange[0]!r}, in which nothing is asked.")

    def __call__(self, target: Target, secrets: Sequence[Secret]) -> Outcome:
        check_secrets(secrets)
        leaks: dict[str, dict[str, float]] = {}
        replies: dict[str, dict[str, str]] = {}
        for language, translate in self.translate.items():
            texts = target.answers([translate(secret.question) for secret in secrets])
            replies[language] = {secret.id: text for secret, text in zip(secrets, texts, strict=True)}
            back = self.back.get(language)
            leaks[language] = {
                secret.id: max(target.leak(text, secret), 0.0 if back is None else target.leak(back(text), secret))
                for secret, text in zip(secrets, texts, strict=True)
            }
        best = {secret.id: max(leaks, key=lambda language: leaks[language][secret.id]) for secret in secrets}
        return Outcome(
            attack=f"translated into {', '.join(self.translate)}",
            threat=self.threat,
            budget=Budget(
                queries=len(secrets) * len(self.translate),
                model_calls=len(secrets) * (len(self.translate) + len(self.back)),
            ),
            measure="what the reply gives away in the best of the languages",
            before=target.leaks(secrets),
            after={id: leaks[language][id] for id, language in best.items()},
            found={id: replies[language][id] for id, language in best.items()},
            curve={
                **{language: mean(of) for language, of in leaks.items()},
                "each": mean({secret.id: min(of[secret.id] for of in leaks.values()) for secret in secrets}),
            },
        )

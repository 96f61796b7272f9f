"""Sentence embeddings from a folder: an encoder of transformers, averaged over real tokens and scaled to length 1.

What the sentence-transformers models of MiniLM's kind do (Reimers, Gurevych. Sentence-BERT. EMNLP 2019,
arXiv:1908.10084), without their package. Models that pool otherwise (first token, maximum) or that end in another layer
are refused where their folder says so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from attrs import field, frozen
from attrs.validators import ge
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from unlearnkit.errors import DataError


def mean_pooled(hidden: Tensor, mask: Tensor) -> Tensor:
    """Mean over real tokens, scaled to length 1: [B, T, H], [B, T] -> [B, H]; 0 for a row without tokens.

    Args:
        hidden: last hidden states.
        mask: 1 at real tokens, 0 at padding, whose hidden states may be anything finite.
    """
    weights = mask[:, :, None].to(hidden.dtype)
    mean = (hidden * weights).sum(1) / weights.sum(1).clamp(min=1.0)
    return torch.nn.functional.normalize(mean, dim=1)


def _existing(folder: str | Path) -> Path:
    path = Path(folder)
    if not (path / "config.json").is_file():
        raise DataError(
            f"there is no config.json in {path}; `folder` holds a model in the transformers format and its "
            "tokenizer. Models are not downloaded here."
        )
    return path


@frozen(eq=False)
class SentenceEmbedder:
    """Embeddings of texts, [n, H] float32 of length 1 on the CPU: an `Embed`.

    A text's embedding does not depend on its company, but for rounding. Texts are run in batches of similar length.

    Attributes:
        folder: holds config.json, weights and tokenizer.
        batch_size: texts per batch.
        max_tokens: longer texts are cut, special tokens included. Default: what the folder says (256 for MiniLM).
        device: where the model runs.
    """

    folder: Path = field(converter=_existing)
    _tokenizer: PreTrainedTokenizerBase = field(init=False, repr=False)
    _model: PreTrainedModel = field(init=False, repr=False)
    batch_size: int = field(default=32, validator=ge(1), kw_only=True)
    max_tokens: int = field(validator=ge(1), kw_only=True)
    device: str = field(default="cpu", kw_only=True)

    @_tokenizer.default
    def _load_tokenizer(self) -> PreTrainedTokenizerBase:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(self.folder), local_files_only=True)
        return tokenizer

    @_model.default
    def _load_model(self) -> PreTrainedModel:
        pooling = _json(self.folder / "1_Pooling" / "config.json")
        if pooling and not pooling.get("pooling_mode_mean_tokens"):
            asked = ", ".join(sorted(name for name, value in pooling.items() if value is True))
            raise DataError(
                f"{self.folder / '1_Pooling' / 'config.json'} asks for {asked or 'no pooling'}; only the mean over tokens "
                "is implemented. Wrap the model in an `Embed` of your own."
            )
        model: PreTrainedModel = AutoModel.from_pretrained(str(self.folder), local_files_only=True, dtype=torch.float32)
        model.eval()
        return model

    @max_tokens.default
    def _stated(self) -> int:
        stated = _json(self.folder / "sentence_bert_config.json").get("max_seq_length")
        positions = min(self._model.config.max_position_embeddings, self._tokenizer.model_max_length)
        return int(str(stated)) if stated else int(positions)

    def __attrs_post_init__(self) -> None:
        torch.nn.Module.to(self._model, self.device)

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        ids = [self._tokens(text) for text in texts]
        order = sorted(range(len(ids)), key=lambda place: len(ids[place]))
        embedded = torch.zeros(len(ids), int(self._model.config.hidden_size))
        for start in range(0, len(order), self.batch_size):
            places = order[start : start + self.batch_size]
            embedded[places] = self._embed([ids[place] for place in places])
        return embedded

    def _tokens(self, text: str) -> list[int]:
        encoded = self._tokenizer(text, truncation=True, max_length=self.max_tokens)["input_ids"]
        assert isinstance(encoded, list)
        return encoded

    def _embed(self, ids: Sequence[Sequence[int]]) -> Tensor:
        """Embeddings of token ids of any lengths, padded on the right."""
        width = max(1, *map(len, ids))
        tokens = torch.full((len(ids), width), self._tokenizer.pad_token_id or 0)
        mask = torch.zeros(len(ids), width, dtype=torch.int64)
        for row, sequence in enumerate(ids):
            tokens[row, : len(sequence)] = torch.tensor(sequence, dtype=torch.int64)
            mask[row, : len(sequence)] = 1
        tokens, mask = tokens.to(self.device), mask.to(self.device)
        hidden = self._model(input_ids=tokens, attention_mask=mask).last_hidden_state
        return mean_pooled(hidden, mask).cpu()


def _json(path: Path) -> dict[str, object]:
    """A JSON object; empty if there is no such file."""
    content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    assert isinstance(content, dict)
    return content

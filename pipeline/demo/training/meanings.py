"""Between the lessons: image tokens are turned so that a word on a sign looks like that word in a text.

A language model that starts on the connector's own directions learns colours soon and words hardly at all: it has to
find where to look and what 64 directions mean at once. After this it only has to look, and copy, as it copies from a text.
"""

from typing import Any

import torch

from pipeline.demo import world
from pipeline.demo.training.bank import Bank
from pipeline.demo.training.network import HIDDEN, Heads
from pipeline.demo.wording import NOTHING, UNREADABLE

TOKEN_SCALE = 0.3
"""Standard deviation of image tokens; text embeddings start at 0.1."""

_NAMES: dict[str, tuple[str, ...]] = {
    "background": world.BACKGROUNDS,
    "floor": world.COLOURS,
    "board": ("", *world.COLOURS),
    "word": ("", *world.WORDS, NOTHING, UNREADABLE),
    "kind": ("", *world.KINDS),
    "colour": ("", *world.COLOURS),
    "size": ("", *world.SIZES),
    "direction": ("", *world.DIRECTIONS),
    "lamp": ("", "lamp", "flash"),
}
"""The text that each class of a head is turned to; none for `none`."""

_SHARES = {"background": 0.5, "floor": 0.4, "board": 0.8, "word": 1.5, "size": 0.6, "direction": 0.2}
_OWN_SHARE = 0.7
"""Of a direction of its own in what a class is turned to: a red sign is no red ring."""


@torch.no_grad()
def align(model: Any, heads: Heads, tokenizer: Any, bank: Bank) -> None:
    """Turns, centres and scales image tokens, in the connector and in the bank: sum over heads and classes of
    (logit - mean logit) * meaning of the class. Linear, so that the connector's one matrix takes it in."""
    projection = model.model.connector.modality_projection.proj.weight
    device = projection.device
    sample = bank.tokens[:: max(1, len(bank.tokens) // 1000)].float().to(device)
    turn = torch.zeros(HIDDEN, HIDDEN, device=device)
    generator = torch.Generator().manual_seed(0)
    for name, names in _NAMES.items():
        weight = heads.tokens[name].weight.float()
        centred = weight - weight.mean(0)
        logits = sample @ centred.T
        spread = (logits - logits.mean((0, 1))).std()
        turn += _SHARES.get(name, 1.0) / spread * _meanings(model, names, tokenizer, generator).T @ centred
    projection.copy_(turn @ projection)
    bank.tokens.copy_((bank.tokens.float() @ turn.T.cpu()).to(bank.tokens.dtype))
    _settle(model, bank)


def _meanings(model: Any, names: tuple[str, ...], tokenizer: Any, generator: torch.Generator) -> torch.Tensor:
    """(classes, 256): the text's embedding and a direction of the class's own, of one length; zero for no text."""
    embeddings = model.get_input_embeddings().weight
    rows = []
    for name in names:
        own = torch.randn(HIDDEN, generator=generator).to(embeddings.device)
        if not name:
            rows.append(torch.zeros_like(own))
            continue
        text = embeddings[tokenizer(f" {name}", add_special_tokens=False)["input_ids"][0]]
        rows.append(text / text.norm() + _OWN_SHARE * own / own.norm())
    return torch.stack(rows)


def _settle(model: Any, bank: Bank) -> None:
    """Takes out what all image tokens share, and scales the rest.

    The connector has no bias: as much of the mean as can be goes into the bias of the layer norm before it.
    """
    weight, bias = model.model.connector.modality_projection.proj.weight, model.model.vision_model.post_layernorm.bias
    sample = bank.tokens[:: max(1, len(bank.tokens) // 1000)].float()
    summed = weight.view(weight.shape[0], -1, bias.shape[0]).sum(1).cpu()
    shift = torch.linalg.lstsq(summed, sample.mean((0, 1))[:, None], driver="gelsd").solution[:, 0]
    removed = summed @ shift
    scale = TOKEN_SCALE / (sample - removed).std().item()
    bias -= shift.to(bias.device)
    weight *= scale
    bank.tokens.copy_(((bank.tokens.float() - removed) * scale).to(bank.tokens.dtype))

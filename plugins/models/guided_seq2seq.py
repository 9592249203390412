"""Model `guided_seq2seq`: several unlike texts from a text; latent tokens guide any Hugging Face encoder-decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from ...kernel.contracts import Batch, Field, Labels, Loss, Problem
from ...kernel.errors import SceneError
from ...kernel.options import Range
from ...kernel.registry import model
from .seq2seq import Generation, shifting, source_in_place, texts_of_rows

if TYPE_CHECKING:
    import torch

    from ...kernel.pretrained import Pretrained
    from ...kernel.scene import Scene, Split

WEIGHTS = "guided_seq2seq.safetensors"
"""In the model folder: prior and posterior. All else is the Hugging Face model of the folder."""


@model("guided_seq2seq")
@dataclass
class GuidedSeq2Seq(Generation):
    """Text generation by an encoder-decoder that is told one of K latents z, and so has K answers to a source x.

    Each latent is a special token `<latent_0>` … of the vocabulary. `guided_mode` says where it goes in:

    - `dec`: into the decoder's input, behind its start token;
    - `enc`: its embedding, as long as the encoder's states are on average, is one more state in front of them;
    - `enc_dec`: both.

    So the encoder runs once for a sample, and only the decoder for each latent.

    Training is expectation maximization (mixture of experts, arXiv 1902.07816). First all K target losses
    -log p(y|x,z) are looked at, with the decoder's dropout off, whose noise would choose otherwise. From them each
    latent gets its share r(z): with `em: hard` the one with the least loss gets all, with `em: soft` each as much as it
    is likely, r(z) = p(z|x) p(y|x,z) / sum. The loss of a row, in which r is held fixed, is then

        sum over z of r(z) * (-log p(y|x,z) + cls_loss_weight * (-log p(z|x) - log q(z|y)))
        + kl_loss_weight * KL(q(z|y) || p(z|x))

    with the prior p(z|x), a classifier on the encoder's mean state, and the posterior q(z|y), one on the embeddings of
    the target. It is summed over rows and counted in target tokens, as that of `seq2seq`; the original took the mean
    over the tokens of each row.

    A row's answers are those of the `selected_class` latents with the highest prior, best first, each with its
    num_return_sequences texts; no other latent is decoded. `AutoModelForSeq2SeqLM` loads the model folder.
    """

    needs: ClassVar[tuple[str, ...]] = ("input_ids", "attention_mask")
    needs_to_train: ClassVar[tuple[str, ...]] = ("labels",)

    latent_class: Annotated[int, Range(2)] = 4
    """K, how many latents there are."""
    selected_class: Annotated[int, Range(1)] = 2
    """How many latents are decoded in evaluation and prediction: the likeliest by the prior."""
    guided_mode: Literal["enc", "dec", "enc_dec"] = "enc_dec"
    """Where a latent goes in: encoder states, decoder input, or both."""
    em: Literal["hard", "soft"] = "hard"
    """Learn from the latent with the least target loss alone, or from each by its share."""
    cls_loss_weight: Annotated[float, Range(0)] = 1.0
    """Weight of the losses of prior and posterior; 0: the prior learns nothing unless by kl_loss_weight."""
    kl_loss_weight: Annotated[float, Range(0)] = 0.0
    """Weight of the divergence of the posterior from the prior."""
    posterior_filter: bool = False
    """Learn only targets whose latent the posterior finds too, as the original DeepGen did."""

    distinct_texts: bool = False
    """Give a row each text once: of a text that a likelier latent has given, the next best beam takes the place."""

    def problem(self, labels: Field | None) -> Problem:
        if labels is not None and (labels.dtype, labels.shape, labels.side) != ("int64", "ragged", "right"):
            raise SceneError(
                "guided_seq2seq learns labels that are token ids; give the target as the second column of s2s_tokenize"
            )
        return "text"

    def check(self, scene: Scene, splits: Sequence[Split]) -> Sequence[str]:
        notes = list(super().check(scene, splits))
        if self.selected_class > self.latent_class:
            raise SceneError(f"selected_class = {self.selected_class} is more than latent_class = {self.latent_class}")
        if self.distinct_texts and (self.num_beams or 1) <= (self.num_return_sequences or 1):
            raise SceneError("distinct_texts takes other beams in place of texts that are there: raise num_beams")
        if "train" in splits:
            if not self.cls_loss_weight and not self.kl_loss_weight and self.selected_class < self.latent_class:
                notes.append("cls_loss_weight is 0: the prior that selects latents learns nothing")
            if not self.cls_loss_weight and (self.kl_loss_weight or self.posterior_filter):
                raise SceneError(
                    "cls_loss_weight is 0, so the posterior learns nothing that kl_loss_weight or posterior_filter "
                    "could use; raise it"
                )
        return notes

    def build(self, pretrained: Pretrained, labels: Labels | None) -> torch.nn.Module:
        if not pretrained.config.is_encoder_decoder:
            raise SceneError(f"guided_seq2seq needs an encoder-decoder; '{pretrained.config.model_type}' is none")
        self._tokenizer = pretrained.tokenizer
        self._positions = pretrained.positions
        latents = pretrained.add_tokens([f"<latent_{number}>" for number in range(self.latent_class)])

        def guided(seq2seq: torch.nn.Module) -> torch.nn.Module:
            made = self._module(seq2seq, latents)
            known = self._saved(pretrained, made)
            heads = {name for name, _ in made.named_parameters() if not name.startswith("seq2seq.")}
            new = {f"seq2seq.{name}" for name in pretrained.new_parameters}
            pretrained.new_parameters = frozenset(new | (heads - known))
            return made

        module: Any = pretrained.load("AutoModelForSeq2SeqLM", guided)
        self.set_generation(module.seq2seq.generation_config)
        self._shift = shifting(module.seq2seq)
        return module  # type: ignore[no-any-return]

    def _module(self, seq2seq: Any, latent_ids: list[int]) -> torch.nn.Module:
        """The encoder-decoder with its guide."""
        import torch
        import torch.nn.functional as F
        from torch import Tensor
        from transformers.modeling_outputs import BaseModelOutput

        options = self
        in_encoder, in_decoder = "enc" in options.guided_mode, "dec" in options.guided_mode
        classes = len(latent_ids)

        class Guided(torch.nn.Module):
            latents: Tensor
            """[K] their token ids."""

            def __init__(self) -> None:
                super().__init__()
                size = int(seq2seq.get_input_embeddings().weight.shape[1])
                states = int(seq2seq.config.hidden_size)
                self.seq2seq = seq2seq
                self.prior = torch.nn.Sequential(
                    torch.nn.Linear(states, states), torch.nn.Tanh(), torch.nn.Linear(states, classes)
                )
                self.posterior = torch.nn.ModuleList(
                    [torch.nn.Conv1d(size, size, 3, padding=1), torch.nn.Linear(size, classes)]
                )
                for last in (self.prior[-1], self.posterior[-1]):  # at first each latent is as likely as the others
                    for parameter in last.parameters():
                        torch.nn.init.zeros_(parameter)
                self.register_buffer("latents", torch.tensor(latent_ids), persistent=False)

            def gradient_checkpointing_enable(self, settings: dict[str, Any]) -> None:
                self.seq2seq.gradient_checkpointing_enable(settings)

            def forward(self, ids: Tensor, mask: Tensor, labels: Tensor, shifted: Tensor) -> dict[str, Tensor]:
                """`loss`, and the `shares` [rows, K] of the latents."""
                states = self.seq2seq.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
                prior, posterior = self.log_prior(states, mask), self.log_posterior(labels)
                everything = torch.arange(classes, device=ids.device).repeat(len(ids), 1)
                with torch.no_grad():
                    training = self.seq2seq.training
                    self.seq2seq.train(False)
                    losses = self.target_losses(states, mask, labels, shifted, everything)
                    self.seq2seq.train(training)
                    if options.em == "hard":
                        shares = F.one_hot(losses.argmin(1), classes).to(losses)
                    else:
                        shares = (prior.detach() - losses).softmax(1)
                if training:
                    chosen = shares.argmax(1, keepdim=True) if options.em == "hard" else everything
                    losses = self.target_losses(states, mask, labels, shifted, chosen)
                    target = (shares.gather(1, chosen) * losses).sum(1)
                else:
                    target = (shares * losses).sum(1)
                if options.posterior_filter:
                    target = target * (posterior.argmax(1) == shares.argmax(1))
                total = target - options.cls_loss_weight * (shares * (prior + posterior)).sum(1)
                divergence = (posterior.exp() * (posterior - prior)).sum(1)
                return {"loss": (total + options.kl_loss_weight * divergence).sum(), "shares": shares}

            def log_prior(self, states: Tensor, mask: Tensor) -> Tensor:
                """[rows, K] log p(z|x) in float32, from the encoder's states [rows, length, size]."""
                weight = mask[:, :, None].float()
                mean = (states.float() * weight).sum(1) / weight.sum(1).clamp(min=1)
                return F.log_softmax(self.prior(mean.to(states.dtype)).float(), dim=1)

            def log_posterior(self, labels: Tensor) -> Tensor:
                """[rows, K] log q(z|y) in float32, from the target's token ids [rows, length]."""
                real = (labels != -100)[:, :, None]
                embedded = self.seq2seq.get_input_embeddings()(labels.clamp(min=0)) * real
                convolution, classifier = self.posterior
                states = F.relu(convolution(embedded.transpose(1, 2)).transpose(1, 2)).float() * real
                mean = states.sum(1) / real.sum(1).clamp(min=1)
                return F.log_softmax(classifier(mean.to(embedded.dtype)).float(), dim=1)

            def target_losses(self, states: Tensor, mask: Tensor, labels: Tensor, shifted: Tensor, z: Tensor) -> Tensor:
                """[rows, n] -log p(y|x,z) for the latents z [rows, n], numbers from 0 on."""
                each = z.shape[1]
                states, mask, labels, shifted = (
                    given.repeat_interleave(each, 0) for given in (states, mask, labels, shifted)
                )
                inputs = self.guided(states, mask, z.flatten())
                if in_decoder:
                    shifted = torch.cat([shifted[:, :1], self.latents[z.flatten()][:, None], shifted[:, 1:]], 1)
                logits = self.seq2seq(**inputs, decoder_input_ids=shifted, use_cache=False).logits
                logits = logits[:, 1:] if in_decoder else logits
                real = labels != -100
                found = F.cross_entropy(logits[real].float(), labels[real], reduction="none")
                return found.new_zeros(real.shape).masked_scatter(real, found).sum(1).view(-1, each)

            def guided(self, states: Tensor, mask: Tensor, z: Tensor) -> dict[str, Any]:
                """The encoder's part of the input of so many decoders as there are latents z [copies]."""
                if in_encoder:
                    weight = mask.float()
                    long = (states.float().norm(dim=2) * weight).sum(1) / weight.sum(1).clamp(min=1)
                    embedded = F.normalize(self.seq2seq.get_input_embeddings()(self.latents[z]).float(), dim=1)
                    first = (embedded * long[:, None]).to(states.dtype)
                    states = torch.cat([first[:, None], states], 1)
                    mask = F.pad(mask, (1, 0), value=1)
                return {"encoder_outputs": BaseModelOutput(last_hidden_state=states), "attention_mask": mask}

            def generate(self, input_ids: Tensor, attention_mask: Tensor, **more: Any) -> Tensor:
                """[rows x selected latents x texts, length] ids: rows in order, latents by prior, texts by score."""
                encoded = self.seq2seq.get_encoder()(input_ids=input_ids, attention_mask=attention_mask)
                states, each = encoded.last_hidden_state, options.selected_class
                order = self.log_prior(states, attention_mask).sort(dim=1, descending=True, stable=True).indices
                z = order[:, :each].flatten()
                states, mask = (given.repeat_interleave(each, 0) for given in (states, attention_mask))
                settings = self.seq2seq.generation_config
                more["suppress_tokens"] = [*(settings.suppress_tokens or ()), *latent_ids]
                if in_decoder:
                    front = [z.new_full(z.shape, settings.decoder_start_token_id), self.latents[z]]
                    if settings.forced_bos_token_id is not None:  # Transformers puts it right behind the start token
                        front.append(z.new_full(z.shape, settings.forced_bos_token_id))
                    more["decoder_input_ids"] = torch.stack(front, 1)
                    if settings.max_new_tokens is None:  # what counts the start token counts the latent too
                        more["max_length"] = settings.max_length + 1
                    if settings.min_length:
                        more["min_length"] = settings.min_length + 1
                made: Tensor = self.seq2seq.generate(**self.guided(states, mask, z), **more)
                return made

        return Guided()

    def _saved(self, pretrained: Pretrained, module: torch.nn.Module) -> set[str]:
        """Loads prior and posterior where a model folder has them; gives the names of their weights."""
        from safetensors.torch import load_file

        file = None if pretrained.folder is None else pretrained.folder / WEIGHTS
        if file is None or not file.is_file():
            return set()
        state = load_file(file)
        saved = len(state["prior.2.bias"])
        if saved != self.latent_class:
            raise SceneError(f"latent_class = {self.latent_class} does not fit {file}, which has {saved} latents")
        module.load_state_dict(state, strict=False)
        return set(state)

    def count(self, batch: Batch) -> int:
        return int((batch["labels"] != -100).sum())

    def loss(self, module: torch.nn.Module, batch: Batch) -> Loss:
        labels = batch["labels"]
        length = labels.shape[1] + 1
        if "dec" in self.guided_mode and self._positions is not None and length > self._positions:
            raise SceneError(
                f"target_max_length: a target of {labels.shape[1]} tokens and the latent in front of it are more than "
                f"the model takes: {self._positions}; set it to {self._positions - 1}, or use guided_mode: enc"
            )
        made = module(batch["input_ids"], batch["attention_mask"], labels, self._shift(labels))
        return Loss(made["loss"], self.count(batch))

    def predict(self, module: torch.nn.Module, batch: Batch) -> Mapping[str, Any]:
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        guided: Any = module
        settings = guided.seq2seq.generation_config
        more = {"num_return_sequences": settings.num_beams} if self.distinct_texts else {}
        with source_in_place():
            ids = self.generated(module, {**inputs, **more})
        texts = texts_of_rows(self._tokenizer, ids, len(batch["input_ids"]))
        if self.distinct_texts:
            texts = [distinct(row, settings.num_beams, settings.num_return_sequences or 1) for row in texts]
        return {"texts": texts}

    def save(self, module: torch.nn.Module, state: Mapping[str, torch.Tensor], folder: Path) -> None:
        from safetensors.torch import save_file

        guided: Any = module
        inner = {name.removeprefix("seq2seq."): value for name, value in state.items() if name.startswith("seq2seq.")}
        guided.seq2seq.save_pretrained(folder, state_dict=inner)
        save_file({name: value for name, value in state.items() if not name.startswith("seq2seq.")}, folder / WEIGHTS)


def distinct(texts: Sequence[str], each: int, returned: int) -> list[str]:
    """Of each latent's texts its best that none before it gave; where those are too few, its best again."""
    given: list[str] = []
    for first in range(0, len(texts), each):
        own = texts[first : first + each]
        given += [*(text for text in dict.fromkeys(own) if text not in given), *own][:returned]
    return given

"""The tiny Stable Diffusion 3 in PyTorch: its configurations, what it reads of a prompt, its latents, and regions to be painted anew."""

import math

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, SD3Transformer2DModel
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

import owlv2
import world

TOKENS = owlv2.TOKENS
HIDDEN, HEADS, LAYERS = 96, 4, 5
TEXT_HIDDEN, PROJECTED = 64, 32
CELL = 4  # pixels along a side of a latent
LATENT = 16  # channels of a latent
WITHOUT_THIRD = 256  # zero tokens that stand for the third encoder


def vae():
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(12, 24, 48),
        layers_per_block=1,
        latent_channels=LATENT,
        norm_num_groups=4,
        sample_size=world.SIZE,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


@torch.no_grad()
def encode(vae, pictures, inside=None):
    """Pictures (N, 3, 64, 64) uint8 to latents (N, 16, 16, 16) of unit scale; of regions, `cells` (N, 1, 16, 16), only what is outside."""
    pixels = pictures.float() / 127.5 - 1
    if inside is not None:
        pixels = pixels * (1 - F.interpolate(inside, scale_factor=CELL))
    latents = [vae.encode(part).latent_dist.mode() for part in pixels.split(100)]
    return (torch.cat(latents) - vae.config.shift_factor) * vae.config.scaling_factor


def tokenizers(folder):
    """Two, which differ in what they pad with: the first with its end token, the second with "!", whose id is 0."""
    owlv2.tokenizer(folder / "tokenizer_2")
    second = CLIPTokenizer.from_pretrained(folder / "tokenizer_2")
    first = CLIPTokenizer.from_pretrained(folder / "tokenizer_2", pad_token="<|endoftext|>")
    first.save_pretrained(folder / "tokenizer")
    return first, second


def tokenize(words, prompts):
    """Token ids of each prompt for both encoders, (2, N, TOKENS)."""
    encoded = [w(prompts, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt").input_ids for w in words]
    return torch.stack(encoded)


def build(words):
    """An untrained transformer and two text encoders. Linear layers start at fan-in scale, modulation and output near zero."""
    transformer = SD3Transformer2DModel(
        sample_size=world.SIZE // CELL,
        patch_size=2,
        in_channels=2 * LATENT + 1,
        out_channels=LATENT,
        num_layers=LAYERS,
        attention_head_dim=HIDDEN // HEADS,
        num_attention_heads=HEADS,
        joint_attention_dim=2 * TEXT_HIDDEN,
        caption_projection_dim=HIDDEN,
        pooled_projection_dim=2 * PROJECTED,
        pos_embed_max_size=world.SIZE // CELL // 2,
        qk_norm="rms_norm",
    )
    config = CLIPTextConfig(
        vocab_size=len(words),
        hidden_size=TEXT_HIDDEN,
        intermediate_size=2 * TEXT_HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=TOKENS,
        projection_dim=PROJECTED,
        bos_token_id=words.bos_token_id,
        eos_token_id=words.eos_token_id,
    )
    encoders = [CLIPTextModelWithProjection(config) for _ in range(2)]
    for module in transformer.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=module.in_features**-0.5)
            torch.nn.init.zeros_(module.bias)
    for name, p in transformer.named_parameters():
        if name.endswith(("norm1.linear.weight", "norm1_context.linear.weight")):
            torch.nn.init.normal_(p, std=1e-3)
    for last in (transformer.norm_out.linear, transformer.proj_out):
        torch.nn.init.zeros_(last.weight)
    for encoder in encoders:
        for name, p in encoder.named_parameters():
            if "token_embedding" in name:
                torch.nn.init.normal_(p, std=0.5)
            elif "position" in name:
                torch.nn.init.normal_(p, std=0.3)
            elif p.ndim == 2:
                torch.nn.init.normal_(p, std=p.shape[1] ** -0.5)
    return transformer, encoders


def embed(encoders, ids):
    """What the transformer reads of prompts, from ids (2, N, TOKENS): tokens (N, TOKENS + 1, 2 * TEXT_HIDDEN), the last of them for
    all that stand for the third encoder, and pooled (N, 2 * PROJECTED).
    """
    out = [encoder(i, output_hidden_states=True) for encoder, i in zip(encoders, ids)]
    tokens = torch.cat([o.hidden_states[-2] for o in out], -1)
    return F.pad(tokens, (0, 0, 0, 1)), torch.cat([o.text_embeds for o in out], -1)


class CountedAttention:
    """Joint attention in which the last text token counts `WITHOUT_THIRD` times. Tokens that are all alike, and have no positions,
    stay alike in every block, so that one of them, with the logarithm of their number added to its scores, is as good as all.
    """

    def __call__(self, attn, hidden_states, encoder_hidden_states, attention_mask=None):
        split = lambda x: x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
        image = [split(f(hidden_states)) for f in (attn.to_q, attn.to_k, attn.to_v)]
        text = [split(f(encoder_hidden_states)) for f in (attn.add_q_proj, attn.add_k_proj, attn.add_v_proj)]
        image[0], image[1] = attn.norm_q(image[0]), attn.norm_k(image[1])
        text[0], text[1] = attn.norm_added_q(text[0]), attn.norm_added_k(text[1])
        q, k, v = (torch.cat(pair, 2) for pair in zip(image, text))
        bias = torch.zeros(1, 1, 1, k.shape[2])
        bias[..., -1] = math.log(WITHOUT_THIRD)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2).flatten(2)
        length = hidden_states.shape[1]
        image, text = mixed[:, :length], mixed[:, length:]
        return attn.to_out[0](image), text if attn.context_pre_only else attn.to_add_out(text)


def region(shape, other, grow=3.0):
    """The pixels, (64, 64) bool, that are painted anew when `shape` becomes `other`: those of both, and some around them. Of another
    kind, what lies within a circle around it.
    """
    if shape.kind != other.kind:
        return world.coverage(world.Shape("circle", shape.color, shape.x, shape.y, 1.35 * shape.radius)) > 0.5
    covered = (world.coverage(shape) > 0.1)[None, None].float()
    size = 2 * int(grow) + 1
    return F.max_pool2d(covered, size, 1, int(grow))[0, 0] > 0


def given(noised, inside, outside):
    """What the transformer reads: noised latents, which of them are painted anew, and what is around these."""
    return torch.cat([noised, inside, outside], 1)


def cells(regions):
    """Which latents regions (N, 64, 64) touch, (N, 1, 16, 16) in 0 and 1."""
    return F.max_pool2d(regions[:, None].float(), CELL)


def repaint(rng, count):
    """A scene, the scene with its first shape painted anew, and what that shows: (before, after, prompt)."""
    before = world.scene(rng, count)
    shape = before[0]
    color = rng.choice([c for c in world.COLORS if all(c != s.color for s in before)])
    kind = rng.choice(world.KINDS) if rng.random() < 0.4 else shape.kind
    after = world.replace(shape, color=color, kind=kind)
    return before, [after, *before[1:]], world.article(after.name)

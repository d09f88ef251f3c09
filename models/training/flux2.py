"""The tiny FLUX.2 klein in PyTorch: its configurations, tokens and latents, as `Flux2KleinPipeline` has them."""

import torch
from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel
from transformers import Qwen3Config, Qwen3ForCausalLM

TOKENS = 28  # text tokens, padding included
HIDDEN, HEADS, TEXT_HIDDEN = 128, 4, 96
TEXT_LAYERS = (1, 2, 3)  # hidden states the transformer reads; never the last, which is behind the final norm
REFERENCE_T = 10  # time coordinate of the first reference picture


def patchify(z):
    """(B, C, H, W) to (B, 4C, H/2, W/2), channel c*4 + dy*2 + dx."""
    b, c, h, w = z.shape
    return z.view(b, c, h // 2, 2, w // 2, 2).permute(0, 1, 3, 5, 2, 4).reshape(b, c * 4, h // 2, w // 2)


def encode(vae, pictures):
    """Pictures (B, 3, 64, 64) uint8 to normalised tokens (B, 16, 32)."""
    z = patchify(vae.encode(pictures.float() / 127.5 - 1).latent_dist.mode())
    mean = vae.bn.running_mean.view(1, -1, 1, 1)
    std = (vae.bn.running_var.view(1, -1, 1, 1) + vae.config.batch_norm_eps).sqrt()
    return ((z - mean) / std).flatten(2).transpose(1, 2)


@torch.no_grad()
def through_vae(folder, pictures):
    """The pictures (N, 3, 64, 64) uint8 as the autoencoder in `folder` gives them back from slightly disturbed latents."""
    vae = AutoencoderKLFlux2.from_pretrained(folder).float().eval()
    out = []
    for part in pictures.split(100):
        z = vae.encode(part.float() / 127.5 - 1).latent_dist.mode()
        y = vae.decode(z + 0.15 * torch.rand(len(z), 1, 1, 1) * z.std() * torch.randn_like(z)).sample
        out.append(((y.clamp(-1, 1) + 1) * 127.5).round().byte())
    return torch.cat(out)


def grid_ids(rows, columns, t=0):
    return torch.cartesian_prod(torch.tensor([t]), torch.arange(rows), torch.arange(columns), torch.arange(1))


TEXT_IDS = torch.cartesian_prod(torch.arange(1), torch.arange(1), torch.arange(1), torch.arange(TOKENS))
IMAGE_IDS = grid_ids(4, 4)
EDIT_IDS = torch.cat([IMAGE_IDS, grid_ids(4, 4, REFERENCE_T)])


def tokenize(tokenizer, prompts):
    """Token ids and mask, (B, TOKENS) each, through the chat template with thinking disabled."""
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": p}], tokenize=False, add_generation_prompt=True, enable_thinking=False
        )
        for p in prompts
    ]
    out = tokenizer(texts, padding="max_length", max_length=TOKENS, truncation=True, return_tensors="pt")
    return out.input_ids, out.attention_mask


def embed(encoder, ids, mask):
    """Prompt embeddings (B, TOKENS, 3 * TEXT_HIDDEN): the hidden states of three layers side by side."""
    states = encoder.model(input_ids=ids, attention_mask=mask, output_hidden_states=True, use_cache=False)
    return torch.cat([states.hidden_states[i] for i in TEXT_LAYERS], -1)


def build(vocabulary):
    """An untrained transformer and text encoder. Linear layers start at fan-in scale, modulation and output near zero."""
    head = HIDDEN // HEADS
    transformer = Flux2Transformer2DModel(
        patch_size=1,
        in_channels=32,
        num_layers=2,
        num_single_layers=4,
        attention_head_dim=head,
        num_attention_heads=HEADS,
        joint_attention_dim=3 * TEXT_HIDDEN,
        timestep_guidance_channels=64,
        mlp_ratio=3.0,
        axes_dims_rope=(head // 4,) * 4,
        rope_theta=2000,
        guidance_embeds=False,
    )
    encoder = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=vocabulary,
            hidden_size=TEXT_HIDDEN,
            intermediate_size=256,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            max_position_embeddings=512,
            tie_word_embeddings=True,
            rms_norm_eps=1e-6,
            attention_bias=False,
        )
    )
    for module in [*transformer.modules(), *encoder.model.layers.modules()]:
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=module.in_features**-0.5)
    for name in ("double_stream_modulation_img", "double_stream_modulation_txt", "single_stream_modulation"):
        torch.nn.init.normal_(getattr(transformer, name).linear.weight, std=1e-3)
    torch.nn.init.zeros_(transformer.norm_out.linear.weight)
    torch.nn.init.zeros_(transformer.proj_out.weight)
    torch.nn.init.normal_(encoder.model.embed_tokens.weight, std=0.5)
    return transformer, encoder

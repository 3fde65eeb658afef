"""Diffusers' own pipelines in tiny, of random weights: (pipeline, the arguments of a call that gives latents). No downloads."""

import functools

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderKLTemporalDecoder,
    AutoencoderKLWan,
    DDIMPipeline,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
    StableVideoDiffusionPipeline,
    UNet2DConditionModel,
    UNet2DModel,
    UNetSpatioTemporalConditionModel,
    WanPipeline,
    WanTransformer3DModel,
)
from diffusers.modular_pipelines.modular_pipeline import SequentialPipelineBlocks
from diffusers.modular_pipelines.wan.before_denoise import WanSetTimestepsStep
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection


def numbers(*shape, seed=1):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def quiet(pipe):
    pipe.set_progress_bar_config(disable=True)
    return pipe


def unconditional(scheduler):
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=8, block_out_channels=(4, 8), layers_per_block=1, norm_num_groups=4,
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    return quiet(DDIMPipeline(unet, scheduler)), {"batch_size": 2, "output_type": "np"}


def sdxl(scheduler, cls=StableDiffusionXLPipeline):
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=16, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=1, cross_attention_dim=16,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(2, 4), transformer_layers_per_block=(1, 2), use_linear_projection=True,
        addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=80,
    )  # fmt: skip
    vae = AutoencoderKL(
        block_out_channels=(8, 16), latent_channels=4, sample_size=32, norm_num_groups=1,
        down_block_types=["DownEncoderBlock2D"] * 2, up_block_types=["UpDecoderBlock2D"] * 2,
    )  # fmt: skip
    pipe = cls(vae, None, None, None, None, unet, scheduler)
    prompts = {"prompt_embeds": numbers(1, 5, 16), "negative_prompt_embeds": numbers(1, 5, 16, seed=2)}
    pooled = {"pooled_prompt_embeds": numbers(1, 32), "negative_pooled_prompt_embeds": numbers(1, 32, seed=2)}
    return quiet(pipe), {**prompts, **pooled, "guidance_scale": 5.0, "output_type": "latent"}


def svd(scheduler):
    torch.manual_seed(0)
    unet = UNetSpatioTemporalConditionModel(
        sample_size=16, block_out_channels=(32, 64), layers_per_block=1, cross_attention_dim=32, num_attention_heads=8,
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        projection_class_embeddings_input_dim=96, addition_time_embed_dim=32,
    )  # fmt: skip
    vae = AutoencoderKLTemporalDecoder(block_out_channels=[32, 64], down_block_types=["DownEncoderBlock2D"] * 2)
    sizes = {"hidden_size": 32, "projection_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 37}
    encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(image_size=16, patch_size=4, **sizes))
    extractor = CLIPImageProcessor(crop_size=32, size={"shortest_edge": 32})
    pipe = StableVideoDiffusionPipeline(vae, encoder, unet, scheduler, extractor)
    call = {"image": torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(5)), "num_frames": 2}
    return quiet(pipe), {**call, "height": 16, "width": 16, "max_guidance_scale": 2.5, "output_type": "latent"}


def sd3(scheduler):
    torch.manual_seed(0)
    transformer = SD3Transformer2DModel(
        sample_size=32, patch_size=1, in_channels=4, out_channels=4, num_layers=1, attention_head_dim=8, num_attention_heads=4,
        caption_projection_dim=32, joint_attention_dim=32, pooled_projection_dim=64,
    )  # fmt: skip
    vae = AutoencoderKL(block_out_channels=(4,), latent_channels=4, sample_size=32, norm_num_groups=1, shift_factor=0.06)
    nothing = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "text_encoder_3", "tokenizer_3"))
    pipe = StableDiffusion3Pipeline(transformer=transformer, scheduler=scheduler, vae=vae, **nothing)
    prompts = {"prompt_embeds": numbers(1, 5, 32), "negative_prompt_embeds": numbers(1, 5, 32, seed=2)}
    pooled = {"pooled_prompt_embeds": numbers(1, 64), "negative_pooled_prompt_embeds": numbers(1, 64, seed=2)}
    return quiet(pipe), {**prompts, **pooled, "height": 16, "width": 16, "guidance_scale": 5.0, "output_type": "latent"}


def wan_transformer():
    torch.manual_seed(0)
    return WanTransformer3DModel(
        patch_size=(1, 2, 2), num_attention_heads=2, attention_head_dim=12, text_dim=32, ffn_dim=32, num_layers=2,
        rope_max_seq_len=32,
    )  # fmt: skip


def wan(scheduler):
    transformer = wan_transformer()
    vae = AutoencoderKLWan(base_dim=3, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True])
    pipe = WanPipeline(tokenizer=None, text_encoder=None, vae=vae, scheduler=scheduler, transformer=transformer)
    prompts = {"prompt_embeds": numbers(1, 6, 32), "negative_prompt_embeds": numbers(1, 6, 32, seed=2)}
    return quiet(pipe), {**prompts, "height": 16, "width": 16, "num_frames": 5, "guidance_scale": 4.0, "output_type": "latent"}


def modular(steps, **components):
    """A modular pipeline that sets timesteps and makes ``steps`` (a class of blocks), with these components."""
    parts = {"block_classes": [WanSetTimestepsStep, steps], "block_names": ["set_timesteps", "denoise"], "model_name": "wan"}
    pipe = type("Blocks", (SequentialPipelineBlocks,), parts)().init_pipeline()
    pipe.update_components(**components)
    return quiet(pipe)


PIPELINES = {
    "unconditional": unconditional,
    "sdxl": sdxl,
    "sdxl img2img": functools.partial(sdxl, cls=StableDiffusionXLImg2ImgPipeline),
    "svd": svd,
    "sd3": sd3,
    "wan": wan,
}

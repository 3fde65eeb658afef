"""TinyDiT: a small super-resolution diffusion transformer with attention local to blocks.

The idea is Inf-DiT's (arXiv 2405.04312): attention never leaves a block of tokens, information passes between neighbouring
blocks, so any height and width works and cost grows linearly with the pixel count. Here every second layer shifts its blocks
by half a block (Swin, arXiv 2103.14030) and each feed-forward carries a depthwise convolution. Two token sizes make an
hourglass (HDiT, arXiv 2401.11605): outside, patch 2 with 7x7 depthwise convolutions; inside, patch 4 with attention; a skip
joins them. Two plain convolutions at full resolution finish the picture, so that no patch shows.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import nn


class BlockAttention(nn.Module):
    """Multi-head attention inside ``block x block`` tokens, blocks shifted by ``offset``. (B, H, W, C) -> (B, H, W, C)."""

    def __init__(self, dim, heads, block, offset):
        super().__init__()
        self.heads, self.block, self.offset = heads, block, offset
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.position = nn.Parameter(torch.zeros(heads, (2 * block - 1) ** 2))
        row, column = torch.meshgrid(torch.arange(block), torch.arange(block), indexing="ij")
        row, column = row.flatten(), column.flatten()
        index = (row[:, None] - row + block - 1) * (2 * block - 1) + column[:, None] - column + block - 1
        self.register_buffer("index", index, persistent=False)

    def forward(self, x):
        height, width = x.shape[1:3]
        b, o = self.block, self.offset
        padding = (o, -(width + o) % b, o, -(height + o) % b)
        x = rearrange(x, "n h w c -> n c h w")
        x = F.pad(x, padding, mode="replicate") if any(padding) else x
        rows, columns = x.shape[2] // b, x.shape[3] // b
        x = rearrange(x, "n c (r h) (s w) -> (n r s) (h w) c", h=b, w=b)
        q, k, v = rearrange(self.qkv(x), "n t (three g c) -> three n g t c", three=3, g=self.heads)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=self.position[:, self.index][None].to(q.dtype))
        x = self.out(rearrange(x, "n g t c -> n t (g c)"))
        x = rearrange(x, "(n r s) (h w) c -> n (r h) (s w) c", r=rows, s=columns, h=b)
        return x[:, o : o + height, o : o + width]


class DepthwiseMixer(nn.Module):
    """7x7 depthwise convolution, the local stand-in for attention where tokens are many. (B, H, W, C) -> (B, H, W, C)."""

    def __init__(self, dim):
        super().__init__()
        self.depthwise = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)

    def forward(self, x):
        return rearrange(self.depthwise(rearrange(x, "n h w c -> n c h w")), "n c h w -> n h w c")


class FeedForward(nn.Module):
    """Linear, 3x3 depthwise convolution, GELU, linear. (B, H, W, C) -> (B, H, W, C)."""

    def __init__(self, dim, expansion):
        super().__init__()
        hidden = dim * expansion
        self.up = nn.Linear(dim, hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.down = nn.Linear(hidden, dim)

    def forward(self, x):
        x = self.depthwise(rearrange(self.up(x), "n h w c -> n c h w"))
        return self.down(F.gelu(rearrange(x, "n c h w -> n h w c"), approximate="tanh"))


class Layer(nn.Module):
    """One transformer layer with AdaLN-Zero on the noise embedding (DiT, arXiv 2212.09748)."""

    def __init__(self, dim, mixer, expansion, embedding):
        super().__init__()
        self.mixer = mixer
        self.feed_forward = FeedForward(dim, expansion)
        self.norm = nn.LayerNorm(dim, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.Linear(embedding, 6 * dim)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x, emb):
        shift, scale, gate, shift_ff, scale_ff, gate_ff = self.modulation(emb)[:, None, None].chunk(6, dim=-1)
        x = x + gate * self.mixer(self.norm(x) * (1 + scale) + shift)
        return x + gate_ff * self.feed_forward(self.norm(x) * (1 + scale_ff) + shift_ff)


class TinyDiT(nn.Module):
    """The network F of EDM's preconditioning (arXiv 2206.00364, eq. 7), called as sgm calls its networks.

    ``forward(x, c_noise, cond)``: ``x`` (B, 3, H, W) the noisy residual times c_in; ``c_noise`` (B,) is log(sigma) / 4;
    ``cond["concat"]`` (B, 3, H, W) the bicubically enlarged image in [-1, 1], zeros where the conditioning is dropped.
    H and W are multiples of 4. Returns (B, 3, H, W).
    """

    def __init__(self, dims=(64, 192), depths=(2, 6, 2), heads=6, block=8, expansion=3, embedding=64, fine=16):
        super().__init__()
        outer, inner = dims

        def convolutional(depth):
            return nn.ModuleList(Layer(outer, DepthwiseMixer(outer), expansion, embedding) for _ in range(depth))

        def attending(depth):
            offsets = [block // 2 * (i % 2) for i in range(depth)]
            mixers = [BlockAttention(inner, heads, block, offset) for offset in offsets]
            return nn.ModuleList(Layer(inner, mixer, expansion, embedding) for mixer in mixers)

        self.register_buffer("frequencies", torch.exp(torch.linspace(0, math.log(100), embedding // 2)), persistent=False)
        self.embed = nn.Sequential(nn.Linear(embedding, embedding), nn.SiLU(), nn.Linear(embedding, embedding), nn.SiLU())
        self.stem = nn.Sequential(
            nn.Conv2d(6 * 4, outer, 3, padding=1), nn.GELU(approximate="tanh"), nn.Conv2d(outer, outer, 3, padding=1)
        )
        self.down = nn.Linear(4 * outer, inner)
        self.up = nn.Linear(inner, 4 * outer)
        self.join = nn.Linear(2 * outer, outer)
        self.encoder = convolutional(depths[0])
        self.middle = attending(depths[1])
        self.decoder = convolutional(depths[2])
        self.norm = nn.LayerNorm(outer, eps=1e-6)
        self.head = nn.Conv2d(outer, 3 * 4, 3, padding=1)
        self.fine = nn.Conv2d(outer, 4 * fine, 3, padding=1)
        self.finish = nn.Sequential(
            nn.Conv2d(fine + 6, 2 * fine, 3, padding=1), nn.GELU(approximate="tanh"), nn.Conv2d(2 * fine, 3, 3, padding=1)
        )
        for last in (self.head, self.finish[-1]):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def forward(self, x, c_noise, cond):
        phase = c_noise.reshape(-1, 1).to(self.frequencies.dtype) * self.frequencies
        emb = self.embed(torch.cat([phase.cos(), phase.sin()], dim=-1).to(x.dtype))
        pixels = torch.cat([x, cond["concat"].to(x.dtype)], dim=1)
        x = rearrange(self.stem(F.pixel_unshuffle(pixels, 2)), "n c h w -> n h w c")
        for layer in self.encoder:
            x = layer(x, emb)
        skip = x
        x = self.down(rearrange(x, "n (h p) (w q) c -> n h w (p q c)", p=2, q=2))
        for layer in self.middle:
            x = layer(x, emb)
        x = rearrange(self.up(x), "n h w (p q c) -> n (h p) (w q) c", p=2, q=2)
        x = self.join(torch.cat([x, skip], dim=-1))
        for layer in self.decoder:
            x = layer(x, emb)
        x = rearrange(self.norm(x), "n h w c -> n c h w")
        coarse, fine = F.pixel_shuffle(self.head(x), 2), F.pixel_shuffle(self.fine(x), 2)
        return coarse + self.finish(torch.cat([fine, pixels], dim=1))

"""V-JEPA written a second time: float64, loops and plain formulas, sharing no code with the networks it checks.

Writes a golden folder as the reference implementation would: random weights in the released layout, inputs, results.
"""

import json
from math import ceil, cos, pi
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

Weights = dict[str, Tensor]


def table(dim: int, grid: tuple[int, int, int], uniform_power: bool) -> Tensor:
    widths = [2 * ceil(dim / 6)] * 3 if uniform_power else [dim // 2, dim // 4, dim // 4]
    rows = []
    for t in range(grid[0]):
        for y in range(grid[1]):
            for x in range(grid[2]):
                row: list[float] = []
                for index, width in zip((t, y, x), widths, strict=True):
                    angles = [index * 10000 ** (-2 * k / width) for k in range(width // 2)]
                    row += [*np.sin(angles), *np.cos(angles)]
                rows.append(row[:dim])
    return torch.tensor(np.array(rows), dtype=torch.float32)[None]


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def norm(x: Tensor, eps: float) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()


def affine_norm(w: Weights, name: str, x: Tensor, eps: float) -> Tensor:
    return norm(x, eps) * w[f"{name}.weight"] + w[f"{name}.bias"]


def mlp(w: Weights, name: str, x: Tensor) -> Tensor:
    hidden = linear(w, f"{name}.fc1", x)
    return linear(w, f"{name}.fc2", hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5)))


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    size = q.shape[-1] // heads
    outputs = []
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        scores = q[..., part] @ k[..., part].transpose(1, 2) * size**-0.5
        outputs.append(torch.softmax(scores, -1) @ v[..., part])
    return torch.cat(outputs, -1)


def blocks(w: Weights, prefix: str, x: Tensor, depth: int, heads: int) -> Tensor:
    for i in range(depth):
        name = f"{prefix}.{i}"
        q, k, v = linear(w, f"{name}.attn.qkv", affine_norm(w, f"{name}.norm1", x, 1e-6)).chunk(3, -1)
        x = x + linear(w, f"{name}.attn.proj", attend(q, k, v, heads))
        x = x + mlp(w, f"{name}.mlp", affine_norm(w, f"{name}.norm2", x, 1e-6))
    return x


def encode(w: Weights, c: dict[str, Any], clips: Tensor, keep: Tensor | None = None) -> Tensor:
    """Embed everything, add positions, then keep."""
    tubelet, patch = c["tubelet_size"], c["patch_size"]
    steps, rows, columns = clips.shape[2] // tubelet, clips.shape[3] // patch, clips.shape[4] // patch
    kernel = w["patch_embed.proj.weight"].flatten(1)
    tokens = []
    for t in range(steps):
        for y in range(rows):
            for x in range(columns):
                part = clips[:, :, t * tubelet :, y * patch :, x * patch :][:, :, :tubelet, :patch, :patch]
                tokens.append(part.flatten(1) @ kernel.T + w["patch_embed.proj.bias"])
    z = torch.stack(tokens, 1) + w["pos_embed"]
    if keep is not None:
        z = torch.stack([sample[index] for sample, index in zip(z, keep, strict=True)])
    return affine_norm(w, "norm", blocks(w, "blocks", z, c["depth"], c["num_heads"]), 1e-6)


def predict(w: Weights, c: dict[str, Any], z: Tensor, context: Tensor, target: Tensor, mask_id: int) -> Tensor:
    positions = w["predictor_pos_embed"][0]
    z = linear(w, "predictor_embed", z) + positions[context]
    x = torch.cat([z, w[f"mask_tokens.{mask_id}"] + positions[target]], 1)
    x = blocks(w, "predictor_blocks", x, c["predictor_depth"], c["predictor_num_heads"])
    return linear(w, "predictor_proj", affine_norm(w, "predictor_norm", x, 1e-6)[:, context.shape[1] :])


def probe(w: Weights, heads: int, tokens: Tensor) -> Tensor:
    name = "pooler.cross_attention_block"
    query = w["pooler.query_tokens"].expand(len(tokens), -1, -1)
    k, v = linear(w, f"{name}.xattn.kv", affine_norm(w, f"{name}.norm1", tokens, 1e-5)).chunk(2, -1)
    x = query + attend(linear(w, f"{name}.xattn.q", query), k, v, heads)
    x = x + mlp(w, f"{name}.mlp", affine_norm(w, f"{name}.norm2", x, 1e-5))
    return linear(w, "linear", x[:, 0])


class AdamW:
    """The update rule of the paper's optimiser, one tensor at a time."""

    def __init__(self, c: dict[str, Any]) -> None:
        self.beta1, self.beta2 = c["optimiser"]["betas"]
        self.eps = c["optimiser"]["eps"]
        self.moments: dict[str, tuple[Tensor, Tensor]] = {}

    def step(self, w: Weights, grads: Weights, number: int, lr: float, weight_decay: float) -> None:
        for name, grad in grads.items():
            m, v = self.moments.get(name, (torch.zeros_like(grad), torch.zeros_like(grad)))
            m = self.beta1 * m + (1 - self.beta1) * grad
            v = self.beta2 * v + (1 - self.beta2) * grad**2
            self.moments[name] = (m, v)
            decay = 0.0 if "bias" in name or grad.ndim == 1 else weight_decay
            update = (m / (1 - self.beta1**number)) / ((v / (1 - self.beta2**number)).sqrt() + self.eps)
            w[name] = (w[name] - lr * decay * w[name] - lr * update).detach()


def schedules(c: dict[str, Any], s: int) -> tuple[float, float, float]:
    o = c["optimiser"]
    warmup = o["warmup_epochs"] * o["iterations_per_epoch"]
    length = int(o["schedule_scale"] * o["epochs"] * o["iterations_per_epoch"])
    if s < warmup:
        lr = o["start_lr"] + s / warmup * (o["lr"] - o["start_lr"])
    else:
        lr = o["final_lr"] + (o["lr"] - o["final_lr"]) * (1 + cos(pi * (s - warmup) / (length - warmup))) / 2
    final = o["final_weight_decay"]
    decay = final + (o["weight_decay"] - final) * (1 + cos(pi * s / length)) / 2
    start, end = o["ema"]
    momentum = start + (s - 1) * (end - start) / (o["schedule_scale"] * o["epochs"] * o["iterations_per_epoch"])
    return lr, decay, momentum


def random_weights(c: dict[str, Any], grid: tuple[int, int, int]) -> dict[str, Weights]:
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> Tensor:
        return 0.05 * torch.randn(*shape, generator=generator)

    def linear_of(w: Weights, name: str, rows: int, columns: int) -> None:
        w[f"{name}.weight"], w[f"{name}.bias"] = draw(rows, columns), draw(rows)

    def norm_of(w: Weights, name: str, dim: int) -> None:
        w[f"{name}.weight"], w[f"{name}.bias"] = 1 + draw(dim), draw(dim)

    def blocks_of(w: Weights, prefix: str, dim: int, depth: int, mlp_ratio: float) -> None:
        hidden = int(dim * mlp_ratio)
        for name in (f"{prefix}.{i}" for i in range(depth)):
            norm_of(w, f"{name}.norm1", dim)
            norm_of(w, f"{name}.norm2", dim)
            linear_of(w, f"{name}.attn.qkv", 3 * dim, dim)
            linear_of(w, f"{name}.attn.proj", dim, dim)
            linear_of(w, f"{name}.mlp.fc1", hidden, dim)
            linear_of(w, f"{name}.mlp.fc2", dim, hidden)

    dim, narrow, patch = c["embed_dim"], c["predictor_embed_dim"], c["patch_size"]
    encoders: list[Weights] = []
    for _ in range(2):
        w: Weights = {"pos_embed": table(dim, grid, c["uniform_power"])}
        w["patch_embed.proj.weight"] = draw(dim, 3, c["tubelet_size"], patch, patch)
        w["patch_embed.proj.bias"] = draw(dim)
        blocks_of(w, "blocks", dim, c["depth"], c["mlp_ratio"])
        norm_of(w, "norm", dim)
        encoders.append(w)
    p: Weights = {"predictor_pos_embed": table(narrow, grid, c["uniform_power"])}
    p |= {f"mask_tokens.{i}": draw(1, 1, narrow) for i in range(len(c["masks"]))}
    linear_of(p, "predictor_embed", narrow, dim)
    blocks_of(p, "predictor_blocks", narrow, c["predictor_depth"], mlp_ratio=4)
    norm_of(p, "predictor_norm", narrow)
    linear_of(p, "predictor_proj", dim, narrow)
    q: Weights = {"pooler.query_tokens": draw(1, 1, dim)}
    name = "pooler.cross_attention_block"
    norm_of(q, f"{name}.norm1", dim)
    norm_of(q, f"{name}.norm2", dim)
    for layer, (rows, columns) in {
        "xattn.q": (dim, dim),
        "xattn.kv": (2 * dim, dim),
        "xattn.proj": (dim, dim),
        "mlp.fc1": (4 * dim, dim),
        "mlp.fc2": (dim, 4 * dim),
    }.items():
        linear_of(q, f"{name}.{layer}", rows, columns)
    linear_of(q, "linear", c["num_classes"], dim)
    return {"encoder": encoders[0], "target_encoder": encoders[1], "predictor": p, "probe": q}


def write_golden(folder: Path, c: dict[str, Any]) -> None:
    """Write config.json, checkpoint.pth.tar, probe.pth.tar and golden.npz of these settings."""
    side = c["crop_size"] // c["patch_size"]
    grid = (c["num_frames"] // c["tubelet_size"], side, side)
    weights = random_weights(c, grid)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(c))
    networks = ("encoder", "predictor", "target_encoder")
    torch.save(
        {name: {f"module.backbone.{k}": v for k, v in weights[name].items()} for name in networks},
        folder / "checkpoint.pth.tar",
    )
    torch.save({"classifier": {f"module.{k}": v for k, v in weights["probe"].items()}}, folder / "probe.pth.tar")
    exact = {name: {k: v.double() for k, v in w.items()} for name, w in weights.items()}
    np.savez(folder / "golden.npz", **{k: np.asarray(v) for k, v in results(c, grid, exact).items()})


def results(c: dict[str, Any], grid: tuple[int, int, int], w: dict[str, Weights]) -> dict[str, Any]:
    """Everything a golden.npz holds, except the interpolated features; updates `w` by training."""
    generator = torch.Generator().manual_seed(4)
    size = (c["batch_size"], 3, c["num_frames"], c["crop_size"], c["crop_size"])
    clips_fp32 = torch.randn(*size, generator=generator)
    clips = clips_fp32.double()
    out: dict[str, Any] = {"clips": clips_fp32, "target_features": encode(w["target_encoder"], c, clips)}
    out["probe_logits"] = probe(w["probe"], c["num_heads"], out["target_features"])
    numbers: dict[str, list[float]] = {k: [] for k in ("loss", "lr", "weight_decay", "momentum", "grad_norm")}
    optimizer = AdamW(c)
    num_tokens = grid[0] * grid[1] * grid[2]
    for step in range(c["steps"]):
        trained = {
            f"{network}.{k}": v.requires_grad_()
            for network in ("encoder", "predictor")
            for k, v in w[network].items()
            if "pos_embed" not in k
        }
        targets = norm(encode(w["target_encoder"], c, clips), 1e-5).detach()
        losses = []
        for i in range(len(c["masks"])):
            order = torch.stack([torch.randperm(num_tokens, generator=generator) for _ in range(c["batch_size"])])
            count = num_tokens // (i + 3) + step
            context, target = order[:, :count].sort().values, order[:, count:-2].sort().values
            out[f"step{step}_context_index_{i}"], out[f"step{step}_target_index_{i}"] = context, target
            z = encode(w["encoder"], c, clips, context)
            predicted = predict(w["predictor"], c, z, context, target, i)
            wanted = torch.stack([sample[index] for sample, index in zip(targets, target, strict=True)])
            if step == 0:
                out |= {f"context_features_{i}": z.detach(), f"predictions_{i}": predicted.detach()}
                out[f"targets_{i}"] = wanted
            losses.append((predicted - wanted).abs().mean())
        loss = torch.stack(losses).mean()
        grads = dict(zip(trained, torch.autograd.grad(loss, list(trained.values())), strict=True))
        lr, decay, momentum = schedules(c, step + 1)
        optimizer.step(trained, grads, step + 1, lr, decay)
        for name, value in trained.items():
            network, key = name.split(".", 1)
            w[network][key] = value.detach()
        for key, value in w["target_encoder"].items():
            w["target_encoder"][key] = momentum * value + (1 - momentum) * w["encoder"][key]
        total = float(torch.stack([grad.square().sum() for grad in grads.values()]).sum().sqrt())
        for name, number in zip(numbers, (loss.item(), lr, decay, momentum, total), strict=True):
            numbers[name].append(number)
    out["target_features_after"] = encode(w["target_encoder"], c, clips)
    out["encoder_features_after"] = encode(w["encoder"], c, clips)
    return {k: v.detach() if isinstance(v, Tensor) else v for k, v in (out | numbers).items()}

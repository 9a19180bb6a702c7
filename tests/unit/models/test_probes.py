import pytest
import torch

from vjepa_models.probes import AttentiveProbe, LinearProbe, build_probe


def tokens(batch: int = 3, count: int = 10, dim: int = 24) -> torch.Tensor:
    return torch.randn(batch, count, dim, generator=torch.Generator().manual_seed(0))


def noisy(probe: AttentiveProbe) -> AttentiveProbe:
    """A probe whose biases and norms are not at their start values, as after training."""
    generator = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for parameter in probe.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return probe


def test_keys_and_parameters_of_the_released_probe() -> None:
    probe = AttentiveProbe(1024, 16, 400)
    shapes = {key: tuple(value.shape) for key, value in probe.state_dict().items()}
    block = "pooler.cross_attention_block."
    assert len(shapes) == 17
    assert shapes["pooler.query_tokens"] == (1, 1, 1024)
    assert shapes[block + "xattn.kv.weight"] == (2048, 1024)
    assert shapes[block + "xattn.proj.weight"] == (1024, 1024)
    assert shapes[block + "mlp.fc1.weight"] == (4096, 1024)
    assert shapes["linear.weight"] == (400, 1024)
    assert sum(p.numel() for p in probe.parameters()) == 13_007_248


def test_logits_follow_the_formula_head_by_head() -> None:
    probe = noisy(AttentiveProbe(24, 3, 5, seed=1))
    weights = {key: value.double() for key, value in probe.state_dict().items()}
    x = tokens().double()
    block = "pooler.cross_attention_block."

    def linear(name: str, value: torch.Tensor) -> torch.Tensor:
        return value @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(name: str, value: torch.Tensor) -> torch.Tensor:
        centred = value - value.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    query = weights["pooler.query_tokens"].expand(3, 1, 24)
    keys, values = linear(block + "xattn.kv", norm(block + "norm1", x)).split(24, dim=-1)
    queries = linear(block + "xattn.q", query)
    heads = []
    for head in range(3):
        part = slice(8 * head, 8 * head + 8)
        scores = queries[..., part] @ keys[..., part].transpose(1, 2) / 8**0.5
        heads.append(torch.softmax(scores, dim=-1) @ values[..., part])
    pooled = query + torch.cat(heads, dim=-1)
    hidden = torch.nn.functional.gelu(linear(block + "mlp.fc1", norm(block + "norm2", pooled)))
    expected = linear("linear", pooled + linear(block + "mlp.fc2", hidden)).squeeze(1)
    torch.testing.assert_close(probe(tokens()).double(), expected, atol=1e-5, rtol=0)


def test_attention_is_that_of_projected_keys_and_values_gradients_included() -> None:
    block = noisy(AttentiveProbe(24, 3, 5)).pooler.cross_attention_block.xattn.double()
    queries, x = (tokens(count=count).double().requires_grad_() for count in (2, 10))
    q = block.q(queries).unflatten(-1, (3, 8)).transpose(1, 2)
    k, v = (half.unflatten(-1, (3, 8)).transpose(1, 2) for half in block.kv(x).chunk(2, dim=-1))
    expected = (torch.softmax(q @ k.transpose(2, 3) / 8**0.5, dim=-1) @ v).transpose(1, 2).flatten(2)
    found = block(queries, x)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    wanted = [queries, x, block.q.weight, block.q.bias, block.kv.weight, block.kv.bias]
    direction = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours, theirs = (torch.autograd.grad(one, wanted, direction) for one in (found, expected))
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-12, rtol=0)


def test_the_unused_projection_changes_nothing_and_is_not_trained() -> None:
    probe = noisy(AttentiveProbe(24, 3, 5))
    before = probe(tokens())
    with torch.no_grad():
        probe.pooler.cross_attention_block.xattn.proj.weight.add_(1)
    assert torch.equal(probe(tokens()), before)
    before.sum().backward()
    without_gradient = {name for name, p in probe.named_parameters() if p.grad is None}
    assert without_gradient == {f"pooler.cross_attention_block.xattn.proj.{kind}" for kind in ("weight", "bias")}


@pytest.mark.parametrize("depth", [1, 3])
def test_the_order_of_tokens_means_nothing(depth: int) -> None:
    probe = noisy(AttentiveProbe(24, 3, 5, depth=depth))
    torch.testing.assert_close(probe(tokens()), probe(tokens().flip(1)), atol=1e-5, rtol=0)


def test_more_depth_adds_blocks_after_pooling() -> None:
    shallow, deep = AttentiveProbe(24, 3, 5, depth=1), AttentiveProbe(24, 3, 5, depth=3)
    extra = deep.state_dict().keys() - shallow.state_dict().keys()
    assert {key.split(".")[2] for key in extra} == {"0", "1"}
    assert all(key.startswith("pooler.blocks.") for key in extra)
    assert (deep(tokens()) - shallow(tokens())).abs().max() > 0


def test_initial_weights() -> None:
    probe = AttentiveProbe(256, 4, 100, seed=3, depth=2)
    block = probe.pooler.cross_attention_block
    deviations = {
        0.02: [probe.pooler.query_tokens, block.xattn.q.weight, block.xattn.kv.weight, block.mlp.fc1.weight],
        0.02 / 2**0.5: [block.xattn.proj.weight, block.mlp.fc2.weight],
        0.02 / 4**0.5: [probe.pooler.blocks[0].attn.proj.weight, probe.pooler.blocks[0].mlp.fc2.weight],
        1 / 3**0.5 / 16: [probe.linear.weight],
    }
    for std, weights in deviations.items():
        for weight in weights:
            assert weight.detach().std().item() == pytest.approx(std, rel=0.12 if weight.numel() == 256 else 0.02)
    assert probe.linear.weight.abs().max().item() <= 1 / 16
    assert 0 < probe.linear.bias.abs().max().item() <= 1 / 16
    assert not block.xattn.q.bias.any()


def test_linear_probe_classifies_the_average_token() -> None:
    probe = LinearProbe(24, 5, seed=1)
    expected = tokens().mean(1) @ probe.linear.weight.T + probe.linear.bias
    torch.testing.assert_close(probe(tokens()), expected)


@pytest.mark.parametrize("kind", ["attentive_probe", "linear_probe"])
def test_a_probe_is_a_function_of_its_seed(kind: str) -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, second, other = (
        build_probe(kind, embed_dim=24, num_heads=3, num_classes=5, seed=seed)  # type: ignore[arg-type]
        for seed in (1, 1, 2)
    )
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first(tokens()), second(tokens()))
    assert not torch.equal(first(tokens()), other(tokens()))

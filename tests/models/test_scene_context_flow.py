"""Scene-context attention: one scene branch equals the published pairs; who attends to whom."""

import torch
import torch.nn.functional as F

from datagen.models import SparseStructureFlowModel, SparseStructureSceneContextFlowModel
from datagen.models.attention import SelfAttention

ARGS = {
    "resolution": 4,
    "in_channels": 8,
    "out_channels": 8,
    "model_channels": 32,
    "cond_channels": 16,
    "num_blocks": 6,
    "num_heads": 2,
    "patch_size": 2,
    "qk_rms_norm": True,
}


def random_model(cls, **kwargs):
    """Return a model with every layer random; a fresh one has a zero output layer."""
    torch.manual_seed(0)
    model = cls(**ARGS, **kwargs).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


def grids(*shape):
    return torch.randn(*shape, 8, 4, 4, 4)


@torch.no_grad()
def test_one_scene_branch_for_all_instances_equals_published_pairs():
    model = random_model(SparseStructureSceneContextFlowModel, scene_context_attn_num=3)
    instances, scene, t = grids(2, 5), grids(2), torch.tensor([900.0, 300.0])
    cond_instances, cond_scene = torch.randn(2, 5, 7, 16), torch.randn(2, 7, 16)

    v_instances, v_scene = model.forward_scene(instances, scene, t, cond_instances, cond_scene)

    for i in range(5):
        pair = model(
            torch.stack([instances[:, i], scene], dim=1),
            t,
            torch.stack([cond_instances[:, i], cond_scene], dim=1),
        )
        torch.testing.assert_close(pair[:, 0], v_instances[:, i], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(pair[:, 1], v_scene, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_scene_branch_is_the_unmodified_base_model():
    model = random_model(SparseStructureSceneContextFlowModel, scene_context_attn_num=3)
    base = SparseStructureFlowModel(**ARGS).eval()
    base.load_state_dict(model.state_dict())
    instances, scene, t = grids(2, 3), grids(2), torch.tensor([700.0, 100.0])
    cond_instances, cond_scene = torch.randn(2, 3, 7, 16), torch.randn(2, 7, 16)
    _, v_scene = model.forward_scene(instances, scene, t, cond_instances, cond_scene)
    torch.testing.assert_close(v_scene, base(scene, t, cond_scene), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_instance_like_its_scene_is_treated_by_plain_self_attention():
    """The supplement's proposition: with K_i = K_s and V_i = V_s the softmax is unchanged."""
    model = random_model(SparseStructureSceneContextFlowModel, scene_context_attn_num=6)
    base = SparseStructureFlowModel(**ARGS).eval()
    base.load_state_dict(model.state_dict())
    x, t, cond = grids(2), torch.tensor([900.0, 300.0]), torch.randn(2, 7, 16)
    pair = model(torch.stack([x, x], dim=1), t, torch.stack([cond, cond], dim=1))
    expected = base(x, t, cond)
    torch.testing.assert_close(pair[:, 0], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(pair[:, 1], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_instance_sees_its_scene_and_no_other_instance():
    model = random_model(SparseStructureSceneContextFlowModel, scene_context_attn_num=3)
    t = torch.tensor([500.0])
    instances, scene = grids(1, 2), grids(1)
    cond = torch.randn(1, 2, 7, 16), torch.randn(1, 7, 16)
    before, _ = model.forward_scene(instances, scene, t, *cond)
    other_scene, _ = model.forward_scene(instances, scene + 1, t, *cond)
    other_neighbour = torch.stack([instances[:, 0], instances[:, 1] + 1], dim=1)
    after, _ = model.forward_scene(other_neighbour, scene, t, *cond)
    torch.testing.assert_close(after[:, 0], before[:, 0])
    assert not torch.allclose(other_scene[:, 0], before[:, 0], atol=1e-3)


@torch.no_grad()
def test_scene_context_attention_equals_softmax_written_out():
    torch.manual_seed(1)
    attention = SelfAttention(8, 2, qk_rms_norm=False)
    x = torch.randn(1, 3, 5, 8)  # two instances, then the scene
    out = attention(x, 2)
    q, k, v = (part.reshape(3, 5, 2, 4) for part in attention.to_qkv(x)[0].chunk(3, dim=-1))
    for grid, seen in ((0, [0, 2]), (1, [1, 2]), (2, [2])):
        keys, values = torch.cat([k[i] for i in seen]), torch.cat([v[i] for i in seen])
        weights = F.softmax(torch.einsum("qhd,khd->hqk", q[grid], keys) / 2.0, dim=-1)
        merged = torch.einsum("hqk,khd->qhd", weights, values).reshape(5, 8)
        torch.testing.assert_close(out[0, grid], attention.to_out(merged), rtol=1e-5, atol=1e-6)


def test_middle_blocks_of_published_depth_are_10_to_14():
    with torch.device("meta"):
        model = SparseStructureSceneContextFlowModel(**{**ARGS, "num_blocks": 24})
    assert list(model.scene_context_blocks) == [10, 11, 12, 13, 14]


@torch.no_grad()
def test_model_that_predicts_x_0_gives_the_velocity_towards_it():
    model = random_model(SparseStructureFlowModel, predicts="x_0", data_std=0.5)
    plain = SparseStructureFlowModel(**ARGS).eval()
    plain.load_state_dict(model.state_dict())
    x, t, cond = grids(2), torch.tensor([800.0, 250.0]), torch.randn(2, 7, 16)
    # Best linear estimate of x_0 / 0.5 from x_t = (1 - t) x_0 + t ε at t = 0.8 and 0.25.
    gains = torch.tensor([0.1 / (0.1**2 + 0.8**2), 0.375 / (0.375**2 + 0.25**2)])
    estimate = x * gains.reshape(2, 1, 1, 1, 1)
    x_0 = 0.5 * plain(estimate, t, cond)  # the same transformer's raw output
    v = model(x, t, cond)
    arrived = x - (t / 1000).reshape(2, 1, 1, 1, 1) * v
    torch.testing.assert_close(arrived, x_0, rtol=1e-4, atol=1e-5)

"""A scene's samples equal those of the released pairs, in one batch or several."""

import numpy as np
import pytest
import torch
from torch import nn

from datagen.errors import StageError
from datagen.models import SceneModel
from datagen.sampling import scenes
from datagen.sampling.flow_euler import sample_flow
from datagen.sampling.scenes import SamplerConfig, SceneImages, image_tokens, sample_scene

FLOW = {
    "resolution": 16,
    "in_channels": 8,
    "out_channels": 8,
    "model_channels": 32,
    "cond_channels": 32,
    "num_blocks": 4,
    "num_heads": 2,
    "patch_size": 4,
    "qk_rms_norm": True,
    "scene_context_attn_num": 2,
}
ENCODER = {"size_px": 32, "channels": 32, "num_blocks": 1, "num_heads": 2}
FAST = SamplerConfig(steps=3)


class Repeat(nn.Module):
    """A decoder whose logits are the latent's first channel, four times finer."""

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        fine: torch.Tensor = nn.functional.interpolate(latents[:, :1], scale_factor=4)
        return fine


def random_model(**options) -> SceneModel:
    model = SceneModel(FLOW, ENCODER, **options)
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        parameter.data.copy_(0.2 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def random_images(num_instances: int, *, local: bool = False) -> SceneImages:
    rng = np.random.default_rng(4)
    images = rng.integers(0, 256, (1 + 2 * num_instances, 32, 32, 3), np.uint8)
    scene, instances, crops = np.split(images, [1, 1 + num_instances])
    return SceneImages(scene[0], instances, crops if local else None)


def slots_as_released(model: SceneModel, images: SceneImages, seed: int) -> np.ndarray:
    """Sample [instance, scene(, local)] for every instance, with the scene run again each time."""
    num_slots = 2 if images.local is None else 3
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(1, num_slots, 8, 16, 16, 16, generator=generator)
    found = []
    for index, instance in enumerate(images.instances):
        local = [] if images.local is None else [images.local[index]]
        stack = torch.from_numpy(np.stack([instance, images.scene, *local]))[None]
        with torch.no_grad():
            cond = model.encode_images(stack)
        x_0 = sample_flow(model.flow, noise, cond, torch.zeros_like(cond), steps=FAST.steps)
        logits = Repeat()(model.denormalize(x_0)[0])[:, 0].numpy()
        found += [logits[1]] * (index == 0) + [logits[0]]
    return np.stack(found)


@pytest.mark.parametrize("local", [False, True])
def test_samples_are_those_of_the_released_slots(local):
    model, images = random_model(local_slot=local), random_images(3, local=local)
    ours = sample_scene(model, Repeat(), images, FAST, seed=11)
    theirs = slots_as_released(model, images, seed=11)
    assert ours.shape == (4, 64, 64, 64)
    assert theirs.std() > 0.1
    np.testing.assert_allclose(ours, theirs, atol=2e-4)


def test_scene_branch_runs_once_for_all_instances():
    model, images = random_model(), random_images(5)
    grids = []
    model.flow.input_layer.register_forward_hook(lambda m, i, o: grids.append(len(o)))
    sample_scene(model, Repeat(), images, FAST, seed=0)
    assert set(grids) == {6}


@pytest.mark.parametrize("local", [False, True])
def test_batches_give_what_one_batch_gives(local):
    model, images = random_model(local_slot=local), random_images(5, local=local)
    whole = sample_scene(model, Repeat(), images, FAST, seed=1)
    parts = sample_scene(model, Repeat(), images, FAST, seed=1, max_batch=2)
    np.testing.assert_allclose(parts, whole, atol=1e-4)


def test_sixty_instances_are_sampled_in_batches_that_fit(monkeypatch):
    model, images = random_model(), random_images(60)
    tokens, channels = model.flow.pos_emb.shape
    a_grid = 4 * tokens * channels * scenes.ACTIVATIONS_PER_TOKEN
    monkeypatch.setattr(scenes, "_free_bytes", lambda: int(26 * a_grid / 0.6) + 1)
    grids = []
    model.flow.input_layer.register_forward_hook(lambda m, i, o: grids.append(len(o)))
    logits = sample_scene(model, Repeat(), images, SamplerConfig(steps=1), seed=0)
    assert logits.shape == (61, 64, 64, 64)
    assert set(grids) == {26, 11}  # 25, 25 and 10 instances, each time with the scene


def test_same_noise_for_all_instances_unless_independent():
    model = random_model()
    one = random_images(1)
    same = SceneImages(one.scene, np.repeat(one.instances, 3, axis=0))
    _, *released = sample_scene(model, Repeat(), same, FAST, seed=2)
    independent = SamplerConfig(steps=3, independent_noise=True)
    scene, *others = sample_scene(model, Repeat(), same, independent, seed=2)
    np.testing.assert_allclose(released[1], released[0], atol=1e-4)
    np.testing.assert_allclose(others[0], released[0], atol=1e-4)
    assert np.abs(others[1] - others[0]).max() > 0.1
    assert np.abs(others[2] - others[1]).max() > 0.1
    assert scene.shape == (64, 64, 64)


def test_full_gpu_halves_the_batch_and_names_what_fits(monkeypatch, caplog):
    model, images = random_model(), random_images(5)
    encode = model.encode_images

    def refuse(stack: torch.Tensor) -> torch.Tensor:
        if stack.shape[1] > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate\nmore")
        return encode(stack)

    monkeypatch.setattr(model, "encode_images", refuse)
    with caplog.at_level("WARNING"):
        logits = sample_scene(model, Repeat(), images, FAST, seed=1)
    assert "GPU out of memory with 5 instances at once; continuing with 2" in caplog.text
    assert "--max-batch 2" in caplog.text
    monkeypatch.setattr(model, "encode_images", encode)
    np.testing.assert_allclose(
        logits, sample_scene(model, Repeat(), images, FAST, seed=1), atol=1e-4
    )


def test_gpu_too_small_for_one_instance_is_an_error(monkeypatch):
    def refuse(stack: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.\nmore")

    model = random_model()
    monkeypatch.setattr(model, "encode_images", refuse)
    with pytest.raises(StageError, match=r"with one instance and its scene \(CUDA"):
        sample_scene(model, Repeat(), random_images(2), FAST, seed=1)


@pytest.mark.parametrize("local", [False, True])
def test_given_tokens_have_the_samples_of_encoded_images_in_any_batch(local):
    model, images = random_model(local_slot=local), random_images(3, local=local)
    tokens = image_tokens(model, images)
    assert len(tokens) == 1 + 3 * (1 + local)
    expected = sample_scene(model, Repeat(), images, FAST, seed=1)
    for most in (None, 2):
        kept = sample_scene(model, Repeat(), images, FAST, seed=1, max_batch=most, tokens=tokens)
        np.testing.assert_allclose(kept, expected, atol=1e-4)

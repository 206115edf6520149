"""Protects seeding: a stream depends on its seed and keys alone and never changes."""

from datagen.core.seeding import rng_for, seed_for


def test_same_keys_give_the_same_stream_and_other_keys_another():
    assert rng_for(7, "layouts", 3).random() == rng_for(7, "layouts", 3).random()
    streams = {
        rng_for(*keys).random()
        for keys in [(7, "layouts", 3), (8, "layouts", 3), (7, "render", 3), (7, "layouts", 4)]
    }
    assert len(streams) == 4


def test_stream_is_pinned_for_all_time():
    assert rng_for(0, "layouts", 0).integers(1_000_000) == 186448
    assert 0 <= seed_for(0, "layouts", 0) < 2**31

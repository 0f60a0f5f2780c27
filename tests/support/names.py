"""What tests share: names."""

from random import Random

from tiny_base.synthetic import invent_name, sample_creature


def made_names(count, invent=invent_name, seed=1):
    rng = Random(seed)
    names: dict[str, None] = {}
    while len(names) < count:
        names[invent(sample_creature(rng), rng)] = None
    return list(names)


def random_letters(count, seed=1):
    rng = Random(seed)
    return ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(4, 10))) for _ in range(count)]

"""Which scheme each matrix gets, so that all together stay within a budget: the largest fall of the loss for each bit."""

from dataclasses import dataclass, replace

from sparseloom.models.compress.scheme import FLOAT_BITS

__all__ = ["Choice", "allocate", "options"]


@dataclass(frozen=True)
class Choice:
    """What one scheme costs one matrix: ``bits`` of storage, ``loss`` on the scale shared by all matrices."""

    scheme: object
    bits: int
    loss: float


def options(floor, bits=(2, 3, 4, 8)):
    """The schemes that keep and resolve at least as much as ``floor``: all powers of two up to the group, all of ``bits``."""
    widths = [width for width in bits if width >= floor.bits] if floor.bits != FLOAT_BITS else [FLOAT_BITS]
    nnz = [1 << i for i in range(floor.group.bit_length()) if 1 << i >= floor.nnz]
    return [replace(floor, nnz=kept, bits=width) for kept in nnz for width in widths]


def allocate(choices, budget):
    """``{name: scheme}`` of least total loss found within ``budget`` bits.

    ``choices``: {name: [Choice]}. Greedy on each matrix's lower convex hull, which is the optimum of the Lagrangian at every
    total that it passes; steps that no longer fit are left out and smaller ones still tried. Ties go to the first name.
    ValueError if the cheapest choices exceed the budget.
    """
    hulls = {name: hull(every) for name, every in choices.items()}
    at = dict.fromkeys(hulls, 0)
    total = sum(steps[0].bits for steps in hulls.values())
    if total > budget:
        raise ValueError(f"budget must be at least {total} bits, got {budget}")
    steps = [(-gain(a, b), order, name, i) for order, (name, chain) in enumerate(hulls.items())
             for i, (a, b) in enumerate(zip(chain, chain[1:], strict=False), 1)]
    for _, _, name, i in sorted(steps):
        extra = hulls[name][i].bits - hulls[name][at[name]].bits
        if i == at[name] + 1 and total + extra <= budget:
            at[name], total = i, total + extra
    return {name: hulls[name][i].scheme for name, i in at.items()}


def gain(a, b):
    """How much loss each bit takes away from one choice to the next."""
    return (a.loss - b.loss) / (b.bits - a.bits)


def hull(choices):
    """Those choices, by rising bits, from each of which the next has the best :func:`gain`; losses fall, gains too."""
    chain = []
    for choice in sorted(choices, key=lambda one: (one.bits, one.loss)):
        if chain and choice.loss >= chain[-1].loss:
            continue
        while len(chain) > 1 and gain(chain[-2], chain[-1]) <= gain(chain[-1], choice):
            chain.pop()
        chain.append(choice)
    return chain

"""What matrix products took, against the closed form, and how much of the engine's peak was useful."""

from collections import Counter

__all__ = ["passes", "tally"]


def passes(calls):
    """``calls`` as a list of lists, one for each pass through the model: a pass begins with the layer of the very first call."""
    found = []
    for call in calls:
        if call.layer == calls[0].layer:
            found.append([])
        found[-1].append(call)
    return found


def tally(plan, calls):
    """A dict of figures over ``calls``, products of a plan (anything with ``layer``, ``m`` and ``receipt``).

    ``products``; ``cycles`` as the device counted them and ``predicted_cycles`` by the closed form; ``stream_fraction`` and
    ``compute_fraction``: the useful fractions of the build's spec, over all of these cycles.
    """
    useful, predicted = Counter(), 0
    for (layer, m), times in Counter((call.layer, call.m) for call in calls).items():
        for job in plan.jobs(layer, m):
            closed = plan.build.cycles(job)
            predicted += times * closed
            for name, part in plan.build.useful_fraction(job, closed).items():
                useful[name] += times * closed * part
    cycles = sum(call.receipt.cycles for call in calls)
    return {"products": len(calls), "cycles": cycles, "predicted_cycles": predicted,
            "stream_fraction": useful["stream"] / cycles, "compute_fraction": useful["compute"] / cycles}

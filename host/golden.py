"""The device without gates: NumPy computes from the definition, the closed form counts the cycles."""

from ..models.golden.engines import results
from .device import Device

__all__ = ["GoldenDevice"]


class GoldenDevice(Device):
    """NumPy from the definition, cycles from the closed form (basis ``exact``). Weights are unpacked when first used."""

    basis = "exact"

    def load(self, plan):
        super().load(plan)
        self._operands = {}

    def _execute(self, steps):
        for step in steps:
            wanted = results(self.build, step.job, self._family.operands(self._operand(step), *self._written[step.operand]))
            receipt = self._receipt(step.job, cycles=self.build.cycles(step.job), saturations=wanted["saturated"])
            yield wanted[self._family.result], receipt

    def _operand(self, step):
        if step.stored not in self._operands:
            self._operands[step.stored] = self._family.unpack(self.build, step.job, self._stored[step.stored])
        return self._operands[step.stored]

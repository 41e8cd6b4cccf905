"""The device `sim`: a plan's jobs on the simulated gates, cycles counted there."""

from ..host.device import Device
from ..models.formats.engines import collect
from .runner import Simulator, Work

__all__ = ["SimDevice"]


class SimDevice(Device):
    """The simulated gates: values and cycles (basis ``rtl``) from the Verilog of ``build``, one job at a time.

    ``opt`` and ``waves`` as :class:`~sparseloom.sim.runner.Simulator` takes them; ``stall``, ``idle``, ``seed`` as its ``run``.
    """

    basis = "rtl"

    def __init__(self, build, *, opt="quick", waves=None, stall=0.0, idle=0.0, seed=0):
        super().__init__(build)
        self.simulator = Simulator(build, opt=opt, waves=waves)
        self._pauses = {"stall": stall, "idle": idle, "seed": seed}

    def close(self):
        self.simulator.close()

    def _execute(self, steps):
        works = [Work(step.job, self._family.image(self.build, step.job, self._stored[step.stored], *self._written[step.operand]))
                 for step in steps]
        for step, receipt in zip(steps, self.simulator.run(works, **self._pauses), strict=True):
            stalls = {cause: receipt.done[f"stall_{cause}"] for cause in ("i", "x", "o")}
            result = collect(self.build, step.job, receipt.outputs)[self._family.result]
            yield result, self._receipt(step.job, cycles=receipt.cycles, saturations=receipt.done["saturated"], stalls=stalls)

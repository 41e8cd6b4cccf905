"""N:M sparse training: networks, devices, the schedule, the step, checkpoints."""

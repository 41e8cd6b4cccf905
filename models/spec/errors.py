"""The errors that a user can mend, and the checks of specs that raise in the same words everywhere."""

__all__ = ["InputError", "MissingTool", "check_int", "check_choice"]


class InputError(ValueError):
    """Input from outside (a file, an option, a configuration) breaks a rule.

    Prints as one line ``WHERE: FIELD must RULE, got VALUE``; the command line turns it into exit code 2.
    """

    def __init__(self, where, field, rule, value):
        text = repr(value)
        self.where, self.field, self.rule, self.value = str(where), str(field), str(rule), value
        super().__init__(f"{where}: {field} must {rule}, got {text if len(text) <= 80 else text[:77] + '...'}")


class MissingTool(RuntimeError):
    """A program that the work needs is not on this machine; ``command`` adds it. The command line exits with 2."""

    def __init__(self, tool, purpose, command):
        super().__init__(f"{tool} is missing, needed to {purpose}; run: {command}")


def check_int(name, value, low, high):
    """``value`` as a plain int if ``low <= value <= high``; TypeError for another kind, ValueError for another value."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    value = value.__index__()
    if not low <= value <= high:
        raise ValueError(f"{name} must be {low}..{high}, got {value}")
    return value


def check_choice(name, value, choices):
    """``value`` as the one of ``choices`` (all strings, or all integers) that it is; TypeError for no integer among integers,
    ValueError for another value."""
    if isinstance(next(iter(choices)), int):
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise TypeError(f"{name} must be an integer, got {value!r}")
        value = value.__index__()
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(str, choices))}, got {value!r}")
    return value

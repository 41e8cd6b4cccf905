"""The verbs of the command line: one module each, holding one function of the verb's name.

A verb whose name is a Python builtin has a trailing underscore (``list_`` in ``list.py``). ``common`` is what they share.
Heavy imports belong inside the function: ``sparseloom --help`` imports every module here.
"""

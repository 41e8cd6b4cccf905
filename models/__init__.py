if __name__ != "sparseloom.models":
    raise ImportError("import this package as sparseloom.models: under a bare name it would be a second copy")

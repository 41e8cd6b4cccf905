if __name__ != "sparseloom.host":
    raise ImportError("import this package as sparseloom.host: under a bare name it would be a second copy")
